//! The checks that `patchlet verify` makes. Each is a function that adds findings. If no check
//! adds any, everything holds.

mod blobs;
mod branches;
mod conventions;
mod followed;
mod overlap;
mod patchlets;
mod records;
mod reference;
mod sections;
mod sites;
mod text;
mod variants;

pub use reference::{ExpectedSites, Reference};

use super::finding::Findings;
use super::model::Model;
use super::sweep::sort;

/// Makes all checks and returns the findings. Calls `progress` from time to time with the number of
/// bytes of text that are done and the number of all.
#[must_use]
pub fn verify(
    model: &Model<'_>,
    reference: &Reference<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Findings {
    let mut findings = model.findings_of_reading();
    if model.is_without_patchlet() {
        return findings;
    }
    patchlets::check(model, reference, &mut findings);
    blobs::check(model, reference, &mut findings);
    conventions::check(model, reference, &mut findings);
    variants::check(model, &mut findings);
    let mut sites = sites::check(model, reference, &mut findings);
    sites.extend(branches::check(model, reference, &mut findings));
    sort(&mut sites);
    overlap::check(model, &sites, &mut findings);
    text::check(model, &sites, progress, &mut findings);
    sections::check(model, &mut findings);
    findings
}
