//! Direct calls while the kernel counts calls ("call depth tracking").

use super::Rules;
use super::code::{branch, target_of_branch};
use crate::inspect::elf::little_endian;
use crate::inspect::linux::features::feature;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The instruction that counts a call: `sarq $5, %gs:…(%rip)`.
const COUNT_CALL: &[u8] = &[0x65, 0x48, 0xc1, 0x3d, 0, 0, 0, 0, 5];

impl Rules<'_, '_> {
    /// Returns the address and the bytes of the instruction that counts a call, if this kernel
    /// counts calls. The instruction has a displacement at its fourth byte.
    pub(super) fn call_template(&self) -> Option<(u64, &'static [u8], u32)> {
        if self.has(feature::CALL_DEPTH) != Some(true) {
            return None;
        }
        let template = self.names.address("skl_call_thunk_template")?;
        let seen = self.state.located.bytes(template, COUNT_CALL.len())?;
        let file = self.image.bytes_at(template, COUNT_CALL.len() as u64)?;
        let displacement = |bytes: &[u8]| Some(little_endian(bytes.get(4..8)?) as u32);
        let (seen, file) = (displacement(seen)?, displacement(file)?);
        // It leads to data of each CPU, which moves with the kernel or does not.
        let moved = file.wrapping_sub(self.state.located.slide as u32);
        (seen == file || seen == moved).then_some((template, COUNT_CALL, seen))
    }

    /// Writes direct calls while the kernel counts calls: the instruction that counts is put into
    /// the padding in front of each function that is called, and the call goes there.
    pub(super) fn calls(&self, text: &mut Text<'_>) {
        if self.call_template().is_none() {
            return;
        }
        // Calls in code that is freed after boot are left alone.
        let end = self.names.address("_etext").unwrap_or(u64::MAX);
        for kind in [TableKind::Calls, TableKind::Alternatives] {
            for record in self.records(kind).filter(|record| record.site < end) {
                let call = text.expected(record.site, 5).filter(|call| call.first() == Some(&0xe8));
                let Some(function) = call.and_then(|call| target_of_branch(record.site, call))
                else {
                    continue;
                };
                let counted = self.counted(text, function);
                if counted != function {
                    if kind == TableKind::Calls {
                        let cause = Cause::Record(kind, Depends::Mitigation);
                        self.answer_by(&[feature::CALL_DEPTH], text, record.site, 5, cause);
                    }
                    text.write(record.site, &branch(0xe8, record.site, counted));
                }
            }
        }
    }

    /// Writes the instruction that counts calls in front of a function, and returns its address;
    /// the function's own if its calls are not counted.
    pub(super) fn counted(&self, text: &mut Text<'_>, function: u64) -> u64 {
        /// Functions that run before calls can be counted, or count themselves.
        const NOT_COUNTED: &[&str] = &[
            "error_entry",
            "paranoid_entry",
            "xen_error_entry",
            "__switch_to_asm",
            "ret_from_fork",
            "soft_restart_cpu",
            "__fentry__",
        ];
        let Some((template, bytes, displacement)) = self.call_template() else { return function };
        let end = self.names.address("_etext").unwrap_or(u64::MAX);
        if function >= end || self.names.is_one_of(function, NOT_COUNTED) {
            return function;
        }
        let padding = function.wrapping_sub(bytes.len() as u64);
        let mut counts = bytes.to_vec();
        let displacement = displacement.wrapping_add(template.wrapping_sub(padding) as u32);
        if let Some(field) = counts.get_mut(4..8) {
            field.copy_from_slice(&displacement.to_le_bytes());
        }
        match text.expected(padding, counts.len()) {
            Some(there) if there == counts => padding,
            Some(there) if there.iter().all(|&byte| byte == 0x90) => {
                text.write(padding, &counts);
                let cause = Cause::Record(TableKind::Calls, Depends::Mitigation);
                let len = counts.len() as u64;
                self.answer_by(&[feature::CALL_DEPTH], text, padding, len, cause);
                padding
            }
            _ => function,
        }
    }
}
