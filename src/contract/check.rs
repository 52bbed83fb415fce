//! The proof that a patchlet keeps its contract: what its instructions use is compared with what
//! the contract says.

use core::fmt;

use iced_x86::{
    Code, FlowControl, Formatter, GasFormatter, Instruction, InstructionInfo,
    InstructionInfoFactory, Mnemonic, OpAccess, Register, RflagsBits,
};

use super::terms::{Contract, Flags, MemoryAccess, Privilege, whole};
use crate::disassemble::decoder;
use crate::insn::Width;

/// The violation of a contract by a patchlet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Name of the patchlet.
    pub patchlet: String,
    /// The instruction that breaks the contract, in AT&T syntax. Empty if all instructions together
    /// do.
    pub instruction: String,
    /// The term that is broken.
    pub why: Breach,
}

/// The term of a contract that a patchlet breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Breach {
    /// The bytes are not whole instructions.
    NoInstruction,
    /// The patchlet reads this register, which is not an input.
    Reads(Register),
    /// The patchlet writes this register, which is neither an output nor clobbered.
    Writes(Register),
    /// The patchlet does not save this register and restore it, as the contract says.
    NotRestored(Register),
    /// The patchlet never writes this output.
    NoOutput(Register),
    /// The patchlet branches, calls, returns or traps, although execution must go on behind it,
    /// or before its last instruction.
    Leaves,
    /// The patchlet must leave by itself and does not.
    DoesNotLeave,
    /// The patchlet changes flags that must not change.
    ChangesFlags,
    /// The patchlet does not change the flags that the contract names.
    NoFlags,
    /// The patchlet accesses memory that the contract does not name.
    UsesMemory,
    /// The patchlet does not make the access to memory that the contract names.
    NoMemory,
    /// The patchlet uses this many bytes of stack, more than the contract says.
    Stack(u32),
    /// The patchlet uses only this many bytes of stack, fewer than the contract says.
    LessStack(u32),
    /// The stack pointer at the end differs from that at the start by this many bytes.
    Unbalanced(i32),
    /// The patchlet pops what its caller has on the stack.
    TakesFromCaller,
    /// The patchlet needs a privilege that the contract does not name.
    Privileged,
    /// The contract says CPL 0, and no instruction needs it.
    NotPrivileged,
}

impl Violation {
    /// Returns the sentence about the violation without the patchlet's name, as a predicate.
    pub(crate) fn sentence(&self) -> String {
        match &*self.instruction {
            "" => format!("breaks its contract: {}", self.why),
            instruction => format!("breaks its contract: `{instruction}` {}", self.why),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "patchlet `{}` {}", self.patchlet, self.sentence())
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstruction => f.write_str("the bytes are no whole instructions"),
            Self::Reads(register) => write!(f, "reads {register:?}, which is no input"),
            Self::Writes(register) => {
                write!(f, "writes {register:?}, which is neither output nor clobbered")
            }
            Self::NotRestored(register) => write!(f, "{register:?} is not saved and restored"),
            Self::NoOutput(register) => write!(f, "nothing writes the output {register:?}"),
            Self::Leaves => f.write_str("leaves, but execution must go on behind the patchlet"),
            Self::DoesNotLeave => f.write_str("it must leave by itself, and does not"),
            Self::ChangesFlags => f.write_str("changes flags that must stay"),
            Self::NoFlags => f.write_str("the flags do not change as they must"),
            Self::UsesMemory => f.write_str("uses memory that the contract does not name"),
            Self::NoMemory => f.write_str("the access to memory that it names is not there"),
            Self::Stack(bytes) => write!(f, "uses {bytes} bytes of stack, more than it says"),
            Self::LessStack(bytes) => write!(f, "uses only {bytes} bytes of stack"),
            Self::Unbalanced(bytes) => {
                write!(f, "the stack pointer is {bytes} bytes off at the end")
            }
            Self::TakesFromCaller => f.write_str("takes what the caller has on the stack"),
            Self::Privileged => f.write_str("needs a privilege that it does not say"),
            Self::NotPrivileged => f.write_str("it says CPL 0, but nothing needs that"),
        }
    }
}

