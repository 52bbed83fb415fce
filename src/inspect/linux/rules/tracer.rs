//! The function tracer: its calls, and the places where it calls the function that traces.

use super::Rules;
use super::code::{branch, target_of_branch};
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The functions that calls of the tracer go to, unless they go to a copy of one of them.
pub(in crate::inspect::linux) const TRACERS: &[&str] = &["ftrace_caller", "ftrace_regs_caller"];

impl Rules<'_, '_> {
    /// Writes calls of the tracer, which are NOPs while nothing is traced.
    pub(super) fn ftrace(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::Ftrace) {
            text.answer(record.site, 5, Cause::Record(TableKind::Ftrace, Depends::RunTime));
            text.write(record.site, &self.atomic_nop());
        }
    }

    /// Writes the places where the tracer calls the function that traces.
    pub(super) fn tracer(&self, text: &mut Text<'_>) {
        let Some(variable) = self.names.address("ftrace_trace_function") else { return };
        let Some(function) = self.state.target(variable).filter(|&function| function != 0) else {
            return;
        };
        for place in ["ftrace_call", "ftrace_regs_call"] {
            if let Some(site) = self.names.address(place)
                && let Some(call) = text.file(site, 5).filter(|call| call.first() == Some(&0xe8))
            {
                let target = target_of_branch(site, call);
                text.answer(site, 5, Cause::Tracer(variable));
                // While nothing traces it is as the linker wrote it, or counted.
                if target != Some(function) {
                    text.write(site, &branch(0xe8, site, function));
                }
            }
        }
    }
}
