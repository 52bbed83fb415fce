//! Instruction patching for x86 kernels.
#![cfg_attr(not(feature = "build"), no_std)]

#[cfg(feature = "build")]
pub mod assemble;
pub mod patchlet;

pub use patchlet::{Patchlet, native};
