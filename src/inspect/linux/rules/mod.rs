//! The rules by which Linux patches its text, in the order in which it does it at boot: paravirt
//! calls, checks of indirect calls, retpolines, returns, alternatives, sealed ENDBRs, LOCK prefixes,
//! constants; then what can change at any time: static calls, jump labels, the tracer.
//!
//! A rule writes what the kernel writes into the expected text and answers for the site, changed
//! or not. Kernels of different age do it differently in a few points, which are in [`Habits`].
//! Which habits a kernel has shows in its text; they are chosen once for the whole kernel, so that
//! no single site can be explained by a habit of its own.

mod alternatives;
mod boot;
mod calls;
mod cfi;
mod code;
mod filling;
mod habits;
mod keys;
mod paravirt;
mod thunks;
mod tracer;

use super::names::Names;
use super::state::State;
use super::tables::{KernelTable, TableKind, TableRecord};
use super::text::{Cause, Text};
use crate::insn::Width;
use crate::inspect::elf::Image;

pub(super) use alternatives::{DIRECT_CALL, feature_of, groups};
pub(super) use cfi::{CALLER, PREAMBLE};
pub(super) use code::{decode, target_of_branch};
pub(super) use habits::{BranchFilling, Filling, Habits, SEALED_ENDBR};
pub(super) use keys::{INVERTED, TAIL};
pub(super) use thunks::thunk_register;
pub(super) use tracer::TRACERS;

/// The rules of one kernel, with all that they need to know.
#[derive(Debug)]
pub(crate) struct Rules<'a, 'd> {
    pub image: &'a Image<'d>,
    pub names: &'a Names,
    pub tables: &'a [KernelTable],
    pub state: &'a State<'a, 'a>,
    pub habits: Habits,
    /// Features that are tried, to see whether the text is as if they were so.
    pub assumed: Vec<(u16, bool)>,
}

impl Rules<'_, '_> {
    fn records(&self, kind: TableKind) -> impl Iterator<Item = &TableRecord> {
        self.tables.iter().filter(move |table| table.kind == kind).flat_map(|table| &table.records)
    }

    fn width(&self) -> Width {
        self.state.width
    }

    /// Returns whether the CPU has a feature.
    fn has(&self, number: u16) -> Option<bool> {
        let assumed = self.assumed.iter().find(|(of, _)| *of == number);
        assumed.map(|(_, is)| *is).or_else(|| self.state.has(number))
    }

    /// Answers for a range of text that depends on features: decided, if these are known.
    fn answer_by(&self, features: &[u16], text: &mut Text<'_>, at: u64, len: u64, cause: Cause) {
        if features.iter().all(|&number| self.state.features.has(number).is_some()) {
            text.answer(at, len, cause);
        } else {
            text.answer_undecided(at, len, cause);
        }
    }

    /// Applies every rule.
    pub(crate) fn apply(&self, text: &mut Text<'_>) {
        self.apply_to_records(text);
        self.trampolines(text);
        self.tracer(text);
    }

    /// Applies the rules for records, without those for places that have only a name.
    pub(crate) fn apply_to_records(&self, text: &mut Text<'_>) {
        self.paravirt(text);
        self.cfi(text);
        self.retpolines(text);
        self.returns(text);
        self.alternatives(text);
        self.calls(text);
        self.endbr(text);
        self.smp_locks(text);
        self.runtime_constants(text);
        self.static_calls(text);
        self.jump_labels(text);
        self.ftrace(text);
    }
}
