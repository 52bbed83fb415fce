//! The index of patchlets, section `patchlet_index`. It has the name, length and native function
//! of each patchlet, for files whose symbols are stripped. asm/patchlet.h writes it.

use super::named::{NamedFormat, NamedRecord};
use super::patchlet_image::{LONGEST, PatchletImage};
use super::table::Field;
use crate::inspect::elf::Image;
use crate::inspect::finding::FindingCode;
use crate::labels::is_name;

/// The format of the index. Its fields: start of the patchlet, native function, length of the
/// patchlet in bytes, length of the name.
pub(crate) const INDEX: NamedFormat<4> = NamedFormat {
    section: "patchlet_index",
    header: 12,
    fields: [Field::address(0), Field::address(NATIVE), Field::number(8, 2), Field::number(10, 2)],
    code: FindingCode::Index,
    values: "name, length or addresses",
};

/// Offset of the field that holds the address of the native function.
const NATIVE: u64 = 4;

/// Returns the patchlet that a record of the index describes, or `None` if a value in the record
/// is impossible.
pub(super) fn patchlet<'d>(
    image: &Image<'d>,
    record: &NamedRecord<'d, 4>,
) -> Option<PatchletImage<'d>> {
    let [start, native, len, _] = record.values;
    let name = record.name;
    if !is_name(name) || !(1..=LONGEST).contains(&len) {
        return None;
    }
    let section = image.section_at(start)?.index;
    let bytes = image.bytes_at(start, len)?;
    // A blob has none: the field then holds its own address.
    let native = Some(native).filter(|&native| native != record.address + NATIVE);
    let is_blob = native.is_none();
    Some(PatchletImage { name, address: start, section, bytes, native, is_blob, places: vec![] })
}
