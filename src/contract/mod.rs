//! Contracts of patchlets: what each takes, gives and changes, written once, in
//! the comment above it in its `.S` file, and proven from its bytes.
//!
//! ```text
//! /* irq.restore_fl: write RFLAGS.
//!  * in: RDI = RFLAGS   out: -   clobbers: -   flags: all, from RDI
//!  * stack: 8 bytes below RSP   privilege: CPL <= IOPL to change IF   CPU: any */
//! PATCHLET(restore_fl)
//! ```
//!
//! The comment is data: [`parse`] reads it, and says which word it does not know.
//! [`check`] decodes the bytes and compares the registers, flags, memory and stack
//! that the instructions use (iced-x86's instruction information; a decoder that
//! has nothing to do with the assembler) with what the contract says.
//!
//! A kernel proves those of its own patchlets after the linker, by the tool, once
//! for each source:
//!
//! ```text
//! patchlet verify kernel --contracts asm/own.S
//! ```
//!
//! or in a test of its own, which reads the kernel's file (the same as the tool:
//! [`Reference::contracts`](crate::inspect::Reference::contracts)) or, where the test
//! itself is linked with them, its memory:
//!
//! ```no_run
//! # patchlet::patchlets! { mod own { invlpg, rdtsc } }
//! use patchlet::{Width, contract};
//!
//! # let source = "";
//! // let source = include_str!("../asm/own.S");
//! for contract in contract::parse(source, Width::Bits64).expect("contracts") {
//!     let patchlet = own::find(&contract.name).expect("it is declared");
//!     contract::check(&contract, patchlet.bytes(), Width::Bits64).expect("it is kept");
//! }
//! ```
//!
//! # The fields
//!
//! | field | values |
//! |---|---|
//! | `in` | `-`, or registers with commas between, each with ` = ` and what it holds. A control register there may be written. |
//! | `out` | `-`, or registers likewise; a control register behind ` = ` may be read. `does not return` and `raises #UD` are for what leaves by itself. |
//! | `clobbers` | `-`, or registers; `GS base` is GS. |
//! | `flags` | `unchanged`; `IF = 0`; `IF = 1`; `status` (OF, SF, ZF, AF, CF and PF are written); `undefined` (the same six); `all, from …`; `from …`. |
//! | `stack` | bytes below the stack pointer, `8 bytes below RSP`. Without it: none. |
//! | `memory` | `writes one byte at RDI`; `reads 8 bytes at RSI`. Without it: none. |
//! | `privilege` | `any`; `CPL 0`; `CPL <= IOPL`, with a reason behind it. Anything else is a condition: no instruction may need CPL 0 then. |
//! | `CPU` | for people. |
//!
//! Where both widths share a source, `RDI (32-bit: EAX)` and `RAX (EAX)` name the
//! register of each, and `8 (32-bit: 4) bytes below RSP` the number.
//!
//! # What is not proven
//!
//! What a device, a model-specific register, a cache or the x87 unit does with an
//! instruction: a decoder does not know. That the result is the right one: the
//! test kernel executes every patchlet for that.

mod check;
mod class;
mod parse;

pub use check::{Violation, Why, check};
pub use class::{Class, Contradiction, Convention, compare};
pub use parse::{BadContract, parse};

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
    pub memory: Option<Memory>,
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
pub struct Memory {
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
fn whole(register: Register, width: Width) -> Register {
    match width {
        Width::Bits64 => register.full_register(),
        Width::Bits32 => register.full_register32(),
    }
}
