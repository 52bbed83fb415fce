//! Indirect branches and returns, which go through thunks where a mitigation needs it.

use iced_x86::{Code, Instruction};

use super::Rules;
use super::code::{branch, decode};
use super::habits::BranchFilling;
use crate::disassemble::LONGEST_INSTRUCTION;
use crate::inspect::linux::features::feature;
use crate::inspect::linux::names::Names;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The thunk for returns, and the variable that says which one returns go through.
pub(super) const RETURN_THUNK: &str = "__x86_return_thunk";
const RETURN_THUNK_NOW: &str = "x86_return_thunk";

/// The most prefixes that fill the site of an indirect call.
const MOST_PREFIXES: usize = 3;

impl Rules<'_, '_> {
    /// Writes retpolines: where the thunks are not needed, the indirect branch itself.
    pub(in crate::inspect::linux) fn retpolines(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::Retpolines) {
            let code = text.onwards(record.site, LONGEST_INSTRUCTION);
            let Some(instruction) = decode(self.width(), record.site, code) else { continue };
            let len = instruction.len();
            let cause = Cause::Record(TableKind::Retpolines, Depends::Mitigation);
            let features = [feature::RETPOLINE, feature::RETPOLINE_LFENCE];
            self.answer_by(&features, text, record.site, len as u64, cause);
            let Some(register) = thunk_register(self.names, instruction.near_branch_target())
            else {
                continue;
            };
            if let Some(tracked) = self.tracked_thunk(&instruction, register, record.site) {
                text.write(record.site, &tracked);
                continue;
            }
            let lfence = self.has(feature::RETPOLINE_LFENCE) == Some(true);
            if self.has(feature::RETPOLINE) != Some(false) && !lfence {
                continue;
            }
            let mut bytes = Vec::with_capacity(16);
            let mut jump = instruction.code() != Code::Call_rel32_64
                && instruction.code() != Code::Call_rel32_32;
            if instruction.is_jcc_short_or_near() {
                // The opposite condition jumps over the indirect jump.
                let condition = text.expected(record.site + 1, 1).map_or(0, |byte| byte[0] & 0xf);
                bytes.extend([0x70 | (condition ^ 1), (len - 2) as u8]);
                jump = true;
            }
            if lfence {
                bytes.extend([0x0f, 0xae, 0xe8]);
            }
            let mut indirect = vec![0x41; usize::from(register >> 3)];
            indirect.extend([0xff, if jump { 0xe0 } else { 0xd0 } | (register & 7)]);
            // None is left if it does not fit.
            let left = len.saturating_sub(bytes.len() + indirect.len());
            match self.habits.branch_filling {
                BranchFilling::Prefixes if jump => indirect.extend(vec![0xcc; left]),
                BranchFilling::Prefixes if left <= MOST_PREFIXES => {
                    bytes.extend(vec![0x2e; left]);
                }
                BranchFilling::Int3 if jump && left > 0 => indirect.push(0xcc),
                _ => {}
            }
            bytes.extend(indirect);
            if bytes.len() > len {
                // It does not fit, and stays.
                continue;
            }
            bytes.resize(len, 0x90);
            self.optimize(record.site, &mut bytes);
            text.write(record.site, &bytes);
        }
    }

    /// Returns the branch that a retpoline becomes while the kernel counts calls.
    fn tracked_thunk(&self, of: &Instruction, register: u8, site: u64) -> Option<Vec<u8>> {
        self.call_template()?;
        if self.has(feature::RETPOLINE) != Some(true)
            || self.has(feature::RETPOLINE_LFENCE) != Some(false)
            || of.is_jcc_short_or_near()
        {
            return None;
        }
        let is_call = of.is_call_near();
        let array = match is_call {
            true => "__x86_indirect_call_thunk_array",
            false => "__x86_indirect_jump_thunk_array",
        };
        let thunk = self.names.address(array)? + u64::from(register) * 32;
        // A prefix makes it as long as it was.
        let mut bytes = vec![0x2e; of.len().checked_sub(5)?];
        let opcode = if is_call { 0xe8 } else { 0xe9 };
        bytes.extend(branch(opcode, site + bytes.len() as u64, thunk));
        Some(bytes)
    }

    /// Returns where a return at an address goes: `None` for the instruction itself. One thunk is
    /// against a fault that only returns in the lower half of a cache line have.
    pub(super) fn return_thunk(&self, address: u64) -> Option<u64> {
        if self.has(feature::RETHUNK) != Some(true) {
            return None;
        }
        let now = self.names.address(RETURN_THUNK_NOW).and_then(|at| self.state.target(at));
        let thunk = now.or_else(|| self.names.address(RETURN_THUNK))?;
        let lower_half_only = self.names.is_one_of(thunk, &["its_return_thunk"]);
        (!lower_half_only || address & 0x20 == 0).then_some(thunk)
    }

    /// Writes returns: the instruction, or a jump to the thunk that the kernel has chosen.
    pub(in crate::inspect::linux) fn returns(&self, text: &mut Text<'_>) {
        let default = self.names.address(RETURN_THUNK);
        for record in self.records(TableKind::Returns) {
            let code = text.onwards(record.site, LONGEST_INSTRUCTION);
            let Some(instruction) = decode(self.width(), record.site, code) else { continue };
            let len = instruction.len();
            let cause = Cause::Record(TableKind::Returns, Depends::Mitigation);
            self.answer_by(&[feature::RETHUNK], text, record.site, len as u64, cause);
            // Anything else is left alone.
            if default.is_none_or(|default| instruction.near_branch_target() != default) {
                continue;
            }
            let mut bytes = match self.return_thunk(record.site) {
                Some(thunk) => branch(0xe9, record.site, thunk).to_vec(),
                None => vec![0xc3],
            };
            bytes.resize(len, 0xcc);
            text.write(record.site, &bytes);
        }
    }
}

/// Returns the register that a thunk for indirect branches jumps to.
pub(in crate::inspect::linux) fn thunk_register(names: &Names, thunk: u64) -> Option<u8> {
    const PREFIX: &str = "__x86_indirect_thunk_";
    let name = names.at(thunk).find_map(|name| {
        let register = name.strip_prefix(PREFIX)?;
        REGISTERS.iter().position(|names| names.contains(&register))
    });
    // Thunks lie 32 bytes from each other.
    let by_place = || {
        let distance = thunk.checked_sub(names.address("__x86_indirect_thunk_array")?)?;
        Some(usize::try_from(distance / 32).ok()?).filter(|_| distance % 32 == 0)
    };
    let register = name.or_else(by_place)?;
    u8::try_from(register).ok().filter(|&register| register < 16 && register != 4)
}

/// The registers by their numbers, as thunks are named after them.
const REGISTERS: [&[&str]; 16] = [
    &["rax", "eax"],
    &["rcx", "ecx"],
    &["rdx", "edx"],
    &["rbx", "ebx"],
    &["rsp", "esp"],
    &["rbp", "ebp"],
    &["rsi", "esi"],
    &["rdi", "edi"],
    &["r8"],
    &["r9"],
    &["r10"],
    &["r11"],
    &["r12"],
    &["r13"],
    &["r14"],
    &["r15"],
];
