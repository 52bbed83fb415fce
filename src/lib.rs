//! Instruction patching for x86 kernels, 32 and 64 bit.
//!
//! A kernel that can run under a hypervisor reaches its privileged operations
//! (disable interrupts, read CR2, write CR3, release a spinlock, …) through a table
//! of function pointers, so that the hypervisor can replace them. On bare metal that
//! costs an indirect call for what is one instruction. This crate puts the
//! instruction where the call is, at boot or while all CPUs run, and takes it away
//! again when the table changes.
//!
//! The instructions are not typed in hex and not hidden in inline assembly. They are
//! real assembly in `.S` files, between labels, in a section that no optimizer
//! touches: the third way of a mail to the Linux kernel list, after the other two had
//! failed (Ingo Molnar, 25 April 2019, "Re: \[patch 3/3\] x86/paravirt: Replace
//! paravirt patch asm magic").
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | patchlet | a native instruction sequence kept as data, written as real assembly between two global labels: [`Patchlet`] |
//! | operation (op) | one thing a kernel does that a hypervisor may want to replace: [`ops::Op`] |
//! | ops table | the table of function pointers, one slot per op, that says what each op does at present: [`ops::Table`] |
//! | native function | the out-of-line function a slot holds by default: the patchlet's instructions and a return |
//! | site | the place in text where an op is used: address, capacity in bytes, op, call or jump: [`site`] |
//! | replacement | what a site gets: patchlet, direct call, direct jump, nothing (NOPs), identity, trap: [`choose::Replacement`] |
//! | instruction buffer | where the new bytes of one site are composed before they are written, once: [`InsnBuffer`] |
//!
//! # From assembly to text
//!
//! Each step knows only those to its left; the modules are named after them.
//!
//! ```text
//! asm/patch_64.S ─cc→ object ─link→ labels ─→ patchlet ─┐
//! ops (what each op does now) ──────────────────────────┼→ choose ─→ insn ─→ text (boot)
//! asm! and .S sites ─→ records ─→ site ─────────────────┘             └────→ live (all CPUs on)
//! ```
//!
//! # Using it
//!
//! ```no_run
//! use core::ops::Range;
//! use patchlet::{OneCpu, Patcher, SecondMapping, Sites, pv};
//!
//! // Everywhere: an op is an inline function, and a patch site.
//! let flags = pv::save_fl();
//! pv::irq_disable();
//! // SAFETY: the flags from above.
//! unsafe { pv::restore_fl(flags) };
//!
//! // Once, at boot: every site gets what its op's slot stands for.
//! fn patch(text: Range<usize>, direct_map: usize) -> Result<(), patchlet::Error> {
//!     // SAFETY: all of text is mapped again, writable, `direct_map` bytes higher.
//!     let platform = unsafe { SecondMapping::new(text, direct_map) };
//!     let mut patcher = Patcher::new(Sites::linked(), [&pv::TABLE], platform);
//!     // SAFETY: no other CPU is started, and the NMI handler uses no op.
//!     let report = unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) }?;
//!     assert_eq!(report.indirect, 0);
//!     Ok(())
//! }
//! ```
//!
//! A hypervisor's layer is one call of [`pv::install`] before that, with functions
//! from [`slot_fn!`]. Patchlets of a kernel's own come from its own `.S` file by
//! [`patchlets!`], ops by [`ops!`]; the built-in ones are defined in no other way.
//!
//! # What the kernel must guarantee
//!
//! To patch at boot:
//! - Its link script has the line `INCLUDE patchlet.ld` (see the [`guide`]).
//! - What [`Platform`] asks of a mapping: readable text, and an alias that is the
//!   same memory.
//! - Functions in slots keep to the ABI class of their op ([`pv::install`]).
//! - While text is written at boot, one CPU runs, and no interrupt, NMI or
//!   machine-check handler uses an op ([`OneCpu`]).
//! - Code has no red zone where interrupts are taken on the same stack, as in every
//!   x86 kernel: `x86_64-unknown-none` has none.
//!
//! Switching [`live`] asks for more; the [`guide`] has all of it in one list.
//!
//! # What it does not do
//!
//! It does not decide anything by itself: no CPU detection, no hypervisor detection.
//! It is not for switching branches on and off (that is what static keys do), nor for
//! choosing an implementation by CPU feature once and for all.
//!
//! # Features
//!
//! - none: `no_std`, no allocation, no dependency at run time.
//! - `build`: [`assemble`](https://docs.rs/patchlet/latest/patchlet/assemble/), for
//!   build scripts of kernels with patchlets of their own.
//! - `inspect`: the tool `patchlet` and its library,
//!   [`inspect`](https://docs.rs/patchlet/latest/patchlet/inspect/) and
//!   [`contract`](https://docs.rs/patchlet/latest/patchlet/contract/), which read linked
//!   binaries.
#![cfg_attr(not(any(feature = "build", feature = "inspect")), no_std)]
// The modules that need the labels of assembled patchlets are there for x86 targets with ELF
// objects only. On another host the tool and `assemble` use a part of what remains.
#![cfg_attr(not(patchlet_assembled), allow(dead_code, unused_imports))]
// docs.rs: each item says for which feature or width it is.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "build")]
pub mod assemble;
pub mod choose;
#[cfg(feature = "inspect")]
pub mod contract;
#[cfg(feature = "inspect")]
mod disassemble;
pub mod error;
pub mod insn;
#[cfg(feature = "inspect")]
pub mod inspect;
#[cfg(any(feature = "build", feature = "inspect"))]
#[cfg_attr(
    not(feature = "inspect"),
    allow(dead_code, reason = "a build script that needs it says so")
)]
mod labels;
#[cfg(patchlet_assembled)]
pub mod live;
#[cfg(patchlet_assembled)]
pub mod ops;
#[cfg(patchlet_assembled)]
pub mod patchlet;
pub mod site;
#[cfg(patchlet_assembled)]
pub mod text;

pub use error::Error;
pub use insn::{ComposeError, InsnBuffer, Kind, Nops, Replacement, Width};
#[cfg(patchlet_assembled)]
pub use ops::pv;
#[cfg(patchlet_assembled)]
pub use patchlet::{Patchlet, native};
pub use site::Sites;
#[cfg(patchlet_assembled)]
pub use text::{
    Goal, OneCpu, Patcher, Platform, SecondMapping, Serializer, SiteSet, Writable, WriteProtectOff,
};

/// The code in the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[doc = include_str!("../docs/guide.md")]
pub mod guide {
    #[doc = include_str!("../docs/neighbours.md")]
    pub mod neighbours {}
}
