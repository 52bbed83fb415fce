//! What the tool shows of the places and holes of blobs.

use std::io;

use serde::Serialize;

use super::columns::{self, number, text};
use super::output::count;
use super::terminal::Terminal;
use crate::inspect::formats::{PatchletImage, PlaceImage, PlaceMode};

/// A place or hole as `patchlet list` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PlaceView<'v> {
    pub name: &'v str,
    pub offset: u16,
    /// The type of a hole, such as `u32`; null for a place.
    pub hole: Option<String>,
    /// What stands there.
    pub mode: &'static str,
}

/// Returns the named places and holes of a patchlet.
pub(super) fn places<'p, 'd>(
    patchlet: &'p PatchletImage<'d>,
) -> impl Iterator<Item = PlaceView<'d>> + use<'p, 'd> {
    let mut in_data = false;
    patchlet.places.iter().filter_map(move |place| {
        let PlaceImage { name, offset, .. } = *place;
        if name.is_empty() {
            in_data = place.mode == PlaceMode::Data;
            return None;
        }
        // The assembler stays in its mode where data begins.
        let mode = if in_data { PlaceMode::Data } else { place.mode };
        Some(PlaceView { name, offset, hole: place.hole_type(), mode: mode.words() })
    })
}

/// Returns what stands in place of the instructions of a blob, whose width can change.
pub(super) fn words(blob: &PatchletImage<'_>) -> String {
    let holes = places(blob).filter(|place| place.hole.is_some()).count();
    let all = places(blob).count();
    format!("blob: {}, {}", count(all - holes, "place"), count(holes, "hole"))
}

/// Prints a table of all places and holes, if there is any.
pub(super) fn print(
    terminal: &mut Terminal<'_>,
    patchlets: &[PatchletImage<'_>],
) -> io::Result<()> {
    let rows = || {
        patchlets.iter().flat_map(|blob| {
            places(blob).map(|place| {
                let address = blob.address.saturating_add(place.offset.into());
                let hole = place.hole.map_or_else(|| "place".to_owned(), |ty| format!("hole {ty}"));
                vec![
                    format!("{address:#x}"),
                    blob.name.to_owned(),
                    place.offset.to_string(),
                    place.name.to_owned(),
                    hole,
                    place.mode.to_owned(),
                ]
            })
        })
    };
    if rows().next().is_none() {
        return Ok(());
    }
    let columns =
        [text("ADDRESS"), text("BLOB"), number("OFFSET"), text("NAME"), text("WHAT"), text("IN")];
    columns::print(terminal, &columns, rows)
}
