//! Instructions that lack a record.

use std::collections::{BTreeMap, HashMap};

use iced_x86::{FlowControl, Instruction, OpKind, Register};

use super::built_with::{BuiltWith, INDIRECT_THUNK, RETURN_THUNK};
use super::code_kinds::{CodeKind, CodeKinds};
use super::finding::{AuditFinding, AuditKind};
use crate::disassemble::branch_target;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::tables::TableKind;

/// The tables of which one has each direct call.
const CALLS: &[TableKind] = &[TableKind::Calls, TableKind::StaticCalls];

/// The search for instructions that lack a record.
pub(super) struct Branches<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    built_with: BuiltWith,
    code_kinds: &'a CodeKinds<'a, 'd>,
    /// The tables that have a record for an address, of those that name single instructions.
    recorded: HashMap<u64, Vec<TableKind>>,
    /// The ranges that alternatives and paravirt calls replace as a whole, sorted, none inside of
    /// another.
    replaced: Vec<(u64, u64)>,
    /// The thunks for indirect branches and returns, sorted by address.
    thunks: HashMap<u64, AuditKind>,
    /// The addresses of `pv_ops`, with the one behind them.
    pv_ops: Option<(u64, u64)>,
    tracer: Option<u64>,
    findings: Vec<AuditFinding>,
    exempt: BTreeMap<AuditKind, usize>,
}

