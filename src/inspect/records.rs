//! Site records in a linked file: the numbers as they stand there, made
//! absolute. What they mean is for `model.rs`, whether they make sense for
//! `verify`.

use super::error::Error;
use super::finding::{Code, Findings};
use super::image::{FileKind, Image, little_endian, slice};
use crate::insn::Kind;
use crate::site::Record as Layout;

/// The section of the records.
pub(super) const SECTION: &str = "patchlet_sites";

/// Size of a record, in bytes.
const SIZE: u64 = Layout::SIZE as u64;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its own address.
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

impl Record {
    /// Call or jump; nothing if it is neither.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        match self.kind {
            0 => Some(Kind::Call),
            1 => Some(Kind::Jump),
            _ => None,
        }
    }

    /// Whether it says the same of the same site. Linkers that fold functions of
    /// the same code into one (`--icf=all`) can leave the records of each.
    #[must_use]
    pub const fn repeats(&self, other: &Self) -> bool {
        self.site == other.site
            && self.slot == other.slot
            && self.op == other.op
            && self.capacity == other.capacity
            && self.kind == other.kind
    }

    /// The address behind its site.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.site.saturating_add(self.capacity as u64)
    }
}

/// All records, and where they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub list: Vec<Record>,
    /// First address and the address behind, if there is a table.
    pub range: Option<(u64, u64)>,
}

/// Reads the table: between its two symbols if they are there, else all of its
/// section.
pub(super) fn read(image: &Image<'_>, findings: &mut Findings) -> Result<Records, Error> {
    if image.kind() == FileKind::Object {
        return Err(Error::new(
            "an object: its sites have no addresses before it is linked; give the linked file",
        ));
    }
    let section = image.section_named(SECTION).map(|section| (section.address, section.end()));
    let symbol = |name| image.symbols().find(name).map(|symbol| symbol.address);
    let bounds = symbol("__start_patchlet_sites").zip(symbol("__stop_patchlet_sites"));
    let Some((start, end)) = bounds.or(section) else {
        // With symbols it is certain that there is none.
        if image.symbols().is_empty() {
            findings.add(
                Code::RecordTable,
                None,
                format!("table of records, section {SECTION}"),
                "cannot be found: there is no such section, and no symbols".into(),
                "keep its name as patchlet.ld does, or give the file before it is stripped",
            );
        }
        return Ok(Records::default());
    };
    let mut bad = |what, fix| {
        let place = format!("table of records at {start:#x}");
        findings.add(Code::RecordTable, Some(start), place, what, fix);
    };
    if let Some((section_start, section_end)) = section
        && (start, end) != (section_start, section_end)
    {
        bad(
            format!(
                "the symbols say {start:#x}..{end:#x}, the section {SECTION} is {section_start:#x}..{section_end:#x}"
            ),
            "take the section in as patchlet.ld does, in one place",
        );
    }
    let len = end.saturating_sub(start);
    let bytes = if len == 0 { Some(Default::default()) } else { image.bytes_at(start, len) };
    let Some(bytes) = bytes.filter(|_| end >= start) else {
        bad(
            format!("it ends at {end:#x}, and that is not all in one section of the file"),
            "take the section in as patchlet.ld does",
        );
        return Ok(Records::default());
    };
    if len % SIZE != 0 {
        bad(
            format!("it has {len} bytes, which is no multiple of a record's {SIZE}"),
            "let nothing but the pieces of patchlet_sites into the section",
        );
    }
    let list = (0..len / SIZE).filter_map(|number| record(image, bytes, start, number * SIZE));
    Ok(Records { list: list.collect(), range: Some((start, end)) })
}

fn record(image: &Image<'_>, table: &[u8], base: u64, at: u64) -> Option<Record> {
    let bytes = slice(table, at, SIZE)?;
    let address = base.checked_add(at)?;
    let field = |from, len| slice(bytes, from, len).map(little_endian);
    Some(Record {
        address,
        site: image.relative(address, field(0, 4)? as u32),
        slot: image.relative(address.wrapping_add(4), field(4, 4)? as u32),
        op: field(8, 2)? as u16,
        capacity: field(10, 1)? as u8,
        kind: field(11, 1)? as u8,
    })
}
