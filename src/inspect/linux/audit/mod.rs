//! The audit of a Linux kernel's file, or of one of its modules: is there a record for every
//! instruction that the kernel must be able to patch, and does every record name an instruction
//! that it is for?
//!
//! `branches` looks at the instructions of all text for those that lack a record, `records` at the
//! records for those that name something else, `overlaps` at the records alone. What needs no
//! record is told from what does by [`CodeKind`](code_kinds::CodeKind) and by what the kernel was
//! [built with](BuiltWith).

mod branches;
mod built_with;
mod code_kinds;
mod finding;
mod overlaps;
mod records;

use std::collections::BTreeMap;

pub use built_with::BuiltWith;
pub use finding::{AuditFinding, AuditKind};

use super::kernel::LinuxKernel;
use super::tables::TableKind;
use crate::inspect::sweep::{Visitor, sweep_text};
use branches::Branches;
use code_kinds::CodeKinds;
use records::RecordCheck;

/// The result of an audit.
#[derive(Debug)]
#[non_exhaustive]
pub struct Audit {
    /// What the kernel was built with, and so what is looked for.
    pub built_with: BuiltWith,
    /// What was found, sorted by address.
    pub findings: Vec<AuditFinding>,
    /// How many instructions of each kind have no record and need none, for they run only at boot,
    /// are thunks themselves, or are replacements that are copied elsewhere.
    pub exempt: BTreeMap<AuditKind, usize>,
    /// How many bytes of text were read.
    pub text: u64,
}

impl Audit {
    /// Returns how many findings of each kind there are.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<AuditKind, usize> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.kind).or_default() += 1;
        }
        counts
    }
}

/// Audits a kernel or a module. `progress` is told from time to time how many bytes of text are
/// done, of how many.
pub fn audit(kernel: &LinuxKernel<'_>, progress: &mut dyn FnMut(u64, u64)) -> Audit {
    let built_with = BuiltWith::of(kernel);
    let code_kinds = CodeKinds::new(kernel);
    let mut reader = AuditVisitor {
        branches: Branches::new(kernel, built_with, &code_kinds),
        records: RecordCheck::new(kernel),
        progress,
    };
    // Replacements stand one behind the other, without names.
    let alternatives = kernel.tables.iter().filter(|table| table.kind == TableKind::Alternatives);
    let replacements = alternatives.flat_map(|table| &table.records).map(|record| record.other);
    // The sweep knows the symbols of the file itself.
    let has_symbols = !kernel.image.symbols().is_empty();
    let named = kernel.names.addresses().filter(|_| !has_symbols);
    sweep_text(&kernel.image, named.chain(replacements), &mut reader);
    let AuditVisitor { branches, records, .. } = reader;
    let (mut findings, exempt) = branches.finish();
    findings.extend(records.finish());
    findings.extend(overlaps::find(kernel));
    findings.sort_by_key(|finding| (finding.address, finding.kind));
    let text = kernel.image.sections().iter().filter(|section| section.is_executable());
    Audit { built_with, findings, exempt, text: text.map(|section| section.size).sum() }
}

/// The receiver of what the sweep finds.
struct AuditVisitor<'a, 'd> {
    branches: Branches<'a, 'd>,
    records: RecordCheck<'a, 'd>,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Visitor for AuditVisitor<'_, '_> {
    fn instruction(&mut self, at: u64, instruction: &iced_x86::Instruction) {
        self.records.instruction(at, instruction);
        self.branches.instruction(at, instruction);
    }

    fn progress(&mut self, done: u64, of: u64) {
        (self.progress)(done, of);
    }
}
