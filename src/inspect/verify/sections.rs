//! The checks of sections and segments: a loader loads the bytes that the other checks looked at,
//! and data that the patcher trusts is read-only and not executable.

use crate::inspect::elf::{Section, Segment};
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{INDEX, PLACES};
use crate::inspect::model::Model;

/// Checks sections and segments.
pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    let trusted = trusted(model);
    for (section, holds) in &trusted {
        if !protected(section, holds, findings) {
            continue;
        }
        let segments = model.image().segments().iter();
        for segment in segments.filter(|segment| overlap(segment, section)) {
            protected_once_loaded(section, holds, segment, findings);
        }
    }
    loaded_as_they_stand(model, &trusted, findings);
}

/// Returns the sections whose contents the patcher trusts, and what each holds, in words.
fn trusted<'m>(model: &'m Model<'_>) -> Vec<(&'m Section<'m>, &'static str)> {
    let image = model.image();
    let mut numbers: Vec<usize> =
        model.patchlets().iter().map(|patchlet| patchlet.section).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let patchlets = numbers.into_iter().filter_map(|number| image.section(number));
    let index = image.section_named(INDEX.section);
    let places = image.section_named(PLACES.section);
    let section_of = |range: Option<(u64, u64)>| image.section_at(range?.0);
    let records = section_of(model.records.range);
    let branches = section_of(model.branches.range);
    let patchlets = patchlets.map(|section| (section, "patchlets"));
    patchlets
        .chain(index.map(|section| (section, "the index of patchlets")))
        .chain(places.map(|section| (section, "the places of blobs")))
        .chain(records.map(|section| (section, "the records of the sites")))
        .chain(branches.map(|section| (section, "the records of the branch sites")))
        .collect()
}

/// Returns whether a section is read-only and not executable. Adds a finding if it is not.
fn protected(section: &Section<'_>, holds: &str, findings: &mut Findings) -> bool {
    let Some(is) = rights(section.is_writable(), section.is_executable()) else { return true };
    findings.add(
        FindingCode::SectionFlags,
        Some(section.address),
        place_of(section),
        format!("holds {holds} and is {is} (flags {:#x})", section.flags),
        "put it with the read-only data, as patchlet.ld does",
    );
    false
}

/// Checks that the segment which loads a section is read-only and not executable. A loader goes
/// by the flags of the segment and ignores those of the section. They differ if a link script
/// with PHDRS places the section behind another one whose segment is writable or executable: the
/// linker puts the section into the same segment.
fn protected_once_loaded(
    section: &Section<'_>,
    holds: &str,
    segment: &Segment,
    findings: &mut Findings,
) {
    let Some(is) = rights(segment.writable, segment.executable) else { return };
    findings.add(
        FindingCode::SegmentFlags,
        Some(section.address),
        place_of(section),
        format!(
            "holds {holds} and is loaded by the segment at {:#x}, which is {is}",
            segment.address
        ),
        "put the INCLUDE of patchlet.ld behind the read-only data; with PHDRS, name the segment of \
         the read-only data there (`:rodata`)",
    );
}

/// Returns, in words, what may be done besides reading; `None` if nothing.
const fn rights(writable: bool, executable: bool) -> Option<&'static str> {
    match (writable, executable) {
        (false, false) => None,
        (true, false) => Some("writable"),
        (false, true) => Some("executable"),
        (true, true) => Some("writable and executable"),
    }
}

/// Returns whether a segment and a section have an address in common.
const fn overlap(segment: &Segment, section: &Section<'_>) -> bool {
    section.size > 0
        && segment.address < section.end()
        && section.address < segment.address.saturating_add(segment.memory_size)
}

/// Checks that a loader loads text, ops tables, keys and trusted sections from the bytes that the
/// section headers name, which are those that the other checks looked at.
fn loaded_as_they_stand(
    model: &Model<'_>,
    trusted: &[(&Section<'_>, &str)],
    findings: &mut Findings,
) {
    let image = model.image();
    if image.segments().is_empty() {
        return;
    }
    let tables = model.tables().iter().filter_map(|table| image.section_at(table.address));
    let keys = model.keys().iter().filter_map(|key| image.section_at(key.address?));
    let mut numbers: Vec<usize> = tables
        .chain(keys)
        .chain(trusted.iter().map(|(section, _)| *section))
        .map(|found| found.index)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    for section in image.sections() {
        let matters = section.is_executable() || numbers.binary_search(&section.index).is_ok();
        if section.data.is_empty() || !matters {
            continue;
        }
        // Sections that share addresses have a segment each, so the nearest segment may be that
        // of another section.
        let behind = image.segments().partition_point(|found| found.address <= section.address);
        let mut nearest =
            image.segments().get(..behind).unwrap_or_default().iter().rev().take(NEAR);
        let what = match nearest.clone().find(|segment| segment.covers(section)) {
            None => "no segment loads all of it".to_owned(),
            Some(_) if nearest.any(|segment| segment.loads(section)) => continue,
            Some(segment) => {
                let loaded = segment.offset.wrapping_add(section.address - segment.address);
                format!(
                    "its bytes are at offset {:#x} of the file and a loader takes those at {loaded:#x}",
                    section.offset
                )
            }
        };
        findings.add(
            FindingCode::SectionSegment,
            Some(section.address),
            place_of(section),
            what,
            "link it again: its program headers do not belong to its section headers",
        );
    }
}

/// The largest number of segments before a section that are looked at. A normal file has fewer
/// in all; the limit is for a file with a segment for each of very many sections.
const NEAR: usize = 16;

/// Returns the place of a finding, such as `section .text at 0x1000`.
fn place_of(section: &Section<'_>) -> String {
    format!("section {} at {:#x}", section.name, section.address)
}
