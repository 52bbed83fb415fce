//! The comparison of a patchlet's contract with the ABI class and the signature of its op.
//! `check.rs` proves that the bytes keep the contract; this proves that the sites of the op
//! allow everything that the contract allows.

use core::fmt;

use iced_x86::Register;

use super::terms::{Contract, whole};
use crate::insn::Width;

/// The ABI class of an op, as its record in a linked file says it. It is a type of its own,
/// because `patchlet::ops::Abi` exists on x86 targets only and the tool runs on any host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbiClass {
    /// A function in a slot changes the registers of the result and the flags only.
    CalleeSave,
    /// A function in a slot changes what a C function may change.
    C,
    /// A function in a slot keeps to the op's own contract, which the assembly that uses the op
    /// knows.
    Assembly,
    /// A function in a slot is a C function of any signature. Which registers carry its arguments,
    /// only the compiler knows.
    ExternC,
}

/// The calling convention of an op's sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Convention {
    /// ABI class of the op.
    pub class: AbiClass,
    /// Number of registers that the arguments take; 0 in the class `ExternC`, whose arguments can be
    /// anywhere.
    pub arguments: u8,
    /// Number of registers that the result takes; 0 in the class `ExternC`.
    pub results: u8,
}

impl Convention {
    /// Makes a convention of its parts.
    #[must_use]
    pub const fn new(class: AbiClass, arguments: u8, results: u8) -> Self {
        Self { class, arguments, results }
    }
}

/// A way in which a contract contradicts the convention of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contradiction {
    /// The patchlet reads a register that carries no argument of the op.
    Reads(Register),
    /// The patchlet changes a register in which the code around a site keeps a value.
    Changes(Register),
    /// The patchlet does not set a register of the op's result.
    NoResult(Register),
}

/// Writes a clause, such as `it changes RCX, which the code around a site keeps`.
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

/// The registers of arguments and results in their order, and the registers that a C function may
/// change, for one width.
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

/// Compares the contract of a patchlet with the convention of an op whose native function it is.
///
/// A patchlet that leaves by itself has no result. Flags are not compared, since every class may
/// change them. An op of class `assembly` has no convention to compare with, and of one of class
/// `extern_c` it is only known what a C function may change.
///
/// # Errors
/// Returns the first register on which the two disagree.
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
        AbiClass::C | AbiClass::ExternC => registers.changed_by_c,
    };
    let arguments = first(registers.arguments, convention.arguments);
    let is_argument =
        |input: &&Register| arguments.contains(input) || convention.class == AbiClass::ExternC;
    if let Some(&register) = contract.inputs.iter().find(|input| !is_argument(input)) {
        return Err(Contradiction::Reads(register));
    }
    // Code keeps no value in FS and GS. What changes their bases is an op that is there for that.
    let is_kept = |register: &&Register| {
        !register.is_segment_register() && !may_change.contains(&whole(**register, width))
    };
    if let Some(&register) = contract.outputs.iter().chain(&contract.clobbers).find(is_kept) {
        return Err(Contradiction::Changes(register));
    }
    let is_missing = |register: &&Register| !contract.outputs.contains(register);
    match results.iter().find(is_missing) {
        Some(&register) if !contract.leaves => Err(Contradiction::NoResult(register)),
        _ => Ok(()),
    }
}