impl std::error::Error for Violation {}

/// The status flags: OF, SF, ZF, AF, CF and PF.
const STATUS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// Proves that a patchlet's bytes keep its contract.
///
/// # Errors
/// Returns the first violation: something that the instructions do and must not, or must do and
/// do not.
pub fn check(contract: &Contract, bytes: &[u8], width: Width) -> Result<(), Violation> {
    let violation = |instruction: Option<&Instruction>, why| Violation {
        patchlet: contract.name.clone(),
        instruction: instruction.map(text).unwrap_or_default(),
        why,
    };
    let mut proof = Proof::new(contract, width);
    let mut factory = InstructionInfoFactory::new();
    let mut decoder = decoder(width, 0, bytes);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return Err(violation(None, Breach::NoInstruction));
        }
        let info = factory.info(&instruction);
        let last = !decoder.can_decode();
        proof.step(&instruction, info, last).map_err(|why| violation(Some(&instruction), why))?;
    }
    proof.end().map_err(|why| violation(None, why))
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    GasFormatter::new().format(instruction, &mut text);
    text
}

/// The state of a proof: what the instructions so far have used.
struct Proof<'a> {
    contract: &'a Contract,
    width: Width,
    /// Registers that were written.
    written: Vec<Register>,
    /// Registers on the stack that were pushed with the value they had at the start, each with the
    /// stack pointer behind its push.
    pushed: Vec<(Register, i32)>,
    /// Registers that were pushed so and popped again.
    restored: Vec<Register>,
    /// The stack pointer relative to that at the start, in bytes.
    sp: i32,
    /// The lowest value that `sp` had.
    lowest: i32,
    /// Flags that were changed, as bits of [`RflagsBits`].
    flags: u32,
    /// The accesses to memory that were made.
    memory: Vec<MemoryAccess>,
    /// Whether an instruction needed a privilege.
    privileged: bool,
    /// Whether the last instruction left.
    left: bool,
}

impl<'a> Proof<'a> {
    fn new(contract: &'a Contract, width: Width) -> Self {
        Self {
            contract,
            width,
            written: Vec::new(),
            pushed: Vec::new(),
            restored: Vec::new(),
            sp: 0,
            lowest: 0,
            flags: 0,
            memory: Vec::new(),
            privileged: false,
            left: false,
        }
    }

    /// Checks one instruction. `last` says whether it is the last of the patchlet.
    fn step(
        &mut self,
        instruction: &Instruction,
        info: &InstructionInfo,
        last: bool,
    ) -> Result<(), Breach> {
        let leaves = self.flow(instruction, last)?;
        self.privilege(instruction)?;
        self.registers(instruction, info, leaves)?;
        if !leaves {
            self.stack(instruction)?;
        }
        self.memory(instruction, info, leaves)?;
        self.flags(instruction)
    }

    /// Returns whether an instruction leaves the patchlet. Only the last may, and not by a
    /// relative branch: in a site, which has another address, it would lead elsewhere.
    fn flow(&mut self, instruction: &Instruction, last: bool) -> Result<bool, Breach> {
        match instruction.flow_control() {
            FlowControl::Next => Ok(false),
            // A call of the hypervisor comes back behind the instruction.
            _ if matches!(instruction.mnemonic(), Mnemonic::Vmcall | Mnemonic::Vmmcall) => {
                Ok(false)
            }
            FlowControl::Return | FlowControl::Exception | FlowControl::IndirectBranch
                if last && self.contract.leaves =>
            {
                self.left = true;
                Ok(true)
            }
            _ => Err(Breach::Leaves),
        }
    }

