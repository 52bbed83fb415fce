//! Everything that can be proven of a linked file. Each check is a function
//! that adds findings; none means that all of it holds.

mod conventions;
mod patchlets;
mod sites;
mod text;

use super::finding::{Code, Findings};
use super::image::Section;
use super::model::Model;
use super::native_set::native_set;
use super::patchlets::Patchlet;
use crate::contract::Contract;

/// What to compare with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reference<'r> {
    /// Each patchlet that must be there, and its bytes.
    pub patchlets: Vec<(&'r str, &'r [u8])>,
    /// Patchlets of any bytes that must be there too.
    pub required: Vec<&'r str>,
    /// Contracts that patchlets of these names must keep.
    pub contracts: Vec<Contract>,
    /// Where the patchlets come from, for messages.
    pub origin: &'r str,
}

impl<'r> Reference<'r> {
    /// The crate's own set for the width of this file.
    #[must_use]
    pub fn native(model: &Model<'_>) -> Self {
        Self {
            patchlets: native_set(model.image.width()).to_vec(),
            required: vec![],
            contracts: vec![],
            origin: "the native set",
        }
    }

    /// The patchlets of an object.
    #[must_use]
    pub fn object(patchlets: &'r [Patchlet<'r>]) -> Self {
        Self {
            patchlets: patchlets.iter().map(|found| (found.name, found.bytes)).collect(),
            required: vec![],
            contracts: vec![],
            origin: "the object",
        }
    }
}

/// Checks everything. `progress` is told from time to time how many bytes of
/// text are done, of how many.
#[must_use]
pub fn verify(
    model: &Model<'_>,
    reference: &Reference<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Findings {
    let mut findings = model.findings.clone();
    patchlets::check(model, reference, &mut findings);
    conventions::check(model, reference, &mut findings);
    let sites = sites::check(model, &mut findings);
    text::check(model, &sites, progress, &mut findings);
    loaded_as_they_stand(model, &mut findings);
    findings
}

/// The sections that matter are loaded from the bytes that were looked at.
fn loaded_as_they_stand(model: &Model<'_>, findings: &mut Findings) {
    let image = &model.image;
    if image.segments.is_empty() {
        return;
    }
    let patchlets = model.patchlets.iter().map(|found| found.section);
    let tables = model.tables.list.iter().map(|table| table.address);
    let records = model.records.range.map(|(start, _)| start);
    let mut numbers: Vec<usize> = tables
        .chain(records)
        .filter_map(|address| image.section_at(address))
        .map(|section| section.index)
        .chain(patchlets)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    for section in &image.sections {
        let matters = section.is_executable() || numbers.binary_search(&section.index).is_ok();
        if section.data.is_empty() || !matters {
            continue;
        }
        let before = image.segments.partition_point(|found| found.address <= section.address);
        let nearest = before.checked_sub(1).and_then(|at| image.segments.get(at));
        let found =
            nearest.filter(|found| section.end() <= found.address.saturating_add(found.size));
        let what = match found {
            None => "no segment loads all of it".to_owned(),
            Some(segment) => {
                let loaded = segment.offset.wrapping_add(section.address - segment.address);
                if loaded == section.offset {
                    continue;
                }
                format!(
                    "its bytes are at offset {:#x} of the file and a loader takes those at {loaded:#x}",
                    section.offset
                )
            }
        };
        findings.add(
            Code::SectionSegment,
            Some(section.address),
            place_of(section),
            what,
            "link it again: its program headers do not belong to its section headers",
        );
    }
}

/// `section .text at 0x1000`
fn place_of(section: &Section<'_>) -> String {
    format!("section {} at {:#x}", section.name, section.address)
}

/// Data that the patcher trusts must be read-only and not executable.
fn read_only(section: &Section<'_>, holds: &str, findings: &mut Findings) {
    let is = match (section.flags & Section::WRITE != 0, section.is_executable()) {
        (false, false) => return,
        (true, false) => "writable",
        (false, true) => "executable",
        (true, true) => "writable and executable",
    };
    findings.add(
        Code::SectionFlags,
        Some(section.address),
        place_of(section),
        format!("holds {holds} and is {is} (flags {:#x})", section.flags),
        "put it with the read-only data, as patchlet.ld does",
    );
}
