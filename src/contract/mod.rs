//! Contracts of patchlets. A contract says which registers, flags and memory a patchlet reads
//! and changes. It is written in the comment above the patchlet in its `.S` file, and proven
//! from the patchlet's bytes.
//!
//! ```text
//! /* irq.restore_fl: write RFLAGS.
//!  * in: RDI = RFLAGS   out: -   clobbers: -   flags: all, from RDI
//!  * stack: 8 bytes below RSP   privilege: CPL <= IOPL to change IF   CPU: any */
//! PATCHLET(restore_fl)
//! ```
//!
//! The comment is data: [`parse`] reads it, and refuses a word that it does not know.
//! [`check`] decodes the bytes with iced-x86, which is independent of the assembler, and
//! compares the registers, flags, memory and stack that the instructions use with what the
//! contract says.
//!
//! A kernel proves the contracts of its own patchlets after linking, with the tool:
//!
//! ```text
//! patchlet verify kernel --contracts asm/own.S
//! ```
//!
//! or in a test of its own. The test can read the kernel's file, as the tool does
//! ([`Reference::contracts`](crate::inspect::Reference::contracts)). If the test is itself
//! linked with the patchlets, it can read them from memory:
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
//! | `in` | `-`, or registers with commas between, each with ` = ` and what it holds. If that is a control register, the patchlet may write it. |
//! | `out` | `-`, or registers likewise. If a control register stands behind ` = `, the patchlet may read it. `does not return` and `raises #UD` are for a patchlet that leaves by itself. |
//! | `clobbers` | `-`, or registers; `GS base` is GS. |
//! | `saves` | registers that are pushed first and popped at the end, and may change in between. Without this field: none. |
//! | `flags` | `unchanged`; `IF = 0`; `IF = 1`, and likewise `AC` and `DF`; `status` (OF, SF, ZF, AF, CF and PF are written); `undefined` (the same six); `all, from …`; `from …`. |
//! | `stack` | how much stack is used, `8 bytes below RSP`. Without this field: none. |
//! | `memory` | `writes one byte at RDI`; `reads 8 bytes at RSI`; `reads some bytes at RSI` where the CPU knows how many. Several with commas between. Without this field: none. |
//! | `privilege` | `any`; `CPL 0`; `CPL <= IOPL`, with a reason behind it. Any other text is a condition for people; no instruction may then need CPL 0. |
//! | `CPU` | any text, for people. |
//!
//! Where both widths share a source, `RDI (32-bit: EAX)` and `RAX (EAX)` name the
//! register of each, and `8 (32-bit: 4) bytes below RSP` the number.
//!
//! # Blobs
//!
//! The comment above PATCHLET_BLOB says what a blob's places and holes mean, each on a line of its
//! own. [`parse_blobs`] reads it, and the tool compares the names with those in the file: a hole
//! that is not described, or a description of none, is a finding.
//!
//! ```text
//! /* What a CPU executes first.
//!  * offsets: long = where it is in 64-bit mode
//!  * holes: stack = end of its stack
//!  *        page_table = physical address of the page table, for CR3 */
//! PATCHLET_BLOB(start_cpu)
//! ```
//!
//! # What is not proven
//!
//! A decoder does not know what a device, a model-specific register, a cache or the x87 unit does
//! with an instruction, nor which registers XSAVE, FXSAVE, FNSAVE and their counterparts save and
//! load. Nor does the proof say that the result is the right one: for that, the
//! test kernel executes every patchlet.

mod blob;
mod check;
mod class;
mod parse;
mod terms;

pub use blob::{BlobContract, Meaning, parse_blobs};
pub use check::{Breach, Violation, check};
pub use class::{AbiClass, Contradiction, Convention, compare};
pub use parse::{BadContract, parse};
pub use terms::{Contract, Flags, MemoryAccess, Privilege, SystemFlag};
