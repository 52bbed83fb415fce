//! Which slot an instruction goes through: by its memory operand, by a register that was
//! loaded from a slot before, or by a thunk that jumps to such a register.
//!
//! What this cannot see: a slot's content that went through memory, through another
//! register, or past a branch target; a thunk that was inlined
//! (`-mindirect-branch=thunk-inline`), and one that takes its target from the stack.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::disassemble::{branch_target, decoder};
use crate::insn::Width;
use crate::inspect::elf::Linkage;
use crate::inspect::model::Model;

/// The addresses that all ops tables lie between: a cheap first question.
#[derive(Clone, Copy)]
struct Extent {
    first: u64,
    end: u64,
}

impl Extent {
    fn of_tables(model: &Model<'_>) -> Self {
        let pointer = model.image().width().pointer_size();
        let ends = model.tables().iter();
        let ends = ends.map(|table| table.address.saturating_add(table.slots * pointer));
        Self {
            first: model.tables().first().map_or(u64::MAX, |table| table.address),
            end: ends.max().unwrap_or(0),
        }
    }

    const fn contains(self, address: u64) -> bool {
        self.first <= address && address < self.end
    }
}

/// What is known of registers, in a straight line of instructions.
pub(super) struct Followed<'m, 'd> {
    model: &'m Model<'d>,
    tables: Extent,
    /// A register that holds what a slot holds, and the slot.
    loaded: Option<(Register, u64)>,
    info: InstructionInfoFactory,
}

impl<'m, 'd> Followed<'m, 'd> {
    pub fn new(model: &'m Model<'d>) -> Self {
        let (tables, info) = (Extent::of_tables(model), InstructionInfoFactory::new());
        Self { model, tables, loaded: None, info }
    }

    /// Forgets what registers hold: other code begins.
    pub fn begin(&mut self) {
        self.loaded = None;
    }

    /// Returns the slot that this call or jump goes through, and follows what it does to
    /// registers.
    pub fn step(&mut self, instruction: &Instruction) -> Option<u64> {
        let through = match instruction.flow_control() {
            FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                match instruction.op0_kind() {
                    OpKind::Memory => self.slot_of(instruction),
                    OpKind::Register => self.loaded_in(instruction.op0_register()),
                    _ => None,
                }
            }
            FlowControl::Call | FlowControl::UnconditionalBranch if self.loaded.is_some() => {
                branch_target(instruction).and_then(|target| self.through_thunk(target))
            }
            _ => None,
        };
        self.follow(instruction);
        through
    }

    /// Returns the slot that a memory operand names.
    fn slot_of(&self, instruction: &Instruction) -> Option<u64> {
        let image = self.model.image();
        let address = if instruction.is_ip_rel_memory_operand() {
            instruction.ip_rel_memory_address()
        } else if image.kind() == Linkage::PositionIndependent && image.width() == Width::Bits64 {
            // An address that does not move cannot be a slot's.
            return None;
        } else {
            // With an index register as well: the table's address is there.
            instruction.memory_displacement64()
        };
        let inside =
            self.tables.contains(address) && self.model.tables.containing(address).is_some();
        (inside && !matches!(instruction.memory_segment(), Register::FS | Register::GS))
            .then_some(address)
    }

    /// Returns the slot whose content a register holds.
    fn loaded_in(&self, register: Register) -> Option<u64> {
        self.loaded.filter(|loaded| loaded.0 == register.full_register()).map(|loaded| loaded.1)
    }

    /// Returns the slot, if the function at `target` is a thunk that jumps to the register
    /// loaded.
    fn through_thunk(&self, target: u64) -> Option<u64> {
        let (register, slot) = self.loaded?;
        let jumps_to_it = thunk_by_bytes(self.model, target).map_or_else(
            || thunk_by_name(self.model, target, register),
            |jumps_to| jumps_to == register,
        );
        jumps_to_it.then_some(slot)
    }

    /// Follows what a slot held from a load to a call, in a straight line.
    fn follow(&mut self, instruction: &Instruction) {
        if instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Memory
            && let Some(slot) = self.slot_of(instruction)
        {
            self.loaded = Some((instruction.op0_register().full_register(), slot));
            return;
        }
        let Some((register, _)) = self.loaded else { return };
        let goes_on = matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        );
        let writes = |access| {
            !matches!(
                access,
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            )
        };
        let overwritten = self
            .info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| used.register().full_register() == register && writes(used.access()));
        if !goes_on || overwritten {
            self.loaded = None;
        }
    }
}

