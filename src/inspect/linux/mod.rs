//! Linux: what the text of a running kernel should be. `unpack` reads a kernel's file, `names` and
//! `tables` what it says about itself; `state` reads the dump; `rules` write the text that
//! follows from both into `text`; `explain` compares it with the dump.

mod btf;
mod explain;
mod features;
mod kallsyms;
mod kernel;
mod names;
mod nops;
mod rules;
mod state;
mod tables;
mod text;
mod unpack;

pub use explain::explain;
pub use kernel::LinuxKernel;
pub use tables::TableKind;

pub use unpack::{Unpacked, unpack};
