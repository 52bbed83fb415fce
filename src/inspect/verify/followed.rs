//! Finds the slot that a call or jump goes through. The slot is named by a memory operand, or its
//! content was loaded into a register before, or the call goes to a thunk that jumps to such a
//! register.
//!
//! A slot is missed if its content went through memory, through a second register, or past a
//! branch target; if a thunk was inlined (`-mindirect-branch=thunk-inline`); and if a thunk takes
//! its target from the stack.

use iced_x86::{
    FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use crate::disassemble::{branch_target, decoder};
use crate::insn::Width;
use crate::inspect::elf::Linkage;
use crate::inspect::model::Model;

/// The range of addresses from the first ops table to the end of the last. Most memory operands
/// are outside of it, so most instructions need no search for a table.
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

/// The register that holds a slot's content, followed along instructions without a branch target
/// between them. One register is followed at a time.
pub(super) struct Followed<'m, 'd> {
    model: &'m Model<'d>,
    tables: Extent,
    /// A register that was loaded from a slot, and the address of the slot.
    loaded: Option<(Register, u64)>,
    info: InstructionInfoFactory,
}

impl<'m, 'd> Followed<'m, 'd> {
    pub fn new(model: &'m Model<'d>) -> Self {
        let (tables, info) = (Extent::of_tables(model), InstructionInfoFactory::new());
        Self { model, tables, loaded: None, info }
    }

    /// Forgets the register, because code begins that can be reached from elsewhere.
    pub fn begin(&mut self) {
        self.loaded = None;
    }

    /// Returns the address of the slot that an instruction calls or jumps through, and takes note
    /// of what the instruction does to registers.
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

    /// Returns the address of the slot that the memory operand of an instruction names.
    fn slot_of(&self, instruction: &Instruction) -> Option<u64> {
        let image = self.model.image();
        let address = if instruction.is_ip_rel_memory_operand() {
            instruction.ip_rel_memory_address()
        } else if image.kind() == Linkage::PositionIndependent && image.width() == Width::Bits64 {
            // A slot moves with the file when it is loaded, and an absolute address does not.
            return None;
        } else {
            // With an index register, the displacement is still an address in the table.
            instruction.memory_displacement64()
        };
        let inside =
            self.tables.contains(address) && self.model.tables.containing(address).is_some();
        (inside && !matches!(instruction.memory_segment(), Register::FS | Register::GS))
            .then_some(address)
    }

    /// Returns the address of the slot whose content a register holds.
    fn loaded_in(&self, register: Register) -> Option<u64> {
        self.loaded.filter(|loaded| loaded.0 == register.full_register()).map(|loaded| loaded.1)
    }

    /// Returns the address of the slot if the function at `target` is a thunk that jumps to the
    /// register with the slot's content.
    fn through_thunk(&self, target: u64) -> Option<u64> {
        let (register, slot) = self.loaded?;
        let jumps_to_it = thunk_by_bytes(self.model, target).map_or_else(
            || thunk_by_name(self.model, target, register),
            |jumps_to| jumps_to == register,
        );
        jumps_to_it.then_some(slot)
    }

    /// Takes note of a load from a slot, and forgets the register if the instruction overwrites it
    /// or leaves the straight line.
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

/// Returns the register that the function at `target` jumps to, or `None` if its bytes are not
/// those of a thunk.
///
/// With `-mretpoline` or `-mindirect-branch`, compilers do not emit indirect branches but call
/// such a function. Three forms are known:
///
/// ```text
/// retpoline                        plain            behind a fence
/// thunk: call 2f                   jmp *%rax        lfence
/// 1:     pause; lfence; jmp 1b                      jmp *%rax
/// 2:     mov %rax,(%rsp); ret
/// ```
fn thunk_by_bytes(model: &Model<'_>, target: u64) -> Option<Register> {
    /// The number of bytes in which the first part of a thunk must end, its call or jump. The
    /// target of the call must lie within as many bytes, too.
    const PART: u64 = 64;
    /// The largest number of instructions decoded of each part.
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
            // In a kernel with return thunks (-mfunction-return), `ret` is a jump to another
            // thunk.
            let leaves = matches!(
                leave.flow_control(),
                FlowControl::Return | FlowControl::UnconditionalBranch
            );
            (stores && leaves).then(|| store.op1_register().full_register())
        }
        _ => None,
    }
}

/// Returns whether the function at `target` has the name of a thunk for this register, such as
/// `__x86_indirect_thunk_rax`.
fn thunk_by_name(model: &Model<'_>, target: u64, register: Register) -> bool {
    /// The largest number of symbols at the address that are looked at.
    const NAMES: usize = 16;
    let symbols = model.image().symbols();
    let names = symbols.at(target).iter().take(NAMES).map(|symbol| symbols.name(symbol));
    let register = format!("{register:?}").to_lowercase();
    names
        .filter_map(|name| name.strip_prefix("__x86_indirect_thunk_"))
        .any(|name| name == register || format!("r{}", name.trim_start_matches('e')) == register)
}
