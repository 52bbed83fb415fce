//! The terms of a contract, as data.

use iced_x86::{Register, RflagsBits};

use crate::insn::Width;

/// A contract: what the instructions of one patchlet may use and change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contract {
    /// Name of the patchlet.
    pub name: String,
    /// Registers that may be read before they are written.
    pub inputs: Vec<Register>,
    /// Registers that must be written: they carry the result.
    pub outputs: Vec<Register>,
    /// Further registers that may be written.
    pub clobbers: Vec<Register>,
    /// Registers that are pushed first and popped at the end, and may be written in between.
    pub saved: Vec<Register>,
    /// Control registers that may be read.
    pub control_read: Vec<Register>,
    /// Control registers that may be written.
    pub control_written: Vec<Register>,
    /// Changes of flags.
    pub flags: Flags,
    /// Size of the stack that is used below the stack pointer, in bytes.
    pub stack: u32,
    /// The accesses to memory other than the stack.
    pub memory: Vec<MemoryAccess>,
    /// Privilege that is needed.
    pub privilege: Privilege,
    /// Whether the patchlet leaves by itself: its last instruction returns or traps.
    pub leaves: bool,
}

/// The changes of flags that a contract allows and demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flags {
    /// No flag changes.
    Unchanged,
    /// This flag is cleared, and no other changes.
    Cleared(SystemFlag),
    /// This flag is set, and no other changes.
    Set(SystemFlag),
    /// Some of the six status flags (OF, SF, ZF, AF, CF, PF) are written or undefined.
    Status,
    /// Any flag may change.
    All,
}

/// A system flag that has instructions of its own to set and to clear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemFlag {
    /// IF, which lets external interrupts in (`cli`, `sti`).
    Interrupt,
    /// AC, which lets the kernel access user memory under SMAP (`stac`, `clac`).
    AlignmentCheck,
    /// DF, the direction of string instructions (`cld`, `std`).
    Direction,
}

impl SystemFlag {
    /// All system flags that a contract can name.
    pub(super) const ALL: [Self; 3] = [Self::Interrupt, Self::AlignmentCheck, Self::Direction];

    /// Returns the name of the flag in the manuals (Intel SDM vol. 1, "EFLAGS Register").
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "IF",
            Self::AlignmentCheck => "AC",
            Self::Direction => "DF",
        }
    }

    /// Returns the bit that iced-x86 has for the flag in [`RflagsBits`].
    pub(super) const fn bit(self) -> u32 {
        match self {
            Self::Interrupt => RflagsBits::IF,
            Self::AlignmentCheck => RflagsBits::AC,
            Self::Direction => RflagsBits::DF,
        }
    }
}

/// An access to memory at the address in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryAccess {
    /// Whether the access is a write; otherwise it is a read.
    pub writes: bool,
    /// Size of the access, in bytes; `None` if it depends on the state of the CPU, as that of
    /// `rep movsb` and `xsave` does.
    pub bytes: Option<usize>,
    /// Register that holds the address.
    pub at: Register,
}

/// The privilege that a patchlet needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Privilege {
    /// No privilege, maybe a condition that is not about CPL.
    Any,
    /// A CPL of at most IOPL, as changing IF needs.
    Iopl,
    /// CPL 0.
    Cpl0,
}

/// Returns the whole register that a register is part of, at this width: RAX (EAX) for AL.
pub(super) fn whole(register: Register, width: Width) -> Register {
    match width {
        Width::Bits64 => register.full_register(),
        Width::Bits32 => register.full_register32(),
    }
}
