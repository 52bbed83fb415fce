//! Site records in a linked file: the numbers as they stand there, made absolute. What
//! they mean is for the model, whether they make sense for `verify`.

use super::table::{Field, FoundTable, RecordFormat, TableSearch};
use crate::insn::Kind;
use crate::inspect::elf::{Image, Linkage};
use crate::inspect::error::FileError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::site::Record;

/// Records of sites. The layout is that of [`Record`].
pub(crate) const SITES: RecordFormat = RecordFormat {
    section: "patchlet_sites",
    bounds: ["__start_patchlet_sites", "__stop_patchlet_sites"],
    size: Record::SIZE as u64,
    // Site, slot, op, capacity, kind.
    fields: &[
        Field::address(0),
        Field::address(4),
        Field::number(8, 2),
        Field::number(10, 1),
        Field::number(11, 1),
    ],
};

/// One record of a site, as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteImage {
    /// Address of the record.
    pub address: u64,
    /// Address of the first byte of its site.
    pub site: u64,
    /// Address of the slot.
    pub slot: u64,
    /// Index of the op in its table.
    pub op: u16,
    /// Bytes the site has room for.
    pub capacity: u8,
    /// Call or jump, as a number.
    pub kind: u8,
}

impl SiteImage {
    /// Returns call or jump; nothing if it is neither.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        const CALL: u8 = Kind::Call as u8;
        const JUMP: u8 = Kind::Jump as u8;
        match self.kind {
            CALL => Some(Kind::Call),
            JUMP => Some(Kind::Jump),
            _ => None,
        }
    }

    /// Returns call or jump as the tool prints it.
    pub(crate) const fn kind_words(&self) -> &'static str {
        match self.kind() {
            Some(Kind::Call) => "call",
            Some(Kind::Jump) => "jump",
            None => "unknown kind",
        }
    }

    /// Returns whether it says the same of the same site. Linkers that fold functions of
    /// the same code into one (`--icf=all`) can leave the records of each.
    #[must_use]
    pub const fn repeats(&self, other: &Self) -> bool {
        self.site == other.site
            && self.slot == other.slot
            && self.op == other.op
            && self.capacity == other.capacity
            && self.kind == other.kind
    }

    /// Returns the address behind its site.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.site.saturating_add(self.capacity as u64)
    }
}

/// All records of sites, and where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct SiteTable {
    pub list: Vec<SiteImage>,
    /// First address and the address behind, if there is a table.
    pub range: Option<(u64, u64)>,
}

/// Reads the table of sites.
pub(crate) fn read(image: &Image<'_>, findings: &mut Findings) -> Result<SiteTable, FileError> {
    if image.kind() == Linkage::Object {
        return Err(FileError::new(
            "an object: its sites have no addresses before it is linked; give the linked file",
        ));
    }
    let table = match SITES.find(image, findings) {
        TableSearch::Found(table) => table,
        TableSearch::Unusable => return Ok(SiteTable::default()),
        TableSearch::None => {
            // With symbols it is certain that there is none.
            if image.symbols().is_empty() {
                findings.add(
                    FindingCode::RecordTable,
                    None,
                    format!("table of records, section {}", SITES.section),
                    "cannot be found: there is no such section, and no symbols".into(),
                    "keep its name as patchlet.ld does, or give the file before it is stripped",
                );
            }
            return Ok(SiteTable::default());
        }
    };
    let FoundTable { start, end, .. } = table;
    let list = SITES.records(image, table).map(|(address, fields)| {
        let [site, slot, op, capacity, kind] = fields;
        // As wide as the format says, so nothing is cut.
        let (op, capacity, kind) = (op as u16, capacity as u8, kind as u8);
        SiteImage { address, site, slot, op, capacity, kind }
    });
    Ok(SiteTable { list: list.collect(), range: Some((start, end)) })
}
