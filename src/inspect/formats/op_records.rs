//! The records of ops that `ops!` writes into a linked file, section `patchlet_ops`: the name of
//! each op, its ABI class and the registers of its signature. `src/ops/define/index.rs` writes
//! the records and describes their layout.

use super::table::{Field, field_of};
use crate::contract::{AbiClass, Convention};
use crate::insn::Nops;
use crate::inspect::elf::{Image, slice};
use crate::inspect::finding::{FindingCode, Findings};

/// The section of the records.
const SECTION: &str = "patchlet_ops";

/// The fields before the name: slot, name of the table, index, class, number of registers of the
/// arguments, number of registers of the result, length of the name in bytes.
const FIELDS: [Field; 7] = [
    Field::address(0),
    Field::address(4),
    Field::number(8, 2),
    Field::number(10, 1),
    Field::number(11, 1),
    Field::number(12, 1),
    Field::number(13, 1),
];

/// Beside the class: the code is for CPUs that need not have NOPL.
const WITHOUT_NOPL: u8 = 0x80;

/// Bytes of a record before the name.
const HEADER: u64 = 14;

/// The record of one op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpRecord<'d> {
    /// Name of the op with its group, such as `irq.save_fl`.
    pub name: &'d str,
    /// Name of the table: the symbol of its slots.
    pub table: &'d str,
    /// Address of the op's slot.
    pub slot: u64,
    /// Index of the op in the table.
    pub index: u16,
    /// ABI class of the op, and the number of registers of its signature.
    pub convention: Convention,
    /// The NOPs that every CPU has for which it was compiled.
    pub nops: Nops,
}

/// Reads all records. A damaged record is added to `findings` and ends the list, because the
/// place of the next one depends on its size.
pub(crate) fn read<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<OpRecord<'d>> {
    let mut records = Vec::new();
    let Some(section) = image.section_named(SECTION) else { return records };
    let mut at = 0;
    while at < section.size {
        let Some((record, size)) = record(image, section.data, section.address, at) else {
            let address = section.address + at;
            findings.add(
                FindingCode::Index,
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

/// Reads the record at offset `at` of the section, which starts at address `base`. Returns the
/// record and its size in bytes, or `None` if a value in it is impossible.
fn record<'d>(
    image: &Image<'d>,
    data: &'d [u8],
    base: u64,
    at: u64,
) -> Option<(OpRecord<'d>, u64)> {
    let header = slice(data, at, HEADER)?;
    let address = base.checked_add(at)?;
    let mut values = [0; FIELDS.len()];
    for (value, field) in values.iter_mut().zip(&FIELDS) {
        *value = field_of(image, header, address, field)?;
    }
    let [slot, table, index, class, arguments, results, len] = values;
    // As wide as the fields say, so nothing is cut.
    let class = class as u8;
    let nops = if class & WITHOUT_NOPL == 0 { Nops::Long } else { Nops::Lea };
    let class = match class & !WITHOUT_NOPL {
        0 => AbiClass::CalleeSave,
        1 => AbiClass::C,
        2 => AbiClass::Assembly,
        _ => return None,
    };
    let record = OpRecord {
        name: readable(slice(data, at + HEADER, len)?)?,
        table: table_name(image, table)?,
        slot,
        index: index as u16,
        convention: Convention::new(class, arguments as u8, results as u8),
        nops,
    };
    Some((record, (HEADER + len).next_multiple_of(4)))
}

/// Reads the name of a table, which ends with a zero byte.
fn table_name<'d>(image: &Image<'d>, address: u64) -> Option<&'d str> {
    /// The longest name that is read, in bytes. It limits the time for a damaged file.
    const LONGEST: u64 = 1024;
    let section = image.section_at(address)?;
    let len = LONGEST.min(section.end().checked_sub(address)?);
    let bytes = image.bytes_at(address, len)?;
    readable(bytes.get(..bytes.iter().position(|&byte| byte == 0)?)?)
}

/// Returns the bytes as a name, or `None` if they are empty, not UTF-8, or could send escape
/// sequences to a terminal.
fn readable(bytes: &[u8]) -> Option<&str> {
    let name = str::from_utf8(bytes).ok()?;
    (!name.is_empty() && !name.contains(char::is_control)).then_some(name)
}

/// Reads the records of the ops of a linked file. Returns them with the defects found in them.
#[must_use]
pub fn ops_of<'d>(image: &Image<'d>) -> (Vec<OpRecord<'d>>, Findings) {
    let mut findings = Findings::default();
    (read(image, &mut findings), findings)
}
