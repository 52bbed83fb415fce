//! The places and holes of blobs, section `patchlet_places`. asm/blob.h writes the records and
//! describes them. Their sizes differ, because each ends with a name.

use std::collections::{BTreeMap, HashMap};

use super::patchlet_image::PatchletImage;
use super::table::{Field, field_of};
use crate::inspect::elf::{Image, Linkage, slice};
use crate::inspect::finding::{FindingCode, Findings};
use crate::labels::is_name;

/// The section of the records.
pub(crate) const PLACES_SECTION: &str = "patchlet_places";

/// The fields before the name: start of the blob, offset, width and sign of a hole, what stands
/// there, length of the name in bytes.
const FIELDS: [Field; 5] = [
    Field::address(0),
    Field::number(4, 2),
    Field::number(6, 1),
    Field::number(7, 1),
    Field::number(8, 1),
];

/// Number of bytes before the name.
const HEADER: u64 = 9;

/// In the field of the width: the hole is for a number with a sign.
const SIGNED: u8 = 0x80;

/// A named place of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaceImage<'d> {
    /// Name of the place or hole. Empty where code of another mode or data begins.
    pub name: &'d str,
    /// Offset in the blob, in bytes.
    pub offset: u16,
    /// Whether it is a hole, and which.
    pub hole: Option<HoleImage>,
    /// What stands there.
    pub mode: PlaceMode,
}

/// What a hole can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoleImage {
    /// Width, in bytes.
    pub width: u8,
    /// Whether the CPU extends the sign of what it holds.
    pub signed: bool,
}

/// What the assembler made where a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceMode {
    /// Data.
    Data,
    /// Code of 16 bit.
    Bits16,
    /// Code of 32 bit.
    Bits32,
    /// Code of 64 bit.
    Bits64,
}

impl PlaceMode {
    const fn of(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::Bits16),
            2 => Some(Self::Bits32),
            3 => Some(Self::Bits64),
            _ => None,
        }
    }

    /// Returns the width of the code in bits, or `None` for data.
    #[must_use]
    pub const fn bits(self) -> Option<u32> {
        match self {
            Self::Data => None,
            Self::Bits16 => Some(16),
            Self::Bits32 => Some(32),
            Self::Bits64 => Some(64),
        }
    }

    /// Returns the words by which the tool prints this.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Bits16 => "16-bit code",
            Self::Bits32 => "32-bit code",
            Self::Bits64 => "64-bit code",
        }
    }
}

impl PlaceImage<'_> {
    /// Returns the type of the hole as Rust names it, such as `u32`; `None` for a place.
    #[must_use]
    pub fn hole_type(&self) -> Option<String> {
        let hole = self.hole?;
        Some(format!("{}{}", if hole.signed { 'i' } else { 'u' }, 8 * u32::from(hole.width)))
    }
}

/// Gives each blob among the patchlets its places. Adds a damaged record to `findings`; it ends the
/// list, because the place of the next one depends on its size.
pub(super) fn attach<'d>(
    image: &Image<'d>,
    patchlets: &mut BTreeMap<&'d str, PatchletImage<'d>>,
    findings: &mut Findings,
) {
    let Some(section) = image.section_named(PLACES_SECTION) else { return };
    let by_address: HashMap<u64, &str> =
        patchlets.values().map(|patchlet| (patchlet.address, patchlet.name)).collect();
    let mut at = 0;
    while at < section.size {
        let address = section.address + at;
        let mut bad = |what, fix| {
            let place = format!("record of {PLACES_SECTION} at {address:#x}");
            findings.add(FindingCode::BlobPlace, Some(address), place, what, fix);
        };
        let Some((start, place, size)) = record(image, section.data, section.address, at) else {
            bad(
                "is not whole, or its name, mode or width is impossible".into(),
                "take the section in as patchlet.ld does, and let nothing write to it",
            );
            return;
        };
        at += size;
        let blob = match image.kind() {
            Linkage::Object => blob_in_object(image, patchlets, &place),
            _ => by_address.get(&start).copied(),
        };
        match blob.and_then(|blob| patchlets.get_mut(blob)) {
            Some(blob) => {
                blob.is_blob = true;
                blob.places.push(place);
            }
            // The records of an object say the blob by a relocation. Those without a name are not
            // needed to list it.
            None if image.kind() == Linkage::Object => {}
            None => bad(
                format!("is of a blob at {start:#x}, where no patchlet starts"),
                "link each blob once, and link the objects of one build",
            ),
        }
    }
}

/// Reads the record at offset `at` of the section, which starts at address `base`. Returns the start
/// of the blob, the place and the size of the record in bytes, or `None` if a value is impossible.
fn record<'d>(
    image: &Image<'d>,
    data: &'d [u8],
    base: u64,
    at: u64,
) -> Option<(u64, PlaceImage<'d>, u64)> {
    let header = slice(data, at, HEADER)?;
    let address = base.checked_add(at)?;
    let mut values = [0; FIELDS.len()];
    for (value, field) in values.iter_mut().zip(&FIELDS) {
        *value = field_of(image, header, address, field)?;
    }
    let [start, offset, width, mode, len] = values;
    let name = str::from_utf8(slice(data, at + HEADER, len)?).ok()?;
    if !name.is_empty() && !is_name(name) {
        return None;
    }
    // As wide as the fields say, so nothing is cut.
    let (offset, width) = (offset as u16, width as u8);
    let hole = match (width & !SIGNED, width & SIGNED != 0) {
        (0, false) => None,
        (width @ (1 | 2 | 4 | 8), signed) if !name.is_empty() => Some(HoleImage { width, signed }),
        _ => return None,
    };
    let place = PlaceImage { name, offset, hole, mode: PlaceMode::of(mode)? };
    Some((start, place, (HEADER + len).next_multiple_of(4)))
}

/// Returns the blob of an object that has a label for this place.
fn blob_in_object<'d>(
    image: &Image<'_>,
    patchlets: &BTreeMap<&'d str, PatchletImage<'d>>,
    place: &PlaceImage<'_>,
) -> Option<&'d str> {
    let kind = if place.hole.is_some() { "hole" } else { "at" };
    let has_label = |blob: &&PatchletImage<'_>| {
        let label = format!("patchlet_{}_{kind}_{}", blob.name, place.name);
        let symbol = image.symbols().find(&label);
        symbol.is_some_and(|found| found.address == blob.address + u64::from(place.offset))
    };
    let mut blobs = patchlets.values().filter(|patchlet| patchlet.native.is_none());
    blobs.find(has_label).map(|blob| blob.name)
}
