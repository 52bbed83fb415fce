//! The checks of patchlets: they are complete and intact, keep their contracts, have the bytes of
//! their native functions, have no relocation, and do not overlap.

use std::collections::HashMap;

use super::reference::Reference;
use crate::contract;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::PatchletImage;
use crate::inspect::hex::bytes_in_hex;
use crate::inspect::model::Model;

const RELINK: &str = "link the objects of one build, and let nothing rewrite the section";

pub(super) fn check(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    complete(model, reference, findings);
    contracts(model, reference, findings);
    for patchlet in &model.patchlets {
        if !patchlet.is_blob {
            native_function(model, patchlet, findings);
        }
        not_relocated(model, patchlet, findings);
    }
    apart(model, findings);
}

pub(super) fn place(patchlet: &PatchletImage<'_>) -> String {
    format!("patchlet `{}` at {:#x}", patchlet.name, patchlet.address)
}

/// Checks that all patchlets of the reference are in the file and have its bytes.
fn complete(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    let by_name: HashMap<&str, &PatchletImage<'_>> =
        model.patchlets.iter().map(|patchlet| (patchlet.name, patchlet)).collect();
    let found = |name: &str| by_name.get(name);
    for &(name, bytes) in &reference.patchlets {
        let Some(patchlet) = found(name) else {
            missing(name, reference.origin, findings);
            continue;
        };
        if patchlet.bytes != bytes {
            findings.add(
                FindingCode::PatchletBytes,
                Some(patchlet.address),
                place(patchlet),
                format!(
                    "has the bytes {}, in {} it has {}",
                    bytes_in_hex(patchlet.bytes),
                    reference.origin,
                    bytes_in_hex(bytes)
                ),
                RELINK,
            );
        }
    }
    for &name in &reference.required {
        if found(name).is_none() {
            missing(name, "--require", findings);
        }
    }
}

/// Checks that patchlets keep their contracts.
fn contracts(model: &Model<'_>, reference: &Reference<'_>, findings: &mut Findings) {
    for contract in &reference.contracts {
        let Some(patchlet) = model.patchlets.iter().find(|found| found.name == contract.name)
        else {
            missing(&contract.name, "the contracts", findings);
            continue;
        };
        if let Err(violation) = contract::check(contract, patchlet.bytes, model.image.width()) {
            findings.add(
                FindingCode::Contract,
                Some(patchlet.address),
                place(patchlet),
                violation.sentence(),
                "correct the instructions, or the comment above PATCHLET that says what they do",
            );
        }
    }
}

pub(super) fn missing(name: &str, origin: &str, findings: &mut Findings) {
    findings.add(
        FindingCode::PatchletMissing,
        None,
        format!("patchlet `{name}` of {origin}"),
        "is not in the file".into(),
        "keep .rodata.patchlets in the link script, as patchlet.ld does, and link its library whole",
    );
}

/// Checks that a patchlet and its native function have the same bytes, since both come from the
/// same lines of assembly. The check needs no reference, so it covers a kernel's own patchlets as
/// well.
fn native_function(model: &Model<'_>, patchlet: &PatchletImage<'_>, findings: &mut Findings) {
    let Some(native) = patchlet.native else {
        findings.add(
            FindingCode::PatchletNative,
            Some(patchlet.address),
            place(patchlet),
            format!(
                "neither a symbol patchlet_native_{} nor the index names its native function",
                patchlet.name
            ),
            "keep the section patchlet_index in the link script, as patchlet.ld does",
        );
        return;
    };
    let executable = model.image.section_at(native).filter(|section| section.is_executable());
    let len = patchlet.bytes.len() as u64;
    let bytes = executable.and_then(|section| {
        // With indirect branch tracking the function begins with ENDBR64 or ENDBR32, which a
        // patchlet never does.
        let tracked = matches!(section.bytes(native, 4), Some([0xf3, 0x0f, 0x1e, 0xfa | 0xfb]));
        section.bytes(native + if tracked { 4 } else { 0 }, len)
    });
    let what = match bytes {
        Some(bytes) if bytes == patchlet.bytes => return,
        Some(bytes) => format!(
            "has the bytes {}, its native function at {native:#x} has {}",
            bytes_in_hex(patchlet.bytes),
            bytes_in_hex(bytes)
        ),
        None => format!("its native function at {native:#x} is not in an executable section"),
    };
    findings.add(
        FindingCode::PatchletNative,
        Some(patchlet.address),
        place(patchlet),
        what,
        RELINK,
    );
}

/// Checks that a patchlet has no relocation: its bytes are copied elsewhere as they are.
fn not_relocated(model: &Model<'_>, patchlet: &PatchletImage<'_>, findings: &mut Findings) {
    for relocation in model.image.relocations_in(patchlet.address, patchlet.end()) {
        findings.add(
            FindingCode::Relocation,
            Some(relocation.address),
            place(patchlet),
            format!("has a relocation at {:#x}", relocation.address),
            "a patchlet is bytes that mean the same at any address: name no symbol in it",
        );
    }
}

/// Checks that no two patchlets share bytes.
fn apart(model: &Model<'_>, findings: &mut Findings) {
    for pair in model.patchlets.windows(2) {
        if let [first, second] = pair
            && first.section == second.section
            && first.end() > second.address
        {
            findings.add(
                FindingCode::PatchletOverlap,
                Some(second.address),
                place(second),
                format!("shares bytes with `{}` at {:#x}", first.name, first.address),
                RELINK,
            );
        }
    }
}
