//! The rules by which Linux patches its text, in the order in which it does it at boot: paravirt
//! calls, retpolines, returns, alternatives, sealed ENDBRs, LOCK prefixes, constants; then what can
//! change at any time: static calls, jump labels, the tracer.
//!
//! A rule writes what the kernel writes into the expected text and answers for the site, changed
//! or not. Kernels of different age do it differently in a few points, which are in [`Habits`].
//! Which habits a kernel has shows in its text; they are chosen once for the whole kernel, so that
//! no single site can be explained by a habit of its own.

use iced_x86::{Code, Instruction};

use super::names::Names;
use super::nops::NopFamily;
use super::state::{State, feature};
use super::tables::{KernelTable, TableKind, TableRecord};
use super::text::{Cause, Depends, Text};
use crate::disassemble::decoder;
use crate::insn::Width;
use crate::inspect::elf::{Image, little_endian};

/// The way in which alternatives are put in and filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Only padding becomes longer NOPs; a first CALL or JMP is relocated. Records have 13 bytes.
    Padding,
    /// All runs of one-byte NOPs become longer ones. Records have 12 bytes.
    Runs,
    /// NOPs of any length in a row become one, or a jump over INT3; every branch and every operand
    /// relative to the instruction pointer is relocated. Records have 14 bytes.
    Instructions,
}

/// The points in which kernels of different age differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    pub filling: Filling,
    pub nops: &'static NopFamily,
    /// Whether a call of a native function in `pv_ops` becomes its instructions.
    pub native_sequences: bool,
    /// Whether an INT3 follows a jump that was a retpoline.
    pub int3_behind_jump: bool,
    /// What a sealed ENDBR becomes.
    pub sealed_endbr: [u8; 4],
}

/// The forms of a sealed ENDBR: NOPs of four bytes that nothing else uses.
pub(crate) const SEALED_ENDBR: &[[u8; 4]] = &[[0x66, 0x0f, 0x1f, 0x00], [0x0f, 0x1f, 0x40, 0xd6]];

impl Habits {
    /// Returns the length of the longest NOP of one instruction.
    fn longest(&self, width: Width) -> usize {
        match (self.filling, width) {
            (Filling::Instructions, Width::Bits64) => 11,
            _ => 8,
        }
    }
}

/// The rules of one kernel, with all that they need to know.
#[derive(Debug)]
pub(crate) struct Rules<'a, 'd> {
    pub image: &'a Image<'d>,
    pub names: &'a Names,
    pub tables: &'a [KernelTable],
    pub state: &'a State<'a, 'a>,
    pub habits: Habits,
}

/// The instruction that counts a call: `sarq $5, %gs:…(%rip)`.
const COUNT_CALL: &[u8] = &[0x65, 0x48, 0xc1, 0x3d, 0, 0, 0, 0, 5];

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// The thunk for returns, and the variable that says which one returns go through.
const RETURN_THUNK: &str = "__x86_return_thunk";
const RETURN_THUNK_NOW: &str = "x86_return_thunk";

/// Flags of an alternative: it is for CPUs without the feature; it is a call through `pv_ops`.
const NOT: u16 = 1;
const DIRECT_CALL: u16 = 2;
/// The flag for CPUs without the feature, where records have no flags.
const NOT_IN_NUMBER: u16 = 1 << 15;

impl Rules<'_, '_> {
    fn records(&self, kind: TableKind) -> impl Iterator<Item = &TableRecord> {
        self.tables.iter().filter(move |table| table.kind == kind).flat_map(|table| &table.records)
    }

    fn width(&self) -> Width {
        self.state.width
    }

    /// Applies every rule.
    pub(crate) fn apply(&self, text: &mut Text<'_>) {
        self.paravirt(text);
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
        self.tracer(text);
    }

