//! The checks of the places and holes in blobs, in the object that an assembler made. asm/blob.h
//! writes the records and describes them.
//!
//! A build script has no decoder of instructions. That a hole is the operand of the instruction
//! before it follows from its bytes: they are those of `PATCHLET_UNFILLED`, and in no other way does
//! an instruction end with them. Whether the instruction is one whose operand may be filled at
//! all, `patchlet verify` proves on the linked file, which it decodes.

use std::collections::BTreeMap;

use object::read::elf::{ElfFile, FileHeader};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use crate::labels::{self, Label};

/// The section of the records.
const SECTION: &str = "patchlet_places";

/// Bytes of a record before the name.
const HEADER: usize = 9;

/// A place or hole in a blob, or where code of another mode or data begins in it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Offset in the blob, in bytes.
    offset: usize,
    /// Width of a hole, in bytes; 0 for a place.
    width: usize,
    /// 1, 2 and 3 for code of 16, 32 and 64 bit, 0 for data.
    mode: u8,
    /// Empty where code or data begins.
    name: String,
}

impl Place {
    /// Returns the word for it, its name and its blob.
    fn words(&self, blob: &str) -> String {
        let what = if self.width > 0 { "hole" } else { "place" };
        format!("{what} `{}` of blob `{blob}`", self.name)
    }

    fn end(&self) -> usize {
        self.offset + self.width
    }
}

/// The places of each blob, in the order of its source.
pub(super) type Places = BTreeMap<String, Vec<Place>>;

/// Reads the records of an object. A blob that is in none of them was not made by the macros.
pub(super) fn read<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
) -> Result<Places, String> {
    let mut places = Places::new();
    let Some(section) = file.section_by_name(SECTION) else { return Ok(places) };
    let data = section.data().unwrap_or_default();
    // The first field of a record is relocated to the start label of the blob.
    let blobs: BTreeMap<u64, &str> = section
        .relocations()
        .filter_map(|(at, relocation)| {
            let RelocationTarget::Symbol(index) = relocation.target() else { return None };
            let label = file.symbol_by_index(index).ok()?.name().ok()?;
            match labels::label(label, false)? {
                (Label::Start, blob) => Some((at, blob)),
                _ => None,
            }
        })
        .collect();
    let mut at = 0;
    while at < data.len() {
        let blob = u64::try_from(at).ok().and_then(|at| blobs.get(&at));
        let (Some(blob), Some((place, size))) = (blob, record(&data[at..])) else {
            return Err(format!(
                "the record at offset {at:#x} of {SECTION} is not whole: \
                 define places by the macros of patchlet.h only"
            ));
        };
        places.entry((*blob).to_owned()).or_default().push(place);
        at += size;
    }
    Ok(places)
}

/// Reads the record with which `data` begins. Returns it with its size, in bytes.
fn record(data: &[u8]) -> Option<(Place, usize)> {
    let [_, _, _, _, low, high, width, mode, len, ..] = *data else { return None };
    let len = usize::from(len);
    let place = Place {
        offset: usize::from(u16::from_le_bytes([low, high])),
        width: usize::from(width & 0x7f),
        mode,
        name: str::from_utf8(data.get(HEADER..HEADER + len)?).ok()?.to_owned(),
    };
    Some((place, (HEADER + len).next_multiple_of(4)))
}

/// Returns the labels of all places and holes. By its name alone, `patchlet_page_at_the_start` could
/// be the start of a patchlet `page_at_the`.
pub(super) fn labels(places: &Places) -> Vec<String> {
    let named = places.iter().flat_map(|(blob, list)| list.iter().map(move |place| (blob, place)));
    named
        .map(|(blob, place)| {
            let kind = if place.width > 0 { "hole" } else { "at" };
            format!("patchlet_{blob}_{kind}_{}", place.name)
        })
        .collect()
}

/// Checks the places and holes of one blob, whose bytes are `code`.
pub(super) fn check(blob: &str, code: &[u8], places: &[Place]) -> Result<(), String> {
    let mut mode = 0;
    let mut holes: Vec<&Place> = Vec::new();
    for place in places {
        if place.name.is_empty() {
            mode = place.mode;
            continue;
        }
        let words = place.words(blob);
        // A hole that begins before the blob has a negative offset, which as a number without a
        // sign is too large.
        if place.end() > code.len() || (place.width == 0 && place.offset == code.len()) {
            return Err(format!(
                "{words} is outside of the blob, which has {} bytes: \
                 put an instruction {}",
                code.len(),
                if place.width == 0 { "behind it" } else { "with an operand before it" }
            ));
        }
        if mode == 0 && place.width > 0 {
            return Err(format!(
                "{words} is in data (offset {:#x}): only the operand of an instruction can be a \
                 hole; if this is code, write PATCHLET_CODE({blob}, …) before it",
                place.offset
            ));
        }
        if mode != 0 && place.mode != mode {
            return Err(format!(
                "{words} is in {0}-bit code, and the last PATCHLET_CODE says {1}-bit code: \
                 write PATCHLET_CODE({blob}, {0}) instead of .code{0}",
                bits(place.mode),
                bits(mode)
            ));
        }
        if place.width > 0 {
            let bytes = code.get(place.offset..place.end()).unwrap_or_default();
            if bytes != unfilled(place.width) {
                return Err(format!(
                    "{words} is not the operand with which the instruction before it ends (offset \
                     {:#x}, bytes {bytes:02x?}): write that operand as PATCHLET_UNFILLED({}), and \
                     PATCHLET_HOLE right behind the instruction, with the operand's width",
                    place.offset, place.width
                ));
            }
            if let Some(other) =
                holes.iter().find(|other| place.offset < other.end() && other.offset < place.end())
            {
                return Err(format!(
                    "{words} shares bytes with hole `{}` (offsets {:#x}..{:#x} and {:#x}..{:#x}): \
                     an operand is one hole",
                    other.name,
                    place.offset,
                    place.end(),
                    other.offset,
                    other.end()
                ));
            }
            holes.push(place);
        }
    }
    Ok(())
}

/// Returns the bytes of `PATCHLET_UNFILLED(width)`, as asm/blob.h defines it.
fn unfilled(width: usize) -> &'static [u8] {
    match width {
        1 => &[0x65],
        2 => &[0x65, 0x66],
        4 => &[0x64, 0x65, 0x66, 0x67],
        8 => &[0x26, 0x2e, 0x36, 0x3e, 0x67, 0x66, 0x65, 0x64],
        _ => &[],
    }
}

fn bits(mode: u8) -> u32 {
    8 << mode
}
