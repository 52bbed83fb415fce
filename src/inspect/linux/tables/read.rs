//! Reads the tables of a kernel or a module.

use super::format::{FORMATS, Format, Layout};
use super::record::{KernelTable, records};
use super::search::search;
use crate::inspect::elf::{Image, Section};
use crate::inspect::error::FileError;
use crate::inspect::linux::btf::Types;
use crate::inspect::linux::names::Names;

/// Reads all tables of a kernel. A table that is there and whose records make no sense in any known
/// layout is an error: what it says would be missing from the expected text.
pub(crate) fn read(
    image: &Image<'_>,
    names: &Names,
    types: Option<Types<'_>>,
) -> Result<Vec<KernelTable>, FileError> {
    let mut tables = Vec::new();
    for format in FORMATS {
        // The types of the build say how long a record is.
        let len = format.structure.and_then(|structure| types?.size(structure));
        let before = tables.len();
        tables.extend(in_sections(image, format, len)?);
        if before == tables.len()
            && let Some((start, stop)) = format.bounds
            && let (Some(from), Some(to)) = (names.address(start), names.address(stop))
            && from < to
        {
            let bytes = image.bytes_at(from, to - from).ok_or_else(|| {
                FileError::new(format!("{start} ({from:#x}) and {stop} ({to:#x}) enclose no data"))
            })?;
            tables.push(table(image, format, len, start, from, bytes)?);
        }
        if before == tables.len()
            && format.bounds.is_some_and(|(start, _)| names.address(start).is_none())
        {
            tables.extend(search(image, format));
        }
    }
    Ok(tables)
}

/// Returns whether a file has a section that is a table of patch sites.
pub fn has_tables(image: &Image<'_>) -> bool {
    FORMATS.iter().any(|format| sections(image, format).next().is_some())
}

/// Reads all tables of a module, each of which is a section.
pub(crate) fn of_module(image: &Image<'_>) -> Result<Vec<KernelTable>, FileError> {
    let mut tables = Vec::new();
    for format in FORMATS {
        tables.extend(in_sections(image, format, None)?);
    }
    Ok(tables)
}

/// Reads the tables of a format that are sections of their own.
fn in_sections(
    image: &Image<'_>,
    format: &Format,
    len: Option<u32>,
) -> Result<Vec<KernelTable>, FileError> {
    sections(image, format)
        .map(|section| table(image, format, len, section.name, section.address, section.data))
        .collect()
}

/// Returns the sections of a format's name that are not empty.
fn sections<'i>(image: &'i Image<'_>, format: &Format) -> impl Iterator<Item = &'i Section<'i>> {
    let matches = |name: &str| match format.section.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == format.section,
    };
    let sections = image.sections().iter();
    sections.filter(move |section| matches(section.name) && !section.data.is_empty())
}

/// Reads a table in the layout that fits it.
fn table(
    image: &Image<'_>,
    format: &Format,
    len: Option<u32>,
    name: &str,
    address: u64,
    bytes: &[u8],
) -> Result<KernelTable, FileError> {
    let fitting = |layout: &Layout| layout.width.is_none_or(|width| width == image.width());
    // Layouts of another length than the build's come last.
    let is_len = |layout: &&Layout| len.is_none_or(|len| layout.stride == len as usize);
    let layouts = || format.layouts.iter().filter(|layout| fitting(layout));
    let others = layouts().filter(|layout| !is_len(layout));
    let mut best: Option<(usize, u64, usize)> = None;
    for layout in layouts().filter(is_len).chain(others) {
        match records(image, layout, address, bytes) {
            Ok(records) => {
                let stride = layout.stride;
                return Ok(KernelTable {
                    kind: format.kind,
                    name: name.to_owned(),
                    stride,
                    records,
                });
            }
            Err((good, at)) if best.is_none_or(|(most, ..)| good >= most) => {
                best = Some((good, at, layout.stride));
            }
            Err(_) => {}
        }
    }
    let (good, at, stride) = best.unwrap_or_default();
    Err(FileError::new(format!(
        "{name} ({address:#x}, {:#x} bytes) has records in no layout that is known: with {stride} \
         bytes each, {good} make sense and the one at {at:#x} does not",
        bytes.len()
    )))
}
