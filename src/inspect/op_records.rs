//! The records of ops that `ops!` writes into a linked file, section `patchlet_ops`: the name
//! of each op and what its sites pass and expect. The layout is told by
//! `src/ops/define/index.rs`, which writes it.

use super::finding::{Code, Findings};
use super::image::{Image, little_endian, slice};
use crate::contract::{Class, Convention};

/// The section of the records.
const SECTION: &str = "patchlet_ops";

/// Before the name: i32 slot, i32 name of the table, u16 index, u8 class, u8 arguments, u8
/// results, u8 length of the name.
const HEADER: u64 = 14;

/// One op, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpRecord<'d> {
    /// Group and name, `irq.save_fl`.
    pub name: &'d str,
    /// Name of the table: the linker's symbol of its slots.
    pub table: &'d str,
    /// Address of its slot.
    pub slot: u64,
    /// Its index in the table.
    pub index: u16,
    /// Its ABI class, and the registers of its signature.
    pub convention: Convention,
}

/// Reads all records; one that is not as it must be goes to `findings`, and ends the list.
pub(super) fn read<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<OpRecord<'d>> {
    let mut records = Vec::new();
    let Some(section) = image.section_named(SECTION) else { return records };
    let mut at = 0;
    while at < section.size {
        let Some((record, size)) = record(image, section.data, section.address, at) else {
            let address = section.address + at;
            findings.add(
                Code::Index,
                Some(address),
                format!("record of {SECTION} at {address:#x}"),
                "is not whole, or its class, name or addresses are impossible".into(),
                "take the section in as patchlet.ld does, and let nothing write to it",
            );
            break;
        };
        records.push(record);
        at += size;
    }
    records
}

/// Reads one record; returns it and its size.
fn record<'d>(
    image: &Image<'d>,
    data: &'d [u8],
    base: u64,
    at: u64,
) -> Option<(OpRecord<'d>, u64)> {
    let header = slice(data, at, HEADER)?;
    let field = |from, len| slice(header, from, len).map(little_endian);
    let byte = |from| field(from, 1).and_then(|value| u8::try_from(value).ok());
    let relative = |from: u64| {
        let place = base.checked_add(at)?.checked_add(from)?;
        Some(image.relative(place, field(from, 4)? as u32))
    };
    let class = match byte(10)? {
        0 => Class::CalleeSave,
        1 => Class::C,
        2 => Class::Assembly,
        _ => return None,
    };
    let len = u64::from(byte(13)?);
    let record = OpRecord {
        name: readable(slice(data, at + HEADER, len)?)?,
        table: table_name(image, relative(4)?)?,
        slot: relative(0)?,
        index: u16::try_from(field(8, 2)?).ok()?,
        convention: Convention::new(class, byte(11)?, byte(12)?),
    };
    Some((record, (HEADER + len).next_multiple_of(4)))
}

/// Reads the name of a table, which ends with a 0.
fn table_name<'d>(image: &Image<'d>, address: u64) -> Option<&'d str> {
    /// More than any symbol that a person types.
    const LONGEST: u64 = 1024;
    let section = image.section_at(address)?;
    let len = LONGEST.min(section.end().checked_sub(address)?);
    let bytes = image.data_at(address, len)?;
    readable(bytes.get(..bytes.iter().position(|&byte| byte == 0)?)?)
}

/// Returns a name that can be printed.
fn readable(bytes: &[u8]) -> Option<&str> {
    let name = str::from_utf8(bytes).ok()?;
    (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
}

/// Reads the ops of a linked file, as their records say; and what is wrong with the records.
#[must_use]
pub fn ops_of<'d>(image: &Image<'d>) -> (Vec<OpRecord<'d>>, Findings) {
    let mut findings = Findings::default();
    (read(image, &mut findings), findings)
}
