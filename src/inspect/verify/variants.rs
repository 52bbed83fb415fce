//! The checks of variants: each is of an op, is a function, has a place of its own in the list of
//! its op, and fits all sites of the op.

use std::collections::HashMap;

use super::sites::place as place_of_site;
use crate::insn::ComposeError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::{SiteImage, VariantImage};
use crate::inspect::model::Model;

/// Checks all variants.
pub(super) fn check(model: &Model<'_>, findings: &mut Findings) {
    let mut before: Option<&VariantImage<'_>> = None;
    for variant in model.variants() {
        alone(model, variant, findings);
        // They are sorted by slot and place.
        let same_slot = before.filter(|before| before.slot == variant.slot);
        let expected = same_slot.map_or(0, |before| u16::from(before.place) + 1);
        if u16::from(variant.place) != expected {
            findings.add(
                FindingCode::Variant,
                Some(variant.address),
                place(model, variant),
                format!(
                    "is number {} in the list of its op, where {expected} was due",
                    variant.place
                ),
                "link each ops table once, and keep the section patchlet_variants whole",
            );
        }
        before = Some(variant);
    }
    let mut sites: HashMap<u64, Vec<&SiteImage>> = HashMap::new();
    for record in model.records() {
        sites.entry(record.slot).or_default().push(record);
    }
    for variant in model.variants() {
        let sites = sites.get(&variant.slot).map_or(&[][..], |sites| sites);
        fits(model, variant, sites, findings);
    }
}

/// Returns the place of a finding, such as `variant 1 of mem.copy (FSRM)`.
fn place(model: &Model<'_>, variant: &VariantImage<'_>) -> String {
    let op = model
        .op_record(variant.slot)
        .map_or_else(|| format!("{:#x}", variant.slot), |record| record.name.to_owned());
    let condition = if variant.condition.is_empty() { "always" } else { variant.condition };
    format!("variant {} of {op} ({condition})", variant.place)
}

/// Checks one variant by itself.
fn alone(model: &Model<'_>, variant: &VariantImage<'_>, findings: &mut Findings) {
    let mut add = |what: String| {
        findings.add(
            FindingCode::Variant,
            Some(variant.address),
            place(model, variant),
            what,
            "define ops and their variants by `ops!`, and link every function into the file",
        );
    };
    if model.tables.slot(variant.slot).is_none() {
        add(format!("{:#x} is no slot of any ops table", variant.slot));
    }
    let section = model.image.section_at(variant.function);
    if !section.is_some_and(|section| section.is_executable()) {
        add(format!("its function {:#x} is not in an executable section", variant.function));
    }
}

/// Checks that a variant fits all sites of its op. The finding is about the first that is too
/// small.
fn fits(
    model: &Model<'_>,
    variant: &VariantImage<'_>,
    sites: &[&SiteImage],
    findings: &mut Findings,
) {
    let misfit = sites.iter().find_map(|record| {
        let (op, kind) = (model.op(record)?, record.kind()?);
        let replacement = model.replacement(op, variant.function, kind);
        match model.composed(record, &replacement) {
            // A capacity that is impossible is a finding of its own.
            Ok(_) | Err(ComposeError::Capacity { .. }) => None,
            Err(error) => Some((record, error)),
        }
    });
    let Some((record, error)) = misfit else { return };
    let fix = match error {
        ComposeError::OutOfReach { .. } => "link text within 2 GiB",
        _ => "give the op a larger capacity, by `#[capacity(N)]` in `ops!`",
    };
    findings.add(
        FindingCode::SiteCapacity,
        Some(record.site),
        place_of_site(model, record),
        format!("{} does not fit: {error}", place(model, variant)),
        fix,
    );
}
