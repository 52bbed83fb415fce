//! The places and holes of blobs, section `patchlet_places`. asm/blob.h writes the records and
//! describes them.

use std::collections::{BTreeMap, HashMap};

use super::named::{NamedFormat, NamedRecord};
use super::patchlet_image::PatchletImage;
use super::place_image::{HoleImage, PlaceImage, PlaceMode};
use super::table::Field;
use crate::inspect::elf::{Image, Linkage};
use crate::inspect::finding::{FindingCode, Findings};
use crate::labels::is_name;

/// The format of the records. Their fields: start of the blob, offset, width and sign of a hole,
/// what stands there, length of the name.
pub(crate) const PLACES: NamedFormat<5> = NamedFormat {
    section: "patchlet_places",
    header: 9,
    fields: [
        Field::address(0),
        Field::number(4, 2),
        Field::number(6, 1),
        Field::number(7, 1),
        Field::number(8, 1),
    ],
    code: FindingCode::BlobPlace,
    values: "name, mode or width",
};

/// In the field of the width: the hole is for a number with a sign.
const SIGNED: u8 = 0x80;

/// Gives each blob among the patchlets its places. Adds a damaged record to `findings`; it ends the
/// list.
pub(super) fn attach<'d>(
    image: &Image<'d>,
    patchlets: &mut BTreeMap<&'d str, PatchletImage<'d>>,
    findings: &mut Findings,
) {
    let by_address: HashMap<u64, &str> =
        patchlets.values().map(|patchlet| (patchlet.address, patchlet.name)).collect();
    let places = PLACES.read(image, findings, |record| {
        let [start, ..] = record.values;
        Some((record.address, start, place(record)?))
    });
    for (address, start, place) in places {
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
            None => findings.add(
                FindingCode::BlobPlace,
                Some(address),
                PLACES.place(address),
                format!("is of a blob at {start:#x}, where no patchlet starts"),
                "link each blob once, and link the objects of one build",
            ),
        }
    }
}

/// Returns the place that a record describes, or `None` if a value in the record is impossible.
fn place<'d>(record: &NamedRecord<'d, 5>) -> Option<PlaceImage<'d>> {
    let [_, offset, width, mode, _] = record.values;
    let name = record.name;
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
    Some(PlaceImage { name, offset, hole, mode: PlaceMode::of(mode)? })
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
