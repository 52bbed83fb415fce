//! The ABI class and the signature of an op, beside the contract of its patchlet. What the
//! bytes do is proven against the contract; this asks whether the contract is one that the
//! sites of the op allow for.

use core::fmt;

use iced_x86::Register;

use super::terms::{Contract, whole};
use crate::insn::Width;

/// The ABI class of an op, as the index of a linked file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbiClass {
    /// The function in a slot changes the registers of the result and the flags only.
    CalleeSave,
    /// It changes what C may change.
    C,
    /// It has a contract of its own, for the assembly that uses it.
    Assembly,
}

/// What the sites of an op pass and expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Convention {
    /// The ABI class.
    pub class: AbiClass,
    /// How many registers the arguments take.
    pub arguments: u8,
    /// How many registers the result takes.
    pub results: u8,
}

impl Convention {
    /// Makes the convention of an op of this class whose arguments and result take so many
    /// registers.
    #[must_use]
    pub const fn new(class: AbiClass, arguments: u8, results: u8) -> Self {
        Self { class, arguments, results }
    }
}

/// How a contract contradicts the convention of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contradiction {
    /// It reads a register that carries no argument of the op.
    Reads(Register),
    /// It changes a register that the sites keep a value in.
    Changes(Register),
    /// It does not set a register of the result.
    NoResult(Register),
}

/// `it changes RCX, which the code around a site keeps`
impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reads(register) => {
                write!(f, "it reads {register:?}, which carries no argument of the op")
            }
            Self::Changes(register) => {
                write!(f, "it changes {register:?}, which the code around a site keeps")
            }
            Self::NoResult(register) => {
                write!(f, "it does not set {register:?}, which carries the result of the op")
            }
        }
    }
}

/// Registers of arguments and results, and those that C may change, for one width.
struct Registers {
    arguments: &'static [Register],
    results: &'static [Register],
    changed_by_c: &'static [Register],
}

const BITS64: Registers = Registers {
    arguments: &[
        Register::RDI,
        Register::RSI,
        Register::RDX,
        Register::RCX,
        Register::R8,
        Register::R9,
    ],
    results: &[Register::RAX, Register::RDX],
    changed_by_c: &[
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RSI,
        Register::RDI,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
    ],
};

const BITS32: Registers = Registers {
    arguments: &[Register::EAX, Register::EDX, Register::ECX],
    results: &[Register::EAX, Register::EDX],
    changed_by_c: &[Register::EAX, Register::ECX, Register::EDX],
};

/// Compares the contract of an op's patchlet with what the sites of the op pass and expect.
///
/// A patchlet that leaves by itself has no result. The flags belong to nobody: every class
/// may change them.
///
/// # Errors
/// The first register on which the two disagree.
pub fn compare(
    contract: &Contract,
    convention: Convention,
    width: Width,
) -> Result<(), Contradiction> {
    let registers = match width {
        Width::Bits64 => &BITS64,
        Width::Bits32 => &BITS32,
    };
    let first = |list: &'static [Register], count: u8| &list[..list.len().min(count.into())];
    let results = first(registers.results, convention.results);
    let may_change = match convention.class {
        AbiClass::Assembly => return Ok(()),
        AbiClass::CalleeSave => results,
        AbiClass::C => registers.changed_by_c,
    };
    let arguments = first(registers.arguments, convention.arguments);
    if let Some(&register) = contract.inputs.iter().find(|input| !arguments.contains(input)) {
        return Err(Contradiction::Reads(register));
    }
    let is_kept = |register: &&Register| !may_change.contains(&whole(**register, width));
    if let Some(&register) = contract.outputs.iter().chain(&contract.clobbers).find(is_kept) {
        return Err(Contradiction::Changes(register));
    }
    let is_missing = |register: &&Register| !contract.outputs.contains(register);
    match results.iter().find(is_missing) {
        Some(&register) if !contract.leaves => Err(Contradiction::NoResult(register)),
        _ => Ok(()),
    }
}