    /// Writes calls through `pv_ops`: a direct call of the function that is in the slot, NOPs for
    /// the function that does nothing, in older kernels the instructions of a native function.
    pub(crate) fn paravirt(&self, text: &mut Text<'_>) {
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

    /// Writes retpolines: where the thunks are not needed, the indirect branch itself.
    pub(crate) fn retpolines(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::Retpolines) {
            let code = text.onwards(record.site, 15);
            let Some(instruction) = decode(self.width(), record.site, code) else { continue };
            let len = instruction.len();
            text.answer(
                record.site,
                len as u64,
                Cause::Record(TableKind::Retpolines, Depends::Mitigation),
            );
            let Some(register) = self.thunk_register(instruction.near_branch_target()) else {
                continue;
            };
            if let Some(tracked) = self.tracked_thunk(&instruction, register, record.site) {
                text.write(record.site, &tracked);
                continue;
            }
            let lfence = self.state.has(feature::RETPOLINE_LFENCE) == Some(true);
            if self.state.has(feature::RETPOLINE) != Some(false) && !lfence {
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
            if register >= 8 {
                bytes.push(0x41);
            }
            bytes.extend([0xff, if jump { 0xe0 } else { 0xd0 } | (register & 7)]);
            if jump && self.habits.int3_behind_jump && bytes.len() < len {
                bytes.push(0xcc);
            }
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
        if self.state.has(feature::RETPOLINE) != Some(true)
            || self.state.has(feature::RETPOLINE_LFENCE) != Some(false)
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

    /// Returns the address and the bytes of the instruction that counts a call, if this kernel
    /// counts calls. The instruction has a displacement at its fourth byte.
    fn call_template(&self) -> Option<(u64, &'static [u8], u32)> {
        if self.state.has(feature::CALL_DEPTH) != Some(true) {
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
    pub(crate) fn calls(&self, text: &mut Text<'_>) {
        if self.call_template().is_none() {
            return;
        }
        // Calls in code that is freed after boot are left alone.
        let end = self.names.address("_etext").unwrap_or(u64::MAX);
        for kind in [TableKind::Calls, TableKind::Alternatives] {
            for record in self.records(kind).filter(|record| record.site < end) {
                let Some(&[0xe8, a, b, c, d]) = text.expected(record.site, 5) else { continue };
                let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
                let function = record.site.wrapping_add(5).wrapping_add_signed(distance);
                let counted = self.counted(text, function);
                if counted != function {
                    if kind == TableKind::Calls {
                        let cause = Cause::Record(kind, Depends::Mitigation);
                        text.answer(record.site, 5, cause);
                    }
                    text.write(record.site, &branch(0xe8, record.site, counted));
                }
            }
        }
    }

    /// Writes the instruction that counts calls in front of a function, and returns its address;
    /// the function's own if its calls are not counted.
    fn counted(&self, text: &mut Text<'_>, function: u64) -> u64 {
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
                text.answer(padding, counts.len() as u64, cause);
                padding
            }
            _ => function,
        }
    }

    /// Returns the register that a thunk for indirect branches jumps to.
    fn thunk_register(&self, thunk: u64) -> Option<u8> {
        const PREFIX: &str = "__x86_indirect_thunk_";
        let name = self.names.at(thunk).find_map(|name| {
            let register = name.strip_prefix(PREFIX)?;
            REGISTERS.iter().position(|names| names.contains(&register))
        });
        // Thunks lie 32 bytes from each other.
        let by_place = || {
            let distance = thunk.checked_sub(self.names.address("__x86_indirect_thunk_array")?)?;
            Some(usize::try_from(distance / 32).ok()?).filter(|_| distance % 32 == 0)
        };
        let register = name.or_else(by_place)?;
        u8::try_from(register).ok().filter(|&register| register < 16 && register != 4)
    }

    /// Returns where a return at an address goes: `None` for the instruction itself. One thunk is
    /// against a fault that only returns in the lower half of a cache line have.
    fn return_thunk(&self, address: u64) -> Option<u64> {
        if self.state.has(feature::RETHUNK) != Some(true) {
            return None;
        }
        let now = self.names.address(RETURN_THUNK_NOW).and_then(|at| self.state.target(at));
        let thunk = now.or_else(|| self.names.address(RETURN_THUNK))?;
        let lower_half_only = self.names.is_one_of(thunk, &["its_return_thunk"]);
        (!lower_half_only || address & 0x20 == 0).then_some(thunk)
    }

    /// Writes returns: the instruction, or a jump to the thunk that the kernel has chosen.
    pub(crate) fn returns(&self, text: &mut Text<'_>) {
        let default = self.names.address(RETURN_THUNK);
        for record in self.records(TableKind::Returns) {
            let code = text.onwards(record.site, 15);
            let Some(instruction) = decode(self.width(), record.site, code) else { continue };
            let len = instruction.len();
            text.answer(
                record.site,
                len as u64,
                Cause::Record(TableKind::Returns, Depends::Mitigation),
            );
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

    /// Writes alternatives, in the order of the table: a later record overwrites an earlier one.
    pub(crate) fn alternatives(&self, text: &mut Text<'_>) {
        let records: Vec<&TableRecord> = self.records(TableKind::Alternatives).collect();
        // Records of one site stand in a row; each has the length of the longest.
        let of_one_site = records.chunk_by(|a, b| a.site == b.site);
        let with_length = of_one_site.flat_map(|group| {
            let length = group.iter().map(|record| record.length).max().unwrap_or(0);
            group.iter().map(move |&&record| TableRecord { length, ..record })
        });
        for record in with_length {
            let (number, absent) = match record.number & NOT_IN_NUMBER {
                0 => (record.number, record.flags & NOT != 0),
                _ => (record.number & !NOT_IN_NUMBER, true),
            };
            let cause = Cause::Record(TableKind::Alternatives, Depends::Feature(number, absent));
            text.answer(record.site, u64::from(record.length), cause);
            // Without the features nothing is written, and every difference is unexplained.
            let Some(has) = self.state.has(number) else { continue };
            if has == absent {
                self.not_replaced(text, &record);
            } else {
                self.replace(text, &record);
            }
        }
    }

    /// Writes a site whose replacement does not apply: its NOPs become longer ones.
    fn not_replaced(&self, text: &mut Text<'_>, record: &TableRecord) {
        let length = usize::from(record.length);
        let Some(bytes) = text.expected(record.site, length) else { return };
        let mut bytes = bytes.to_vec();
        match self.habits.filling {
            Filling::Padding => {
                let padding = usize::from(record.padding);
                // The bytes that are looked at are those at the start, so only a site of nothing
                // but padding is changed.
                let only_nops =
                    bytes.get(..padding).is_some_and(|start| start.iter().all(|&b| b == 0x90));
                if padding > 1
                    && only_nops
                    && let Some(end) = bytes.get_mut(length - padding..)
                {
                    self.habits.nops.fill(end, 8);
                }
            }
            Filling::Runs | Filling::Instructions => self.optimize(record.site, &mut bytes),
        }
        text.write(record.site, &bytes);
    }

    /// Writes the replacement of a site.
    fn replace(&self, text: &mut Text<'_>, record: &TableRecord) {
        let (length, used) = (usize::from(record.length), usize::from(record.other_length));
        let Some(replacement) = text.expected(record.other, used) else { return };
        let mut bytes = replacement.to_vec();
        let moved = record.other.wrapping_sub(record.site);
        match self.habits.filling {
            Filling::Padding | Filling::Runs => {
                match bytes.first() {
                    Some(0xe8) if used == 5 => add_to(&mut bytes, 1, 4, moved),
                    Some(0xe9) if used == 5 => self.jump_from(record.site, moved, &mut bytes),
                    _ => {}
                }
                if self.habits.filling == Filling::Padding {
                    bytes.resize(length, 0x90);
                    if let Some(rest) = bytes.get_mut(used..) {
                        self.habits.nops.fill(rest, 8);
                    }
                } else {
                    bytes.resize(length, 0x90);
                    self.optimize(record.site, &mut bytes);
                }
            }
            Filling::Instructions => {
                if record.flags & DIRECT_CALL != 0 {
                    match self.direct_call(text, record) {
                        Some(call) => bytes = call,
                        None => return,
                    }
                }
                bytes.resize(length, 0x90);
                self.relocate(record, &mut bytes);
                self.optimize(record.site, &mut bytes);
            }
        }
        text.write(record.site, &bytes);
    }

    /// Returns the direct call that a call through `pv_ops` becomes, as it would be at the place of
    /// the replacement; nothing for the function that does nothing.
    fn direct_call(&self, text: &Text<'_>, record: &TableRecord) -> Option<Vec<u8>> {
        let slot = self.slot_of_call(text, record.site)?;
        let function = match self.state.target(slot)? {
            0 => self.names.address("BUG_func")?,
            function => function,
        };
        if self.names.is_one_of(function, &["nop_func"]) {
            return Some(vec![]);
        }
        Some(branch(0xe8, record.other, function).to_vec())
    }

    /// Returns the address in the file of the slot through which the file has a call at a site:
    /// `call *slot` or `call *slot(%rip)`.
    fn slot_of_call(&self, text: &Text<'_>, site: u64) -> Option<u64> {
        let [0xff, 0x15, slot @ ..] = text.file(site, 6)? else { return None };
        let slot = little_endian(slot) as u32;
        Some(match self.width() {
            Width::Bits64 => {
                site.wrapping_add(6).wrapping_add_signed(i64::from(slot.cast_signed()))
            }
            Width::Bits32 => u64::from(slot),
        })
    }

    /// Writes a jump for its new place, as short as can be: older kernels find that a jump forward
    /// can be short, but not one backward.
    fn jump_from(&self, site: u64, moved: u64, bytes: &mut [u8]) {
        let Some(&[a, b, c, d]) = bytes.get(1..5) else { return };
        let distance = i32::from_le_bytes([a, b, c, d]);
        // From the start of the site to the target.
        let distance = i64::from(distance).wrapping_add(5).wrapping_add(moved.cast_signed());
        if (0..=129).contains(&distance) {
            let short = [0xeb, (distance - 2) as u8];
            let Some((start, rest)) = bytes.split_at_mut_checked(2) else { return };
            start.copy_from_slice(&short);
            if let Some(rest) = rest.get_mut(..3) {
                self.habits.nops.fill(rest, 8);
            }
        } else {
            let long = branch(0xe9, site, site.wrapping_add_signed(distance));
            for (to, from) in bytes.iter_mut().zip(long) {
                *to = from;
            }
        }
    }

    /// Relocates every branch and every operand that is relative to the instruction pointer, but
    /// those that lead into the replacement itself; and makes long jumps short where they can be.
    fn relocate(&self, record: &TableRecord, bytes: &mut [u8]) {
        let moved = record.other.wrapping_sub(record.site);
        let inside = |target: u64| target <= u64::from(record.other_length);
        let original = bytes.to_vec();
        // Decoded at address 0, so that targets count from the start of the replacement.
        let mut decoder = decoder(self.width(), 0, &original);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return;
            }
            let offsets = decoder.get_constant_offsets(&instruction);
            let start = instruction.ip() as usize;
            let (next, len) = (start + instruction.len(), instruction.len());
            let is_branch = instruction.is_jcc_short_or_near()
                || instruction.is_jmp_short_or_near()
                || instruction.is_call_near();
            if is_branch && offsets.has_immediate() {
                let (at, size) = (start + offsets.immediate_offset(), offsets.immediate_size());
                let field = original.get(at..at + size).unwrap_or_default();
                let distance = sign_extended(field);
                if !inside((next as u64).wrapping_add_signed(distance)) {
                    add_to(bytes, at, size, moved);
                }
                if original.get(start) == Some(&0xe9) {
                    let short = distance.wrapping_add(moved.cast_signed()).wrapping_add(3);
                    if let (Ok(short), Some(jump)) =
                        (i8::try_from(short), bytes.get_mut(start..start + len))
                    {
                        jump.fill(0xcc);
                        for (to, from) in jump.iter_mut().zip([0xeb, short.cast_unsigned()]) {
                            *to = from;
                        }
                    }
                }
            }
            if instruction.is_ip_rel_memory_operand() && offsets.has_displacement() {
                let (at, size) =
                    (start + offsets.displacement_offset(), offsets.displacement_size());
                let distance = sign_extended(original.get(at..at + size).unwrap_or_default());
                if !inside((next as u64).wrapping_add_signed(distance)) {
                    add_to(bytes, at, size, moved);
                }
            }
        }
    }

    /// Makes longer NOPs of those in `bytes`, as far as this kernel does it.
    fn optimize(&self, address: u64, bytes: &mut [u8]) {
        let longest = self.habits.longest(self.width());
        let mut at = 0;
        while at < bytes.len() {
            let code = bytes.get(at..).unwrap_or_default();
            let Some(len) = instruction_length(self.width(), address, code) else { return };
            let end = match self.habits.filling {
                Filling::Padding => return,
                Filling::Runs => at + code.iter().take_while(|&&byte| byte == 0x90).count(),
                Filling::Instructions => {
                    if !is_nop(code) {
                        at
                    } else if at + len == bytes.len() {
                        // One NOP at the end is left.
                        return;
                    } else {
                        let mut end = at;
                        while let Some(code) = bytes.get(end..).filter(|code| is_nop(code))
                            && let Some(len) = instruction_length(self.width(), address, code)
                        {
                            end += len;
                        }
                        end.min(bytes.len())
                    }
                }
            };
            if end == at {
                at += len;
                continue;
            }
            if let Some(run) = bytes.get_mut(at..end) {
                match self.habits.filling {
                    Filling::Instructions => self.habits.nops.fill_or_jump(run, longest),
                    _ => self.habits.nops.fill(run, longest),
                }
            }
            at = end;
        }
    }

    /// Writes the ENDBR of functions that nothing calls indirectly.
    pub(crate) fn endbr(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::Endbr) {
            text.answer(record.site, 4, Cause::Record(TableKind::Endbr, Depends::Boot));
            if text.expected(record.site, 4) == Some(&ENDBR64) {
                text.write(record.site, &self.habits.sealed_endbr);
            }
        }
    }

    /// Writes LOCK prefixes: with one CPU they are DS prefixes.
    pub(crate) fn smp_locks(&self, text: &mut Text<'_>) {
        let variable = self.names.address("uniproc_patched");
        let known = variable.and_then(|variable| self.state.located.bytes(variable, 1));
        let cause = Cause::Record(TableKind::SmpLocks, Depends::Cpus);
        let alone = known.map_or_else(
            || {
                // All are of one kind, so what most of them are decides.
                let bytes = self.records(TableKind::SmpLocks);
                let bytes = bytes.filter_map(|record| self.state.located.bytes(record.site, 1));
                let (alone, all) = bytes.fold((0, 0), |(alone, all), byte| {
                    (alone + usize::from(byte == [0x3e]), all + 1)
                });
                alone * 2 > all
            },
            |is| is != [0],
        );
        for record in self.records(TableKind::SmpLocks) {
            match known {
                Some(_) => text.answer(record.site, 1, cause),
                None => text.answer_undecided(record.site, 1, cause),
            }
            if alone && text.expected(record.site, 1) == Some(&[0xf0]) {
                text.write(record.site, &[0x3e]);
            }
        }
    }

    /// Writes constants that are known when the kernel has started: the section's name has the
    /// name of the variable.
    pub(crate) fn runtime_constants(&self, text: &mut Text<'_>) {
        for table in self.tables {
            let (prefix, len) = match table.kind {
                TableKind::RuntimePointers => ("runtime_ptr_", 8),
                TableKind::RuntimeShifts => ("runtime_shift_", 1),
                _ => continue,
            };
            let name = table.name.strip_prefix(prefix).unwrap_or_default();
            let variable = self.names.address(name);
            // Without the variable, all sites must at least agree.
            let place = variable.or(table.records.first().map(|first| first.site));
            let Some(value) = place.and_then(|place| self.state.located.bytes(place, len)) else {
                continue;
            };
            for record in &table.records {
                match variable {
                    Some(variable) => {
                        let cause = Cause::Record(table.kind, Depends::Variable(variable));
                        text.answer(record.site, len as u64, cause);
                    }
                    None => {
                        let cause = Cause::Record(table.kind, Depends::RunTime);
                        text.answer_undecided(record.site, len as u64, cause);
                    }
                }
                text.write(record.site, value);
            }
        }
    }

    /// Writes static calls, and their trampolines: a call or a jump to the function in the key; for
    /// none, nothing or a return.
    pub(crate) fn static_calls(&self, text: &mut Text<'_>) {
        const TAIL: u8 = 1;
        for record in self.records(TableKind::StaticCalls) {
            let tail = record.key_flags & TAIL != 0;
            self.static_call(text, record.site, record.key, tail, false);
        }
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
        let Some(before) = text.expected(site, 6) else { return };
        // A jump on a condition keeps the condition.
        if let [0x0f, condition @ 0x80..=0x8f, ..] = *before {
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
            (_, false) => branch(0xe8, site, counted),
            (function, true) => branch(0xe9, site, function),
        };
        text.write(site, &bytes);
    }

    /// Writes branches on static keys: a jump or a NOP, by what the key is now.
    pub(crate) fn jump_labels(&self, text: &mut Text<'_>) {
        const INVERTED: u8 = 1;
        for record in self.records(TableKind::JumpLabels) {
            let Some(enabled) = self.state.number(record.key) else { continue };
            let jumps = (enabled != 0) != (record.key_flags & INVERTED != 0);
            let code = text.onwards(record.site, 15);
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

    /// Writes calls of the tracer, which are NOPs while nothing is traced.
    pub(crate) fn ftrace(&self, text: &mut Text<'_>) {
        for record in self.records(TableKind::Ftrace) {
            text.answer(record.site, 5, Cause::Record(TableKind::Ftrace, Depends::RunTime));
            text.write(record.site, &self.atomic_nop());
        }
    }

    /// Writes the places where the tracer calls the function that traces.
    pub(crate) fn tracer(&self, text: &mut Text<'_>) {
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

    /// Returns the NOP of five bytes that is one instruction.
    fn atomic_nop(&self) -> [u8; 5] {
        match self.habits.nops.name {
            "k8" => [0x66, 0x66, 0x66, 0x66, 0x90],
            "intel" | "generic" | "k7" => [0x3e, 0x8d, 0x74, 0x26, 0],
            _ => [0x0f, 0x1f, 0x44, 0, 0],
        }
    }
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

/// Returns a CALL (0xe8) or JMP (0xe9) of five bytes at `site`.
pub(crate) fn branch(opcode: u8, site: u64, target: u64) -> [u8; 5] {
    let distance = target.wrapping_sub(site.wrapping_add(5)) as u32;
    let [a, b, c, d] = distance.to_le_bytes();
    [opcode, a, b, c, d]
}

/// Adds to a little-endian number in bytes.
fn add_to(bytes: &mut [u8], at: usize, size: usize, distance: u64) {
    if let Some(field) = bytes.get_mut(at..at + size) {
        let sum = sign_extended(field).cast_unsigned().wrapping_add(distance);
        for (to, from) in field.iter_mut().zip(sum.to_le_bytes()) {
            *to = from;
        }
    }
}

/// Returns a little-endian number of at most eight bytes, sign-extended.
fn sign_extended(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len().clamp(1, 8) as u32;
    (little_endian(bytes) << unused).cast_signed() >> unused
}

/// Decodes the first instruction, or returns `None` if it is none.
pub(crate) fn decode(width: Width, address: u64, code: &[u8]) -> Option<Instruction> {
    let instruction = decoder(width, address, code).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Returns the length of the first instruction.
pub(crate) fn instruction_length(width: Width, address: u64, code: &[u8]) -> Option<usize> {
    decode(width, address, code).map(|instruction| instruction.len())
}

/// Returns whether code begins with a NOP that newer kernels take for one: 0x90 or NOPL, with
/// prefixes but not with REP.
fn is_nop(code: &[u8]) -> bool {
    let prefixes = code.iter().take_while(|byte| matches!(byte, 0x66 | 0x2e | 0x3e)).count();
    matches!(code.get(prefixes..), Some([0x90, ..] | [0x0f, 0x1f, ..]))
}
