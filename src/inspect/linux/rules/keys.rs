//! What a key decides at any time: static calls, and branches on static keys.

use super::Rules;
use super::code::{branch, instruction_length};
use super::thunks::RETURN_THUNK;
use crate::disassemble::LONGEST_INSTRUCTION;
use crate::insn::Width;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The flag beside the key of a static call that is a jump.
pub(in crate::inspect::linux) const TAIL: u8 = 1;

/// The flag beside the key of a branch that jumps while the key is off.
pub(in crate::inspect::linux) const INVERTED: u8 = 1;

/// The function that gives a lock back where no hypervisor is told.
const NATIVE_UNLOCK: &[&str] =
    &["__raw_callee_save___native_queued_spin_unlock", "__native_queued_spin_unlock"];

impl Rules<'_, '_> {
    /// Writes static calls: a call or a jump to the function in the key; for none, nothing or a
    /// return.
    pub(super) fn static_calls(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::StaticCalls) {
            let tail = record.key_flags & TAIL != 0;
            self.static_call(text, record.site, record.key, tail, false);
        }
    }

    /// Writes the trampolines of static calls, which have no records.
    pub(super) fn trampolines(&self, text: &mut Text<'_>) {
        for (trampoline, name) in self.names.with_prefix("__SCT__") {
            match self.names.address(&format!("__SCK__{name}")) {
                Some(key) => self.static_call(text, trampoline, key, true, true),
                // Without its key it can be in any state.
                None => {
                    let cause = Cause::Record(TableKind::StaticCalls, Depends::RunTime);
                    text.answer_undecided(trampoline, 5, cause);
                }
            }
        }
    }

    fn static_call(&self, text: &mut Text<'_>, site: u64, key: u64, tail: bool, trampoline: bool) {
        let cause = Cause::Record(TableKind::StaticCalls, Depends::Variable(key));
        let Some(function) = self.state.target(key) else { return };
        // A jump on a condition has six bytes, and keeps the condition.
        if let [0x0f, condition @ 0x80..=0x8f, _, _, _, _] = *text.onwards(site, 6) {
            text.answer(site, 6, cause);
            let target = match function {
                0 => self.names.address(RETURN_THUNK).unwrap_or(site + 6),
                function => function,
            };
            let [_, a, b, c, d] = branch(0xe9, site + 1, target);
            text.write(site, &[0x0f, condition, a, b, c, d]);
            return;
        }
        text.answer(site, 5, cause);
        // While calls are counted, a call goes to the instruction that counts it, and functions
        // that something else stands for are called.
        let counted = match tail || function == 0 {
            true => function,
            false => self.counted(text, function),
        };
        let returns_zero =
            counted == function && self.names.is_one_of(function, &["__static_call_return0"]);
        let bytes = match (function, tail) {
            (0, false) => self.atomic_nop(),
            // A trampoline that has none from the start is a return already.
            (0, true) if trampoline && self.image.pointer_at(key) == Some(0) => return,
            // Where calls are not made anew when thunks for returns are chosen, a call that had no
            // function from the start has been a return since before.
            (0, true)
                if self.names.address("static_call_force_reinit").is_none()
                    && self.image.pointer_at(key) == Some(0) =>
            {
                [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]
            }
            (0, true) => match self.return_thunk(site) {
                Some(thunk) => branch(0xe9, site, thunk),
                None => [0xc3, 0xcc, 0xcc, 0xcc, 0xcc],
            },
            // data16 data16 xorq %rax,%rax and the like: five bytes that leave 0.
            (_, false) if returns_zero => match self.width() {
                Width::Bits64 => [0x2e, 0x2e, 0x2e, 0x31, 0xc0],
                Width::Bits32 => [0x3e, 0x3e, 0x3e, 0x31, 0xc0],
            },
            // The function for warnings is never called: an instruction that traps stands for it.
            (_, false) if self.names.is_one_of(function, &["__WARN_trap"]) => {
                [0x67, 0x48, 0x0f, 0xb9, 0x3a]
            }
            // The function that gives a lock back is one store, MOVB $0, (%RDI).
            (_, false)
                if self.width() == Width::Bits64
                    && counted == function
                    && self.names.is_one_of(function, NATIVE_UNLOCK)
                    && self.names.is_one_of(key, &["__SCK__queued_spin_unlock"]) =>
            {
                [0x3e, 0x3e, 0xc6, 0x07, 0]
            }
            (_, false) => branch(0xe8, site, counted),
            (function, true) => branch(0xe9, site, function),
        };
        text.write(site, &bytes);
    }

    /// Writes branches on static keys: a jump or a NOP, by what the key is now.
    pub(super) fn jump_labels(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::JumpLabels) {
            let Some(enabled) = self.state.number(record.key) else { continue };
            let jumps = (enabled != 0) != (record.key_flags & INVERTED != 0);
            let code = text.onwards(record.site, LONGEST_INSTRUCTION);
            let len = instruction_length(self.width(), record.site, code).unwrap_or(5);
            let cause = Cause::Record(TableKind::JumpLabels, Depends::Variable(record.key));
            text.answer(record.site, len as u64, cause);
            let distance = record.other.wrapping_sub(record.site).cast_signed();
            match (jumps, len) {
                (true, 2) => text.write(record.site, &[0xeb, (distance - 2) as u8]),
                (true, _) => text.write(record.site, &branch(0xe9, record.site, record.other)),
                (false, 2) => text.write(record.site, self.habits.nops.of(2).unwrap_or(&[])),
                (false, _) => text.write(record.site, &self.atomic_nop()),
            }
        }
    }
}
