//! Chooses the habits of a kernel: those with which most sites are as they are in the dump.

use crate::insn::Width;
use crate::inspect::explain::Located;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::nops::FAMILIES;
use crate::inspect::linux::rules::{BranchFilling, Filling, Habits, Rules, SEALED_ENDBR};
use crate::inspect::linux::state::State;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{PatchedSite, Text};

/// Returns the text that the kernel should have. Its habits are those with which most sites are as
/// they are in the dump: first the usual ones of kernels with such records, then each habit in
/// turn is tried in every other form.
pub(super) fn expected<'d>(
    kernel: &LinuxKernel<'d>,
    state: &State<'_, '_>,
    located: &Located<'_, '_>,
    moved: &Text<'d>,
) -> Text<'d> {
    let width = kernel.image.width();
    let usual = usual(kernel);
    let with = |habits: Habits| {
        let mut text = moved.clone();
        let (image, names) = (&kernel.image, &kernel.names);
        let tables = &kernel.tables;
        Rules { image, names, tables, state, habits, assumed: vec![] }.apply(&mut text);
        let wrong = text.sites.iter().filter(|site| !is_as_expected(&text, located, site)).count();
        (wrong, habits, text)
    };
    let mut best = with(usual);
    for step in 0..7 {
        if best.0 == 0 {
            break;
        }
        let now = best.1;
        let others: Vec<Habits> = match step {
            0 => [Filling::Padding, Filling::Runs, Filling::Instructions]
                .map(|filling| Habits { filling, ..now })
                .to_vec(),
            1 => FAMILIES
                .iter()
                .filter(|family| family.width.is_none_or(|of| of == width))
                .map(|nops| Habits { nops, ..now })
                .collect(),
            2 => vec![Habits { native_sequences: !now.native_sequences, ..now }],
            3 => [BranchFilling::Nops, BranchFilling::Int3, BranchFilling::Prefixes]
                .map(|branch_filling| Habits { branch_filling, ..now })
                .to_vec(),
            4 => vec![Habits { joins_jumps: !now.joins_jumps, ..now }],
            5 => vec![Habits { hash_is_sealed: !now.hash_is_sealed, ..now }],
            _ => SEALED_ENDBR.iter().map(|&sealed_endbr| Habits { sealed_endbr, ..now }).collect(),
        };
        for habits in others.into_iter().filter(|&habits| habits != now) {
            let other = with(habits);
            if other.0 < best.0 {
                best = other;
            }
        }
    }
    best.2
}

/// Returns the usual habits of kernels of this version whose alternatives have such records.
pub(in crate::inspect::linux) fn usual(kernel: &LinuxKernel<'_>) -> Habits {
    let alternatives = kernel.tables.iter().find(|table| table.kind == TableKind::Alternatives);
    let filling = match alternatives.map_or(0, |table| table.stride) {
        13 => Filling::Padding,
        12 => Filling::Runs,
        _ => Filling::Instructions,
    };
    let width = kernel.image.width();
    // One series of changes brought both, and no table of the file shows it.
    let version = kernel.version().unwrap_or_default();
    let is_new = version >= (6, 18);
    Habits {
        filling,
        nops: if width == Width::Bits64 { &FAMILIES[0] } else { &FAMILIES[1] },
        native_sequences: filling == Filling::Padding,
        branch_filling: if is_new { BranchFilling::Prefixes } else { BranchFilling::Int3 },
        joins_jumps: ((6, 4)..(6, 9)).contains(&version),
        sealed_endbr: SEALED_ENDBR[usize::from(is_new)],
        hash_is_sealed: true,
    }
}

/// Returns whether a site is in the dump as it should be, or is not in the dump.
fn is_as_expected(text: &Text<'_>, located: &Located<'_, '_>, site: &PatchedSite) -> bool {
    let len = usize::try_from(site.len).unwrap_or(0);
    match (located.bytes(site.address, len), text.expected(site.address, len)) {
        (Some(seen), Some(expected)) => seen == expected,
        _ => true,
    }
}
