//! Everything that can be proven of a linked file. Each check is a function that adds
//! findings; none means that all of it holds.

mod conventions;
mod followed;
mod patchlets;
mod reference;
mod sections;
mod sites;
mod text;

pub use reference::{ExpectedSites, Reference};

use super::finding::Findings;
use super::model::Model;

/// Checks everything. `progress` is told from time to time how many bytes of
/// text are done, of how many.
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
    conventions::check(model, reference, &mut findings);
    let sites = sites::check(model, reference, &mut findings);
    text::check(model, &sites, progress, &mut findings);
    sections::check(model, &mut findings);
    findings
}
