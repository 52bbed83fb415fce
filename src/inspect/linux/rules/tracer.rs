//! The function tracer: its calls, and the places where it calls the function that traces.

use super::Rules;
use super::code::branch;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

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
                && let Some(&[0xe8, a, b, c, d]) = text.file(site, 5)
            {
                text.answer(site, 5, Cause::Tracer(variable));
                let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
                // While nothing traces it is as the linker wrote it, or counted.
                if site.wrapping_add(5).wrapping_add_signed(distance) != function {
                    text.write(site, &branch(0xe8, site, function));
                }
            }
        }
    }
}
