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
//! | `flags` | `unchanged`; `IF = 0`; `IF = 1`, and likewise `AC` and `DF`; `status` (OF, SF, ZF, AF, CF and PF are written); `undefined` (the same six); `all, from …`; `from …`. |
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
mod terms;

pub use check::{Breach, Violation, check};
pub use class::{AbiClass, Contradiction, Convention, compare};
pub use parse::{BadContract, parse};
pub use terms::{Contract, Flags, MemoryAccess, Privilege, SystemFlag};
