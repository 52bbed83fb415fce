//! The records of ops that `ops!` writes into a linked file, section `patchlet_ops`: the name of
//! each op, its ABI class and the registers of its signature. `src/ops/define/index.rs` writes
//! the records and describes their layout.

use super::means::Means;
use super::named::{NamedFormat, NamedRecord};
use super::table::Field;
use crate::contract::{AbiClass, Convention};
use crate::insn::Nops;
use crate::inspect::elf::Image;
use crate::inspect::finding::{FindingCode, Findings};

/// The format of the records. Their fields: slot, name of the table, index, class and means, number of
/// registers of the arguments, number of registers of the result, length of the name.
pub(crate) const OPS: NamedFormat<7> = NamedFormat {
    section: "patchlet_ops",
    header: 14,
    fields: [
        Field::address(0),
        Field::address(4),
        Field::number(8, 2),
        Field::number(10, 1),
        Field::number(11, 1),
        Field::number(12, 1),
        Field::number(13, 1),
    ],
    code: FindingCode::Index,
    values: "class, name or addresses",
};

/// Beside the class: the code is for CPUs that need not have NOPL.
const WITHOUT_NOPL: u8 = 0x80;

/// Beside the class: the means of the op, so many bits further up.
const MEANS_SHIFT: u8 = 5;

/// The bits of the class.
const CLASS: u8 = 0x1f;

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
    /// What the op is natively.
    pub means: Means,
    /// The NOPs that every CPU has for which it was compiled.
    pub nops: Nops,
}

/// Reads all records. A damaged record is added to `findings` and ends the list.
pub(crate) fn read<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<OpRecord<'d>> {
    OPS.read(image, findings, |record| op(image, record))
}

/// Returns the op that a record describes, or `None` if a value in the record is impossible.
fn op<'d>(image: &Image<'d>, record: &NamedRecord<'d, 7>) -> Option<OpRecord<'d>> {
    let [slot, table, index, class, arguments, results, _] = record.values;
    // As wide as the fields say, so nothing is cut.
    let class = class as u8;
    let nops = if class & WITHOUT_NOPL == 0 { Nops::Long } else { Nops::Lea };
    let means = Means::of(class >> MEANS_SHIFT & 3)?;
    let class = match class & CLASS {
        0 => AbiClass::CalleeSave,
        1 => AbiClass::C,
        2 => AbiClass::Assembly,
        3 => AbiClass::ExternC,
        _ => return None,
    };
    Some(OpRecord {
        name: Some(record.name).filter(|name| !name.is_empty())?,
        table: table_name(image, table)?,
        slot,
        index: index as u16,
        convention: Convention::new(class, arguments as u8, results as u8),
        means,
        nops,
    })
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
