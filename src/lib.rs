//! Instruction patching for x86 kernels.
#![cfg_attr(not(feature = "build"), no_std)]

#[cfg(feature = "build")]
pub mod assemble;
pub mod choose;
pub mod error;
pub mod insn;
pub mod ops;
pub mod patchlet;
pub mod site;
mod slot_fn;
pub mod text;

pub use error::{ComposeError, Error};
pub use insn::{InsnBuffer, Nops, Width};
pub use ops::pv;
pub use patchlet::{Patchlet, native};
pub use site::{Kind, Sites};
pub use text::{Goal, OneCpu, Patcher, Platform, SecondMapping, Writable, WriteProtectOff};
