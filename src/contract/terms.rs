//! What a contract says, as data.

use iced_x86::Register;

use crate::insn::Width;

/// What the instructions of one patchlet may use and change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contract {
    /// The patchlet's name.
    pub name: String,
    /// The registers that may be read before they are written.
    pub inputs: Vec<Register>,
    /// The registers that are written, for the user of the op.
    pub outputs: Vec<Register>,
    /// The registers that may be written besides.
    pub clobbers: Vec<Register>,
    /// The control registers that may be read.
    pub control_read: Vec<Register>,
    /// The control registers that may be written.
    pub control_written: Vec<Register>,
    /// What becomes of the flags.
    pub flags: Flags,
    /// How far below the stack pointer memory is used, in bytes.
    pub stack: u32,
    /// The one access to memory other than the stack.
    pub memory: Option<MemoryAccess>,
    /// Who may execute it.
    pub privilege: Privilege,
    /// Whether it leaves by itself: its last instruction returns or traps.
    pub leaves: bool,
}

/// What becomes of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flags {
    /// No instruction changes any.
    Unchanged,
    /// IF is cleared, nothing else.
    InterruptsOff,
    /// IF is set, nothing else.
    InterruptsOn,
    /// The six status flags, or some of them, are written or undefined.
    Status,
    /// Any.
    All,
}

/// One access to memory at the address in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryAccess {
    /// Whether it writes; it reads otherwise.
    pub writes: bool,
    /// How many bytes.
    pub bytes: usize,
    /// The register.
    pub at: Register,
}

/// Who may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Privilege {
    /// Everybody, maybe under a condition that is not about CPL.
    Any,
    /// Who may change IF: CPL at most IOPL.
    Iopl,
    /// The kernel.
    Cpl0,
}

/// The whole register that a part belongs to.
pub(super) fn whole(register: Register, width: Width) -> Register {
    match width {
        Width::Bits64 => register.full_register(),
        Width::Bits32 => register.full_register32(),
    }
}