    fn privilege(&mut self, instruction: &Instruction) -> Result<(), Breach> {
        if !instruction.is_privileged() {
            return Ok(());
        }
        self.privileged = true;
        let by_iopl = matches!(instruction.code(), Code::Cli | Code::Sti);
        match self.contract.privilege {
            Privilege::Cpl0 => Ok(()),
            Privilege::Iopl if by_iopl => Ok(()),
            _ => Err(Breach::Privileged),
        }
    }

    fn stack_pointer(&self) -> Register {
        match self.width {
            Width::Bits64 => Register::RSP,
            Width::Bits32 => Register::ESP,
        }
    }

    fn registers(
        &mut self,
        instruction: &Instruction,
        info: &InstructionInfo,
        leaves: bool,
    ) -> Result<(), Breach> {
        let contract = self.contract;
        let stack_pointer = self.stack_pointer();
        let by_name = (0..instruction.op_count())
            .any(|operand| whole(instruction.op_register(operand), self.width) == stack_pointer);
        // The implied change of the stack pointer by push and pop is checked by `stack`, not here.
        // An instruction that names the stack pointer, such as `pop %rsp`, is checked here.
        let by_stack =
            |register| register == stack_pointer && instruction.is_stack_instruction() && !by_name;
        if self.saves_or_restores(instruction) {
            return Ok(());
        }
        let mut written = Vec::new();
        for used in info.used_registers() {
            let register = whole(used.register(), self.width);
            // As by XSAVE and its like, whose registers iced-x86 does not name.
            let by_state = matches!(instruction.mnemonic(), Mnemonic::Fnsave | Mnemonic::Frstor);
            if by_state && (register.is_st() || register.is_mm()) {
                continue;
            }
            let (reads, writes) = read_write(used.access());
            if reads && !by_stack(register) && !self.may_read(register) {
                return Err(Breach::Reads(register));
            }
            // An instruction that returns to another privilege level loads its stack pointer.
            if writes && !by_stack(register) && !(leaves && register == stack_pointer) {
                let may = [&contract.outputs, &contract.clobbers, &contract.control_written];
                let is_saved = self.pushed.iter().any(|(pushed, _)| *pushed == register);
                if !is_saved && !may.iter().any(|list| list.contains(&register)) {
                    return Err(Breach::Writes(register));
                }
                written.push(register);
            }
        }
        self.written.extend(written);
        Ok(())
    }

    /// Returns whether an instruction pushes a register that the contract says is saved, with the
    /// value it had at the start, or pops such a register from where it was pushed.
    fn saves_or_restores(&mut self, instruction: &Instruction) -> bool {
        let register = whole(instruction.op0_register(), self.width);
        if !self.contract.saved.contains(&register) {
            return false;
        }
        match instruction.mnemonic() {
            Mnemonic::Push if !self.written.contains(&register) => {
                let behind = self.sp.saturating_add(instruction.stack_pointer_increment());
                self.pushed.push((register, behind));
                true
            }
            Mnemonic::Pop if self.pushed.last() == Some(&(register, self.sp)) => {
                self.pushed.pop();
                self.written.retain(|written| *written != register);
                self.restored.push(register);
                true
            }
            _ => false,
        }
    }

    fn may_read(&self, register: Register) -> bool {
        let contract = self.contract;
        // iced-x86 reports these as read by instructions that only use memory. They are the same
        // for all code of a kernel.
        let flat = [Register::CS, Register::DS, Register::ES, Register::SS];
        // SWAPGS reads the base that it clobbers. It puts it away and computes nothing from it.
        let exchanged = register.is_segment_register() && contract.clobbers.contains(&register);
        let lists = [&self.written[..], &contract.inputs, &contract.control_read, &flat];
        exchanged || lists.iter().any(|list| list.contains(&register))
    }

    fn stack(&mut self, instruction: &Instruction) -> Result<(), Breach> {
        self.sp = self.sp.saturating_add(instruction.stack_pointer_increment());
        self.lowest = self.lowest.min(self.sp);
        if self.sp > 0 {
            return Err(Breach::TakesFromCaller);
        }
        let depth = self.lowest.unsigned_abs();
        if depth > self.contract.stack {
            return Err(Breach::Stack(depth));
        }
        Ok(())
    }

