//! Tables of records in a file. This module finds a table and reads its records as numbers; the
//! module of each format knows what the numbers mean.

use crate::inspect::elf::{Image, little_endian, slice};
use crate::inspect::finding::{FindingCode, Findings};

/// The format of a table of records, as data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordFormat {
    /// The section that the assembler writes records into.
    pub section: &'static str,
    /// The symbols that bound the section once it is linked.
    pub bounds: [&'static str; 2],
    /// Size of a record, in bytes.
    pub size: u64,
    /// Fields of a record.
    pub fields: &'static [Field],
}

/// A field of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Offset in the record, in bytes.
    pub at: u64,
    /// Size, in bytes.
    pub size: u64,
    /// Whether the field holds an address, relative to the address of the field.
    pub relative: bool,
}

impl Field {
    /// Describes a field at offset `at` that holds a 32-bit address, relative to the address of
    /// the field.
    pub const fn address(at: u64) -> Self {
        Self { at, size: 4, relative: true }
    }

    /// Describes a field at offset `at` that holds a number of `size` bytes.
    pub const fn number(at: u64, size: u64) -> Self {
        Self { at, size, relative: false }
    }
}

/// A table in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundTable<'d> {
    pub start: u64,
    pub end: u64,
    pub bytes: &'d [u8],
}

/// The records of a table, as the module of its format makes them of their values.
#[derive(Clone, Debug)]
pub(crate) struct FoundRecords<T> {
    pub list: Vec<T>,
    /// First address of the table and first address behind it, if the file has a table.
    pub range: Option<(u64, u64)>,
}

impl<T> Default for FoundRecords<T> {
    fn default() -> Self {
        Self { list: Vec::new(), range: None }
    }
}

/// The result of the search for a table.
pub(crate) enum TableSearch<'d> {
    /// The file has neither the section nor the symbols that bound it.
    None,
    /// The bounds do not enclose bytes of one section. A finding says so.
    Unusable,
    /// The file has the table.
    Found(FoundTable<'d>),
}

impl RecordFormat {
    /// Returns whether a file has the section of the table, or both symbols that bound it.
    pub fn is_in(&self, image: &Image<'_>) -> bool {
        image.section_named(self.section).is_some()
            || self.bounds.iter().all(|name| image.symbols().find(name).is_some())
    }

    /// Finds the table in a file: the bytes between its two symbols or, if these are stripped, all
    /// of its section. Adds the defects of the table to `findings`.
    pub fn find<'d>(&self, image: &Image<'d>, findings: &mut Findings) -> TableSearch<'d> {
        let name = self.section;
        let section = image.section_named(name).map(|section| (section.address, section.end()));
        let symbol = |name| image.symbols().find(name).map(|symbol| symbol.address);
        let [start, end] = self.bounds.map(symbol);
        let Some((start, end)) = start.zip(end).or(section) else { return TableSearch::None };
        let mut bad = |what, fix| {
            let place = format!("table of records at {start:#x}");
            findings.add(FindingCode::RecordTable, Some(start), place, what, fix);
        };
        if let Some((section_start, section_end)) = section
            && (start, end) != (section_start, section_end)
        {
            bad(
                format!(
                    "the symbols say {start:#x}..{end:#x}, the section {name} is {section_start:#x}..{section_end:#x}"
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
            return TableSearch::Unusable;
        };
        if len % self.size != 0 {
            let size = self.size;
            bad(
                format!("it has {len} bytes, which is no multiple of a record's {size}"),
                "let nothing but the pieces that the macros of patchlet emit into the section",
            );
        }
        TableSearch::Found(FoundTable { start, end, bytes })
    }

    /// Reads the records of a table: `record` makes each, of its address and the values of its fields.
    pub fn read_all<T, const FIELDS: usize>(
        &self,
        image: &Image<'_>,
        table: FoundTable<'_>,
        record: impl Fn(u64, [u64; FIELDS]) -> T,
    ) -> FoundRecords<T> {
        let range = Some((table.start, table.end));
        let all = self.records(image, table).map(|(address, fields)| record(address, fields));
        FoundRecords { list: all.collect(), range }
    }

    /// Returns the records of a table in their order: the address of each, and the values of its
    /// fields.
    pub fn records<'t, const FIELDS: usize>(
        &'t self,
        image: &'t Image<'_>,
        table: FoundTable<'t>,
    ) -> impl Iterator<Item = (u64, [u64; FIELDS])> + 't {
        let count = table.bytes.len() as u64 / self.size;
        (0..count).filter_map(move |number| {
            let at = number * self.size;
            let record = slice(table.bytes, at, self.size)?;
            let address = table.start.checked_add(at)?;
            let mut values = [0; FIELDS];
            for (value, field) in values.iter_mut().zip(self.fields) {
                *value = field_of(image, record, address, field)?;
            }
            Some((address, values))
        })
    }
}

/// Returns the value of a field of the record at `address`. A relative address is made absolute.
pub(super) fn field_of(
    image: &Image<'_>,
    record: &[u8],
    address: u64,
    field: &Field,
) -> Option<u64> {
    let value = little_endian(slice(record, field.at, field.size)?);
    if !field.relative {
        return Some(value);
    }
    Some(image.relative(address.wrapping_add(field.at), u32::try_from(value).ok()?))
}