impl<'a, 'd> Branches<'a, 'd> {
    pub(super) fn new(
        kernel: &'a LinuxKernel<'d>,
        built_with: BuiltWith,
        code_kinds: &'a CodeKinds<'a, 'd>,
    ) -> Self {
        let mut recorded: HashMap<u64, Vec<TableKind>> = HashMap::new();
        let mut ranges = Vec::new();
        for table in &kernel.tables {
            for record in &table.records {
                match table.kind {
                    TableKind::Alternatives | TableKind::Paravirt => {
                        ranges.push((record.site, record.site + u64::from(record.length)));
                    }
                    kind => recorded.entry(record.site).or_default().push(kind),
                }
            }
        }
        ranges.sort_unstable();
        let mut replaced: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match replaced.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => replaced.push((start, end)),
            }
        }
        let names = &kernel.names;
        let mut thunks: HashMap<u64, AuditKind> = HashMap::new();
        thunks.extend(names.with_prefix(INDIRECT_THUNK).filter_map(|(address, register)| {
            // The array of all of them is the first of them.
            (register != "array").then_some((address, AuditKind::IndirectThunk))
        }));
        thunks.extend(names.address(RETURN_THUNK).map(|at| (at, AuditKind::ReturnThunk)));
        let pv_ops = names.address("pv_ops").map(|start| (start, names.next(start)));
        let tracer = names.address("__fentry__");
        let (findings, exempt) = (vec![], BTreeMap::new());
        Self {
            kernel,
            built_with,
            code_kinds,
            recorded,
            replaced,
            thunks,
            pv_ops,
            tracer,
            findings,
            exempt,
        }
    }

    /// Looks at the instruction at an address.
    pub(super) fn instruction(&mut self, at: u64, instruction: &Instruction) {
        let kind: Option<(AuditKind, &[TableKind])> = match instruction.flow_control() {
            FlowControl::IndirectCall | FlowControl::IndirectBranch => self.indirect(instruction),
            // IRET, SYSRET and their like are returns to somewhere else.
            FlowControl::Return if is_near_return(instruction) => {
                self.built_with.return_thunks.then_some((AuditKind::Return, &[TableKind::Returns]))
            }
            FlowControl::Call
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch => {
                branch_target(instruction).and_then(|target| self.direct(instruction, target))
            }
            _ => None,
        };
        let Some((kind, tables)) = kind else { return };
        let has_record = || {
            let named = self.recorded.get(&at);
            named.is_some_and(|kinds| kinds.iter().any(|kind| tables.contains(kind)))
                || self.is_replaced(at)
        };
        if has_record() {
            return;
        }
        if self.code_kinds.of(at) != CodeKind::Text {
            *self.exempt.entry(kind).or_default() += 1;
            return;
        }
        self.findings.push(AuditFinding::new(self.kernel, kind, at, self.words(kind, instruction)));
    }

    /// Returns what an indirect branch is if it has no record, and the table that can have one.
    fn indirect(&self, instruction: &Instruction) -> Option<(AuditKind, &'static [TableKind])> {
        if self.pv_slot(instruction).is_some() && self.built_with.paravirt {
            return Some((AuditKind::ParavirtCall, &[TableKind::Paravirt]));
        }
        // A far branch has no thunk.
        let is_far = matches!(instruction.op0_kind(), OpKind::FarBranch16 | OpKind::FarBranch32)
            || instruction.is_call_far_indirect()
            || instruction.is_jmp_far_indirect();
        (self.built_with.retpolines && !is_far)
            .then_some((AuditKind::IndirectBranch, &[TableKind::Retpolines]))
    }

    /// Returns the same for a direct branch.
    fn direct(
        &self,
        instruction: &Instruction,
        target: u64,
    ) -> Option<(AuditKind, &'static [TableKind])> {
        match self.thunks.get(&target) {
            Some(AuditKind::ReturnThunk) => {
                return self
                    .built_with
                    .return_thunks
                    .then_some((AuditKind::ReturnThunk, &[TableKind::Returns]));
            }
            Some(&kind) => {
                return self
                    .built_with
                    .retpoline_records
                    .then_some((kind, &[TableKind::Retpolines]));
            }
            None => {}
        }
        let is_counted = instruction.flow_control() == FlowControl::Call
            && self.built_with.counted_calls
            && self.tracer != Some(target)
            && !self.is_inside(instruction.ip(), target);
        is_counted.then_some((AuditKind::DirectCall, CALLS))
    }

    /// Returns the slot of `pv_ops` through which an instruction calls or jumps.
    fn pv_slot(&self, instruction: &Instruction) -> Option<u64> {
        let (start, end) = self.pv_ops?;
        let is_plain = instruction.op0_kind() == OpKind::Memory
            && matches!(instruction.memory_base(), Register::None | Register::RIP)
            && instruction.memory_index() == Register::None;
        let slot = instruction.memory_displacement64();
        (is_plain && (start..end).contains(&slot)).then_some(slot)
    }

    /// Returns whether an alternative or a paravirt call replaces what is at an address.
    fn is_replaced(&self, at: u64) -> bool {
        let behind = self.replaced.partition_point(|&(start, _)| start <= at);
        let before = behind.checked_sub(1).and_then(|before| self.replaced.get(before));
        before.is_some_and(|&(_, end)| at < end)
    }

    fn words(&self, kind: AuditKind, instruction: &Instruction) -> String {
        match (kind, self.pv_slot(instruction)) {
            (AuditKind::ParavirtCall, Some(slot)) => {
                format!("goes through {}, and no record says so", self.kernel.names.place(slot))
            }
            _ => String::new(),
        }
    }

    /// Returns whether a call leads into its own function, as one does that only wants its return
    /// address.
    fn is_inside(&self, at: u64, target: u64) -> bool {
        let start = |address| Some(address - self.kernel.names.function(address)?.1);
        start(at).is_some_and(|own| start(target) == Some(own) && own != target)
    }

    /// Returns what was found, and how many of each kind need no record.
    pub(super) fn finish(self) -> (Vec<AuditFinding>, BTreeMap<AuditKind, usize>) {
        (self.findings, self.exempt)
    }
}

/// Returns whether an instruction is RET with or without an immediate, and not a far one.
fn is_near_return(instruction: &Instruction) -> bool {
    use iced_x86::Code::{Retnd, Retnd_imm16, Retnq, Retnq_imm16, Retnw, Retnw_imm16};

    matches!(instruction.code(), Retnd | Retnd_imm16 | Retnq | Retnq_imm16 | Retnw | Retnw_imm16)
}