/// Returns the register that the function at `target` jumps to, if it is a thunk by its bytes.
///
/// Where branches must not be indirect (`-mretpoline`, `-mindirect-branch`), compilers call
/// through such a function. Three forms are known:
///
/// ```text
/// retpoline                        plain            behind a fence
/// thunk: call 2f                   jmp *%rax        lfence
/// 1:     pause; lfence; jmp 1b                      jmp *%rax
/// 2:     mov %rax,(%rsp); ret
/// ```
fn thunk_by_bytes(model: &Model<'_>, target: u64) -> Option<Register> {
    /// More bytes than the part of a thunk up to its call or jump has, and more than lie
    /// between that call and what it leads to.
    const PART: u64 = 64;
    /// The most instructions of either part.
    const INSTRUCTIONS: usize = 6;
    let image = model.image();
    let stack_pointer = match image.width() {
        Width::Bits32 => Register::ESP,
        Width::Bits64 => Register::RSP,
    };
    let part = |from: u64| -> Option<Vec<Instruction>> {
        let section = image.section_at(from).filter(|section| section.is_executable())?;
        let bytes = image.bytes_at(from, PART.min(section.end() - from))?;
        let does_something = |instruction: &Instruction| {
            !matches!(
                instruction.mnemonic(),
                Mnemonic::Nop | Mnemonic::Lfence | Mnemonic::Endbr64 | Mnemonic::Endbr32
            )
        };
        let instructions = decoder(image.width(), from, bytes).into_iter().take(INSTRUCTIONS);
        Some(instructions.filter(does_something).collect())
    };
    let start = part(target)?;
    let first = start.first()?;
    match first.flow_control() {
        FlowControl::IndirectBranch if first.op0_kind() == OpKind::Register => {
            Some(first.op0_register().full_register())
        }
        FlowControl::Call => {
            let behind = branch_target(first)?;
            if !(first.next_ip()..target.saturating_add(PART)).contains(&behind) {
                return None;
            }
            let end = part(behind)?;
            let (store, leave) = (end.first()?, end.get(1)?);
            let stores = store.mnemonic() == Mnemonic::Mov
                && store.op0_kind() == OpKind::Memory
                && store.memory_base() == stack_pointer
                && store.memory_index() == Register::None
                && store.memory_displacement64() == 0
                && store.op1_kind() == OpKind::Register;
            // A kernel that guards its returns, too, leaves by a jump to another thunk.
            let leaves = matches!(
                leave.flow_control(),
                FlowControl::Return | FlowControl::UnconditionalBranch
            );
            (stores && leaves).then(|| store.op1_register().full_register())
        }
        _ => None,
    }
}

/// Returns whether the function at `target` is a thunk for this register by its name,
/// `__x86_indirect_thunk_rax`.
fn thunk_by_name(model: &Model<'_>, target: u64, register: Register) -> bool {
    /// How many of its names are looked at.
    const NAMES: usize = 16;
    let symbols = model.image().symbols();
    let names = symbols.at(target).iter().take(NAMES).map(|symbol| symbols.name(symbol));
    let register = format!("{register:?}").to_lowercase();
    names
        .filter_map(|name| name.strip_prefix("__x86_indirect_thunk_"))
        .any(|name| name == register || format!("r{}", name.trim_start_matches('e')) == register)
}
