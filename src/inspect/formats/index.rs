//! The index of patchlets: what tells a patchlet's name, length and native function where
//! symbols are stripped. Its records are not of one size, as each ends in a name.

use super::patchlet_image::{LONGEST, PatchletImage};
use super::table::{Field, field_of};
use crate::inspect::elf::{Image, slice};
use crate::labels::is_name;

/// The section of the index.
pub(crate) const INDEX_SECTION: &str = "patchlet_index";

/// Before the name (patchlet.h): start, native function, length of the patchlet, length of
/// the name.
const FIELDS: [Field; 4] =
    [Field::address(0), Field::address(4), Field::number(8, 2), Field::number(10, 2)];

/// Bytes of a record before the name.
const HEADER: u64 = 12;

/// What records are aligned to.
const ALIGNMENT: u64 = 4;

/// Reads the record at an offset of the index, which starts at `base`: the patchlet and the
/// size of the record, both checked.
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
    Some((PatchletImage { name, address: start, section, bytes, native: Some(native) }, size))
}
