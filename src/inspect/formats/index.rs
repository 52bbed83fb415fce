//! The index of patchlets, section `patchlet_index`. It has the name, length and native function
//! of each patchlet, for files whose symbols are stripped. Its records differ in size, because
//! each ends with a name. asm/patchlet.h writes them.

use super::patchlet_image::{LONGEST, PatchletImage};
use super::table::{Field, field_of};
use crate::inspect::elf::{Image, slice};
use crate::labels::is_name;

/// The section of the index.
pub(crate) const INDEX_SECTION: &str = "patchlet_index";

/// The fields before the name: start of the patchlet, native function, length of the patchlet in
/// bytes, length of the name in bytes.
const FIELDS: [Field; 4] =
    [Field::address(0), Field::address(4), Field::number(8, 2), Field::number(10, 2)];

/// Number of bytes before the name.
const HEADER: u64 = 12;

/// Alignment of records, in bytes.
const ALIGNMENT: u64 = 4;

/// Reads the record at offset `at` of the index, which starts at address `base`. Returns the
/// patchlet and the size of the record in bytes, or `None` if a value in the record is impossible.
pub(super) fn record<'d>(
    image: &Image<'d>,
    index: &'d [u8],
    base: u64,
    at: u64,
) -> Option<(PatchletImage<'d>, u64)> {
    let header = slice(index, at, HEADER)?;
    let address = base.checked_add(at)?;
    let mut values = [0; FIELDS.len()];
    for (value, field) in values.iter_mut().zip(&FIELDS) {
        *value = field_of(image, header, address, field)?;
    }
    let [start, native, len, name_len] = values;
    let name = str::from_utf8(slice(index, at + HEADER, name_len)?).ok()?;
    if !is_name(name) || !(1..=LONGEST).contains(&len) {
        return None;
    }
    let section = image.section_at(start)?.index;
    let bytes = image.bytes_at(start, len)?;
    let size = (HEADER + name_len).next_multiple_of(ALIGNMENT);
    // A blob has none: the field then holds its own address.
    let native = Some(native).filter(|&native| native != address + FIELDS[1].at);
    let is_blob = native.is_none();
    let patchlet =
        PatchletImage { name, address: start, section, bytes, native, is_blob, places: vec![] };
    Some((patchlet, size))
}