    fn memory(
        &mut self,
        instruction: &Instruction,
        info: &InstructionInfo,
        leaves: bool,
    ) -> Result<(), Breach> {
        for used in info.used_memory() {
            let (reads, writes) = read_write(used.access());
            if !reads && !writes {
                continue;
            }
            let own_stack = instruction.is_stack_instruction() || leaves;
            if own_stack && whole(used.base(), self.width) == self.stack_pointer() {
                continue;
            }
            let at = whole(used.base(), self.width);
            let bytes = used.memory_size().size();
            let allowed = |writes: bool| {
                self.contract.memory.iter().find(|access| {
                    (access.writes, access.at) == (writes, at)
                        && access.bytes.is_none_or(|allowed| allowed == bytes)
                })
            };
            let plain = used.index() == Register::None && used.displacement() == 0;
            for (made, writes) in [(reads, false), (writes, true)] {
                match allowed(writes).filter(|_| plain) {
                    _ if !made => {}
                    Some(access) => self.memory.push(*access),
                    None => return Err(Breach::UsesMemory),
                }
            }
        }
        Ok(())
    }

    fn flags(&mut self, instruction: &Instruction) -> Result<(), Breach> {
        // iced-x86 counts the condition codes of the x87 unit as flags, too.
        let of_x87 = RflagsBits::C0 | RflagsBits::C1 | RflagsBits::C2 | RflagsBits::C3;
        let changed = instruction.rflags_modified() & !of_x87;
        self.flags |= changed;
        let right = match self.contract.flags {
            Flags::Unchanged => changed == 0,
            Flags::Status => changed & !STATUS == 0,
            Flags::All => true,
            Flags::Cleared(flag) => {
                changed == 0 || (changed == flag.bit() && instruction.rflags_cleared() == changed)
            }
            Flags::Set(flag) => {
                changed == 0 || (changed == flag.bit() && instruction.rflags_set() == changed)
            }
        };
        if right { Ok(()) } else { Err(Breach::ChangesFlags) }
    }

    fn end(&self) -> Result<(), Breach> {
        let contract = self.contract;
        if contract.leaves != self.left {
            return Err(Breach::DoesNotLeave);
        }
        if let Some(output) = contract.outputs.iter().find(|output| !self.written.contains(output))
        {
            // An output that is also an input may stay as it is: then the result is the argument.
            if !contract.inputs.contains(output) {
                return Err(Breach::NoOutput(*output));
            }
        }
        if self.sp != 0 && !contract.leaves {
            return Err(Breach::Unbalanced(self.sp));
        }
        let depth = self.lowest.unsigned_abs();
        if depth != contract.stack {
            return Err(Breach::LessStack(depth));
        }
        let is_lost = |register: &&Register| {
            self.written.contains(register) || !self.restored.contains(register)
        };
        if let Some(register) = contract.saved.iter().find(is_lost) {
            return Err(Breach::NotRestored(*register));
        }
        if contract.memory.iter().any(|access| !self.memory.contains(access)) {
            return Err(Breach::NoMemory);
        }
        // An instruction that leaves may load flags from memory, which iced-x86 does not report.
        if contract.flags != Flags::Unchanged && self.flags == 0 && !contract.leaves {
            return Err(Breach::NoFlags);
        }
        if contract.privilege == Privilege::Cpl0 && !self.privileged {
            return Err(Breach::NotPrivileged);
        }
        Ok(())
    }
}

/// Returns whether an access reads, and whether it writes. A conditional access counts as made.
const fn read_write(access: OpAccess) -> (bool, bool) {
    match access {
        OpAccess::None | OpAccess::NoMemAccess => (false, false),
        OpAccess::Read | OpAccess::CondRead => (true, false),
        OpAccess::Write | OpAccess::CondWrite => (false, true),
        OpAccess::ReadWrite | OpAccess::ReadCondWrite => (true, true),
    }
}
