//! Records that end with a name, and so differ in size. This module reads them from their section
//! as numbers and a name; the module of each format knows what these mean.

use super::table::{Field, field_of};
use crate::inspect::elf::{Image, Section, slice};
use crate::inspect::finding::{FindingCode, Findings};

/// Alignment of records, in bytes. Zeros follow a name up to a multiple of it.
const ALIGNMENT: u64 = 4;

/// The format of records that end with a name, as data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedFormat<const FIELDS: usize> {
    /// The section that the assembler writes records into.
    pub section: &'static str,
    /// Number of bytes before the name.
    pub header: u64,
    /// Fields before the name. The last of them is the length of the name, in bytes.
    pub fields: [Field; FIELDS],
    /// The kind of the finding about a damaged record.
    pub code: FindingCode,
    /// What can be impossible in a record, in words, for the finding.
    pub values: &'static str,
}

/// A record that ends with a name, as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedRecord<'d, const FIELDS: usize> {
    /// Address of the record; in an object, offset in its section.
    pub address: u64,
    /// Values of the fields. Relative addresses are made absolute.
    pub values: [u64; FIELDS],
    /// The name, which may be empty.
    pub name: &'d str,
}

impl<const FIELDS: usize> NamedFormat<FIELDS> {
    /// Reads all records of a file. `meaning` returns what a record means, or `None` if a value in
    /// it is impossible. Such a record is added to `findings` and ends its section: the place of
    /// the next one depends on its size.
    pub fn read<'d, T>(
        &self,
        image: &Image<'d>,
        findings: &mut Findings,
        mut meaning: impl FnMut(&NamedRecord<'d, FIELDS>) -> Option<T>,
    ) -> Vec<T> {
        let mut list = Vec::new();
        // A linked file has one section of this name, and an object can have many. Those of optional
        // records have another word behind a dot, which a linker without a script leaves there.
        let is_ours = |name: &str| {
            let rest = name.strip_prefix(self.section);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        for section in image.sections().iter().filter(|section| is_ours(section.name)) {
            let mut at = 0;
            while at < section.size {
                let record = self.record(image, section, at);
                let Some((meaning, size)) =
                    record.and_then(|(record, size)| Some((meaning(&record)?, size)))
                else {
                    let address = section.address.saturating_add(at);
                    findings.add(
                        self.code,
                        Some(address),
                        self.place(address),
                        format!("is not whole, or its {} are impossible", self.values),
                        "take the section in as patchlet.ld does, and let nothing write to it",
                    );
                    break;
                };
                list.push(meaning);
                at += size;
            }
        }
        list
    }

    /// Returns the place of a finding about the record at an address.
    pub fn place(&self, address: u64) -> String {
        format!("record of {} at {address:#x}", self.section)
    }

    /// Reads the record at offset `at` of a section. Returns it and its size in bytes, or `None`
    /// if it is not whole or its name is no text.
    fn record<'d>(
        &self,
        image: &Image<'d>,
        section: &Section<'d>,
        at: u64,
    ) -> Option<(NamedRecord<'d, FIELDS>, u64)> {
        let data = section.data;
        let header = slice(data, at, self.header)?;
        let address = section.address.checked_add(at)?;
        let mut values = [0; FIELDS];
        for (value, field) in values.iter_mut().zip(&self.fields) {
            *value = field_of(image, header, address, field)?;
        }
        let len = *values.last()?;
        let name = str::from_utf8(slice(data, at + self.header, len)?).ok()?;
        // A file must not be able to send escape sequences to the terminal.
        if name.contains(char::is_control) {
            return None;
        }
        let size = (self.header + len).next_multiple_of(ALIGNMENT);
        Some((NamedRecord { address, values, name }, size))
    }
}
