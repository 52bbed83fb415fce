//! Records: they are read in a layout, if they make sense in it.

use super::format::{AddressField, Encoding, Layout, Leads};
use super::kind::TableKind;
use crate::inspect::elf::{Image, little_endian, slice};

/// A record of a table. Fields that its format does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableRecord {
    /// Address of the patched instruction.
    pub site: u64,
    /// Address of the replacement, or target of the branch.
    pub other: u64,
    /// Address of the key, without its flags.
    pub key: u64,
    /// The two lowest bits beside the key.
    pub key_flags: u8,
    /// Number of a feature, or type of a call.
    pub number: u16,
    /// Flags of their own.
    pub flags: u16,
    /// Length of the site in bytes.
    pub length: u8,
    /// Length of the replacement.
    pub other_length: u8,
    /// Length of the padding at the end of the site.
    pub padding: u8,
}

/// A table of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct KernelTable {
    pub kind: TableKind,
    /// The name of the section, or the symbol where the table begins.
    pub name: String,
    /// Length of a record in bytes.
    pub stride: usize,
    pub records: Vec<TableRecord>,
}

/// Reads records in a layout, or returns how many make sense and the address of the first that
/// does not.
pub(super) fn records(
    image: &Image<'_>,
    layout: &Layout,
    address: u64,
    bytes: &[u8],
) -> Result<Vec<TableRecord>, (usize, u64)> {
    let mut records = Vec::with_capacity(bytes.len() / layout.stride);
    // What the last record must have; the padding behind its fields can be missing.
    let fields = layout.length.map_or(layout.stride, |length| length + 1).max(layout.stride - 4);
    for (at, bytes) in bytes.chunks(layout.stride).enumerate() {
        let place = address + (at * layout.stride) as u64;
        if at > 0 && bytes.len() < layout.stride && bytes.iter().all(|&byte| byte == 0) {
            // Zeros up to the alignment of what follows.
            break;
        }
        if bytes.len() < fields {
            return Err((at, place));
        }
        match record(image, layout, place, bytes) {
            Some(Some(record)) => records.push(record),
            // A table that is padded at its end, or an entry that the linker emptied.
            Some(None) => {}
            None => return Err((at, place)),
        }
    }
    Ok(records)
}

/// Reads a record. Returns `None` if it makes no sense in this layout, and `Some(None)` for one of
/// zeros in a table of nothing but sites.
pub(super) fn record(
    image: &Image<'_>,
    layout: &Layout,
    place: u64,
    bytes: &[u8],
) -> Option<Option<TableRecord>> {
    let pointer = usize::try_from(image.width().pointer_size()).ok()?;
    let at = |field: AddressField| -> Option<u64> {
        let (offset, encoding) = field;
        let start = place + offset as u64;
        Some(match encoding {
            Encoding::Relative => {
                let number = little_endian(bytes.get(offset..offset + 4)?) as u32;
                image.relative(start, number)
            }
            Encoding::RelativeLong => {
                let number = little_endian(bytes.get(offset..offset + pointer)?);
                let sum = start.wrapping_add(number);
                if pointer == 4 { sum & 0xffff_ffff } else { sum }
            }
            Encoding::Absolute => little_endian(bytes.get(offset..offset + pointer)?),
        })
    };
    let byte = |offset: Option<usize>| match offset {
        Some(offset) => bytes.get(offset).copied(),
        None => Some(0),
    };
    if layout.stride <= 8 && bytes.iter().all(|&byte| byte == 0) {
        return Some(None);
    }
    let mut record = TableRecord {
        site: at(layout.site)?,
        length: byte(layout.length)?,
        other_length: byte(layout.other_length)?,
        padding: byte(layout.padding)?,
        ..TableRecord::default()
    };
    if let Some((offset, size)) = layout.number {
        record.number = little_endian(slice(bytes, offset as u64, size as u64)?) as u16;
    }
    if let Some(offset) = layout.flags {
        record.flags = little_endian(bytes.get(offset..offset + 2)?) as u16;
    }
    if let Some((field, Leads::ToText)) = layout.other {
        record.other = at(field)?;
    }
    if let Some((field, _)) = layout.third {
        let address = at(field)?;
        record.key = address & !3;
        record.key_flags = (address & 3) as u8;
    }
    makes_sense(image, layout, &record).then_some(Some(record))
}

/// Returns whether a record can be one: its site is in text with all of its length, what it leads
/// to is where it must be, and no length is larger than another that holds it.
fn makes_sense(image: &Image<'_>, layout: &Layout, record: &TableRecord) -> bool {
    let in_text = |address: u64, len: u8| {
        image.section_at(address).is_some_and(|section| {
            section.is_executable() && section.end() - address >= u64::from(len)
        })
    };
    if !in_text(record.site, record.length.max(1)) {
        return false;
    }
    if layout.other.is_some() {
        // A replacement of no bytes can lie at the end of its section.
        let is_empty = layout.other_length.is_some() && record.other_length == 0;
        if !is_empty && !in_text(record.other, record.other_length.max(1)) {
            return false;
        }
    }
    if layout.third.is_some() && image.section_at(record.key).is_none() {
        return false;
    }
    if layout.number.is_some_and(|(_, size)| size == 2) {
        // Bit 15 says NOT; there are fewer than 64 words of features.
        if record.number & 0x7fff >= 64 * 32 || record.flags > 0xff {
            return false;
        }
        if record.length == 0 || record.other_length > record.length {
            return false;
        }
    } else if layout.length.is_some() && record.length == 0 {
        return false;
    }
    record.padding <= record.length
}
