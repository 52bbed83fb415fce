//! Calls through `pv_ops`, in kernels that have a table of their own for them.

use super::Rules;
use super::code::branch;
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::linux::tables::{TableKind, TableRecord};
use crate::inspect::linux::text::{Cause, Depends, Text};

impl Rules<'_, '_> {
    /// Writes calls through `pv_ops`: a direct call of the function that is in the slot, NOPs for
    /// the function that does nothing, in older kernels the instructions of a native function.
    pub(in crate::inspect::linux) fn paravirt(&self, text: &mut Text<'_>) {
        let pv_ops = self.names.address("pv_ops");
        for record in self.records(TableKind::Paravirt) {
            // The instruction names the slot; else its type counts the pointers in `pv_ops`.
            let named = self.slot_of_call(text, record.site);
            let by_type = || Some(pv_ops? + u64::from(record.number) * self.width().pointer_size());
            let Some(slot) = named.or_else(by_type) else { continue };
            let mut bytes = vec![0; usize::from(record.length)];
            let Some(function) = self.state.target(slot) else { continue };
            let used = self.paravirt_call(record, function, &mut bytes);
            if let Some(rest) = bytes.get_mut(used..) {
                self.habits.nops.fill(rest, 8);
            }
            text.write(record.site, &bytes);
            let cause = Cause::Record(TableKind::Paravirt, Depends::Variable(slot));
            text.answer(record.site, u64::from(record.length), cause);
        }
    }

    /// Writes what a paravirt call becomes, and returns its length.
    fn paravirt_call(&self, record: &TableRecord, function: u64, to: &mut [u8]) -> usize {
        const NOTHING: &[&str] = &["_paravirt_nop", "paravirt_nop", "nop_func"];
        if self.names.is_one_of(function, NOTHING) {
            return 0;
        }
        if self.habits.native_sequences
            && let Some((_, _, sequence)) = NATIVE_SEQUENCES.iter().find(|(width, functions, _)| {
                width.is_none_or(|width| width == self.width())
                    && self.names.is_one_of(function, functions)
            })
            && let Some(to) = to.get_mut(..sequence.len())
        {
            to.copy_from_slice(sequence);
            return sequence.len();
        }
        let function = match function {
            0 => self.names.address("BUG_func").or_else(|| self.names.address("paravirt_BUG")),
            function => Some(function),
        };
        // Some types never return, so they are jumped to.
        let jumps =
            self.names.is_one_of(function.unwrap_or(0), &["native_iret", "native_usergs_sysret64"]);
        let opcode = if jumps { 0xe9 } else { 0xe8 };
        let branch = branch(opcode, record.site, function.unwrap_or(0));
        match to.get_mut(..5) {
            Some(to) => {
                to.copy_from_slice(&branch);
                5
            }
            None => 0,
        }
    }

    /// Returns the address in the file of the slot through which the file has a call at a site:
    /// `call *slot` or `call *slot(%rip)`.
    pub(super) fn slot_of_call(&self, text: &Text<'_>, site: u64) -> Option<u64> {
        let [0xff, 0x15, slot @ ..] = text.file(site, 6)? else { return None };
        let slot = little_endian(slot) as u32;
        Some(match self.width() {
            Width::Bits64 => {
                site.wrapping_add(6).wrapping_add_signed(i64::from(slot.cast_signed()))
            }
            Width::Bits32 => u64::from(slot),
        })
    }
}

/// Functions of `pv_ops` that older kernels replace by their instructions.
type NativeSequence = (Option<Width>, &'static [&'static str], &'static [u8]);
const NATIVE_SEQUENCES: &[NativeSequence] = &[
    (None, &["native_irq_disable"], &[0xfa]),
    (None, &["native_irq_enable"], &[0xfb]),
    (None, &["native_save_fl"], &[0x9c, 0x58]),
    (Some(Width::Bits64), &["native_restore_fl"], &[0x57, 0x9d]),
    (Some(Width::Bits32), &["native_restore_fl"], &[0x50, 0x9d]),
    (Some(Width::Bits64), &["native_read_cr2"], &[0x0f, 0x20, 0xd0]),
    (Some(Width::Bits64), &["__native_read_cr3", "native_read_cr3"], &[0x0f, 0x20, 0xd8]),
    (Some(Width::Bits64), &["native_write_cr3"], &[0x0f, 0x22, 0xdf]),
    (Some(Width::Bits64), &["native_wbinvd"], &[0x0f, 0x09]),
    (Some(Width::Bits64), &["native_swapgs"], &[0x0f, 0x01, 0xf8]),
    (Some(Width::Bits64), &["native_usergs_sysret64"], &[0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07]),
    (Some(Width::Bits64), &["_paravirt_ident_64", "paravirt_ident_64"], &[0x48, 0x89, 0xf8]),
    (
        Some(Width::Bits64),
        &["__raw_callee_save___native_queued_spin_unlock", "__native_queued_spin_unlock"],
        &[0xc6, 0x07, 0x00],
    ),
    (
        Some(Width::Bits32),
        &["__raw_callee_save___native_queued_spin_unlock", "__native_queued_spin_unlock"],
        &[0xc6, 0x00, 0x00],
    ),
    (
        None,
        &["__raw_callee_save___native_vcpu_is_preempted", "__native_vcpu_is_preempted"],
        &[0x31, 0xc0],
    ),
];
