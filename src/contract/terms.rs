//! What a contract says, as data.

use iced_x86::{Register, RflagsBits};

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
    /// This one is cleared, nothing else.
    Cleared(SystemFlag),
    /// This one is set, nothing else.
    Set(SystemFlag),
    /// The six status flags, or some of them, are written or undefined.
    Status,
    /// Any.
    All,
}

/// A flag that an instruction of its own sets or clears, and that code around a patchlet
/// relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemFlag {
    /// IF, interrupts: `cli`, `sti`.
    Interrupt,
    /// AC, which lets the kernel reach user memory under SMAP: `stac`, `clac`.
    AlignmentCheck,
    /// DF, the direction of string instructions: `cld`, `std`.
    Direction,
}

impl SystemFlag {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Interrupt, Self::AlignmentCheck, Self::Direction];

    /// Returns its name in the manuals (Intel SDM vol. 1, "EFLAGS Register").
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "IF",
            Self::AlignmentCheck => "AC",
            Self::Direction => "DF",
        }
    }

    /// Returns its bit, as iced-x86 has it.
    pub(super) const fn bit(self) -> u32 {
        match self {
            Self::Interrupt => RflagsBits::IF,
            Self::AlignmentCheck => RflagsBits::AC,
            Self::Direction => RflagsBits::DF,
        }
    }
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

/// Returns the whole register that a part belongs to.
pub(super) fn whole(register: Register, width: Width) -> Register {
    match width {
        Width::Bits64 => register.full_register(),
        Width::Bits32 => register.full_register32(),
    }
}
