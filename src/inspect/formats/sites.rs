//! The site records in a linked file: the numbers in them, with relative addresses made absolute.
//! The model finds the ops that they mean, and `verify` checks them.

use super::table::{Field, FoundRecords, RecordFormat, TableSearch};
use crate::insn::Kind;
use crate::inspect::elf::{Image, Linkage};
use crate::inspect::error::FileError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::site::Record;

/// The format of the table of sites. The layout of a record is that of [`Record`].
pub(crate) const SITES: RecordFormat = RecordFormat {
    section: "patchlet_sites",
    bounds: ["__start_patchlet_sites", "__stop_patchlet_sites"],
    size: Record::SIZE as u64,
    // In this order: site, slot, op, capacity, kind.
    fields: &[
        Field::address(0),
        Field::address(4),
        Field::number(8, 2),
        Field::number(10, 1),
        Field::number(11, 1),
    ],
};

/// The record of a site in a file, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteImage {
    /// Address of the record.
    pub address: u64,
    /// Address of the first byte of the site.
    pub site: u64,
    /// Address of the slot that the unpatched site goes through.
    pub slot: u64,
    /// Index of the op in its table.
    pub op: u16,
    /// Capacity of the site, in bytes.
    pub capacity: u8,
    /// Kind of the site as a number: 0 is a call, 1 a jump.
    pub kind: u8,
}

impl SiteImage {
    /// Returns whether the site is a call or a jump, or `None` if the number stands for neither.
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

    /// Returns the words by which the tool prints the kind.
    pub(crate) const fn kind_words(&self) -> &'static str {
        match self.kind() {
            Some(Kind::Call) => "call",
            Some(Kind::Jump) => "jump",
            None => "unknown kind",
        }
    }

    /// Returns whether two records say the same about the same site. A linker that folds two
    /// functions of the same code into one (`--icf=all`) can keep the records of both.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        *self == Self { address: self.address, ..*other }
    }

    /// Returns the first address behind the site.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.site.saturating_add(self.capacity as u64)
    }
}

/// Reads the table of sites. Adds the defects of the table to `findings`.
///
/// # Errors
/// Returns an error if the file is an object.
pub(crate) fn read(
    image: &Image<'_>,
    findings: &mut Findings,
) -> Result<FoundRecords<SiteImage>, FileError> {
    if image.kind() == Linkage::Object {
        return Err(FileError::new(
            "an object: its sites have no addresses before it is linked; give the linked file, or verify \
             a module with --module",
        ));
    }
    let table = match SITES.find(image, findings) {
        TableSearch::Found(table) => table,
        TableSearch::Unusable => return Ok(FoundRecords::default()),
        TableSearch::None => {
            // A file with symbols would have those that bound the table, if it had a table.
            if image.symbols().is_empty() {
                findings.add(
                    FindingCode::RecordTable,
                    None,
                    format!("table of records, section {}", SITES.section),
                    "cannot be found: there is no such section, and no symbols".into(),
                    "keep its name as patchlet.ld does, or give the file before it is stripped",
                );
            }
            return Ok(FoundRecords::default());
        }
    };
    Ok(SITES.read_all(image, table, |address, [site, slot, op, capacity, kind]| {
        // `SITES` says two bytes for the op, one for capacity and kind: nothing is cut.
        let (op, capacity, kind) = (op as u16, capacity as u8, kind as u8);
        SiteImage { address, site, slot, op, capacity, kind }
    }))
}
