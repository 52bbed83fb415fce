//! RecordCheck that name something else than they are for. The sweep tells which addresses are
//! instructions; each address that a record names is one of them, or is inside of one as the record's
//! kind says.

use iced_x86::{FlowControl, Instruction, Mnemonic};

use super::built_with::{INDIRECT_THUNK, RETURN_THUNK};
use super::finding::{AuditFinding, AuditKind};
use crate::disassemble::branch_target;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::tables::{TableKind, TableRecord};

/// The role that an address has in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum AddressRole {
    /// The instruction at the site.
    Site,
    /// The first byte behind the site.
    End,
    /// Where a jump label jumps.
    Target,
    /// An operand of so many bytes, with which an instruction ends.
    Operand(u64),
}

/// An address that a record names.
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    address: u64,
    role: AddressRole,
    kind: TableKind,
    record: &'a TableRecord,
}

/// The check of all records.
pub(super) struct RecordCheck<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    /// Sorted by address.
    named: Vec<Named<'a>>,
    /// Position of the first that the sweep has not passed.
    next: usize,
    /// Start and end of the instruction before.
    before: (u64, u64),
    findings: Vec<AuditFinding>,
}

impl<'a, 'd> RecordCheck<'a, 'd> {
    pub(super) fn new(kernel: &'a LinuxKernel<'d>) -> Self {
        let mut named = Vec::new();
        let mut findings = Vec::new();
        for table in &kernel.tables {
            for record in &table.records {
                let kind = table.kind;
                let mut add = |address, role| named.push(Named { address, role, kind, record });
                match kind {
                    TableKind::RuntimePointers => add(record.site, AddressRole::Operand(8)),
                    TableKind::RuntimeShifts => add(record.site, AddressRole::Operand(1)),
                    TableKind::RuntimeMasks => add(record.site, AddressRole::Operand(4)),
                    _ => add(record.site, AddressRole::Site),
                }
                match kind {
                    TableKind::Alternatives | TableKind::Paravirt => {
                        add(record.site + u64::from(record.length), AddressRole::End);
                    }
                    TableKind::JumpLabels => add(record.other, AddressRole::Target),
                    _ => {}
                }
                if kind == TableKind::Paravirt && record.length < 5 {
                    let words = format!(
                        "a record of table {} has {} bytes, and a direct call needs 5",
                        table.name, record.length
                    );
                    let kind = AuditKind::TooShort;
                    findings.push(AuditFinding::new(kernel, kind, record.site, words));
                }
            }
        }
        named.sort_by_key(|named| (named.address, named.role));
        Self { kernel, named, next: 0, before: (0, 0), findings }
    }

    /// Learns of the instruction at an address. Addresses increase.
    pub(super) fn instruction(&mut self, at: u64, instruction: &Instruction) {
        self.pass(at);
        while let Some(&named) = self.named.get(self.next).filter(|named| named.address == at) {
            self.next += 1;
            if let AddressRole::Operand(_) = named.role {
                self.not_at_instruction(&named);
            }
            if named.role == AddressRole::Site
                && let Some(wanted) = self.other_than_wanted(&named, instruction)
            {
                let words = format!("a record of {} is for {wanted}", table_name(named.kind));
                let kind = AuditKind::OtherInstruction;
                self.findings.push(AuditFinding::new(self.kernel, kind, at, words));
            }
        }
        self.before = (at, at.saturating_add(instruction.len() as u64));
    }

    /// Passes the addresses in front of one.
    fn pass(&mut self, to: u64) {
        let (start, end) = self.before;
        while let Some(&named) = self.named.get(self.next).filter(|named| named.address < to) {
            self.next += 1;
            let is_fine = match named.role {
                AddressRole::Operand(len) => {
                    start < named.address && named.address.checked_add(len) == Some(end)
                }
                // Padding can follow.
                AddressRole::End => named.address == end,
                AddressRole::Site | AddressRole::Target => false,
            };
            if !is_fine {
                self.not_at_instruction(&named);
            }
        }
    }

    fn not_at_instruction(&mut self, named: &Named<'_>) {
        let does = match named.role {
            AddressRole::Site => "names",
            AddressRole::End => "ends at",
            AddressRole::Target => "jumps to",
            AddressRole::Operand(_) => "names as an operand",
        };
        let words = format!("a record of {} {does} this address", table_name(named.kind));
        let kind = AuditKind::NotAtInstruction;
        self.findings.push(AuditFinding::new(self.kernel, kind, named.address, words));
    }

    /// Returns what should be at a site instead, if something else is there.
    fn other_than_wanted(
        &self,
        named: &Named<'_>,
        instruction: &Instruction,
    ) -> Option<&'static str> {
        let flow = instruction.flow_control();
        let names = &self.kernel.names;
        let target = branch_target(instruction);
        let goes_to = |prefix: &str| {
            target.is_some_and(|target| {
                // Without names every target can be the thunk.
                names.is_empty() || names.at(target).any(|name| name.starts_with(prefix))
            })
        };
        let is_nop = matches!(instruction.mnemonic(), Mnemonic::Nop)
            || instruction.mnemonic() == Mnemonic::Lea
            || instruction.mnemonic() == Mnemonic::Xchg;
        let is_call = flow == FlowControl::Call;
        let is_branch = is_call
            || matches!(flow, FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch);
        let (is_wanted, wanted) = match named.kind {
            TableKind::Paravirt => (
                is_call || matches!(flow, FlowControl::IndirectCall | FlowControl::IndirectBranch),
                "a call or jump through pv_ops",
            ),
            TableKind::JumpLabels => (
                matches!(instruction.len(), 2 | 5)
                    && (is_nop
                        || flow == FlowControl::UnconditionalBranch
                            && target == Some(named.record.other)),
                "a NOP, or a jump to the record's target",
            ),
            TableKind::StaticCalls => {
                (matches!(instruction.len(), 5 | 6) && is_branch, "a direct call or jump")
            }
            TableKind::SmpLocks => (self.kernel.code(named.address, 1) == [0xf0], "a LOCK prefix"),
            TableKind::Retpolines => {
                (goes_to(INDIRECT_THUNK), "a branch to a thunk for indirect branches")
            }
            TableKind::Returns => (
                flow == FlowControl::Return || goes_to(RETURN_THUNK),
                "a branch to the thunk for returns",
            ),
            TableKind::Calls => (is_call, "a direct call"),
            TableKind::Endbr => {
                let is = matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Endbr32);
                (is, "an ENDBR")
            }
            TableKind::Ftrace => {
                (instruction.len() == 5 && (is_call || is_nop), "a call of the tracer or a NOP")
            }
            TableKind::Alternatives
            | TableKind::Cfi
            | TableKind::RuntimePointers
            | TableKind::RuntimeShifts
            | TableKind::RuntimeMasks => (true, ""),
        };
        (!is_wanted).then_some(wanted)
    }

    /// Returns what was found.
    pub(super) fn finish(mut self) -> Vec<AuditFinding> {
        self.pass(u64::MAX);
        self.findings
    }
}

/// Returns a kind of table as words.
pub(super) fn table_name(kind: TableKind) -> String {
    format!("the {} table", kind.name())
}
