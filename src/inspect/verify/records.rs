//! The checks that the tables of sites have in common, whatever their sites belong to.

use super::reference::ExpectedSites;
use crate::inspect::elf::Section;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::model::Model;

/// The fix of a record that no macro writes.
pub(super) const RELINK: &str = "build and link it again, and let nothing rewrite it";
/// The fix of a site that is not as a macro writes it.
pub(super) const BY_MACROS: &str = "emit sites by the macros of patchlet only";
/// The same, of a site that something may have written to.
pub(super) const BY_MACROS_ALONE: &str =
    "emit sites by the macros of patchlet only, and let nothing else rewrite text";

/// Checks that no record of a table was lost, or came in from elsewhere, on the way to this file.
pub(super) fn as_many_as_expected(
    (table, code): (&str, FindingCode),
    found: usize,
    expected: Option<ExpectedSites>,
    findings: &mut Findings,
) {
    let Some(expected) = expected.filter(|expected| !expected.allows(found)) else { return };
    findings.add(
        code,
        None,
        table.to_owned(),
        format!("it has {found} sites, and {expected} were expected"),
        "if the sources did not change it, look at what was linked last: `ld -r` and tools behind the \
         linker lose records",
    );
}

/// Checks that no relocation writes to a table of records. `range` has its bounds.
pub(super) fn table_is_not_relocated(
    model: &Model<'_>,
    range: Option<(u64, u64)>,
    findings: &mut Findings,
) {
    let Some((start, end)) = range else { return };
    for relocation in model.image.relocations_in(start, end) {
        // A relocation that --emit-relocs keeps for a relative field is applied already, and does
        // not change when the kernel relocates itself.
        if relocation.dynamic || relocation.absolute {
            findings.add(
                FindingCode::Relocation,
                Some(relocation.address),
                format!("table of records at {start:#x}"),
                format!("has a relocation at {:#x}", relocation.address),
                BY_MACROS,
            );
        }
    }
}

/// Returns what is wrong with a site of this size if it is not in an executable section.
pub(super) fn outside_text(model: &Model<'_>, site: u64, size: u8) -> Option<String> {
    let inside = |section: &&Section<'_>| {
        section.is_executable() && section.bytes(site, size.into()).is_some()
    };
    let is_inside = model.image.section_at(site).is_some_and(|section| inside(&section));
    (!is_inside).then(|| format!("its {size} bytes are not in an executable section"))
}

/// Returns what is wrong with each relocation by which a loader would write to a site of this size.
pub(super) fn written_by_loader(
    model: &Model<'_>,
    site: u64,
    size: u8,
) -> impl Iterator<Item = String> {
    let relocations = model.image.relocations_in(site, site.saturating_add(size.into()));
    relocations.iter().filter(|relocation| relocation.dynamic).map(|relocation| {
        let address = relocation.address;
        format!("a loader would write to {address:#x}, over what the patcher put there")
    })
}
