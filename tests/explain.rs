//! Tests `patchlet explain`, `audit`, `sites` and `plan` on a small Linux kernel with every form of
//! table and on a small kernel with this crate, in memory whose text the tests write byte by byte,
//! and on damaged files and dumps.
#![cfg(feature = "inspect")]

#[path = "explain/audit.rs"]
mod audit;
#[path = "explain/broken.rs"]
mod broken;
#[path = "explain/cfi.rs"]
mod cfi;
#[path = "explain/features.rs"]
mod features;
#[path = "explain/kcore.rs"]
mod kcore;
#[path = "explain/kernel.rs"]
mod kernel;
#[path = "explain/linux_sites.rs"]
mod linux_sites;
#[path = "explain/made.rs"]
mod made;
#[path = "explain/memory.rs"]
mod memory;
#[path = "explain/names.rs"]
mod names;
#[path = "explain/oops.rs"]
mod oops;
#[path = "explain/own.rs"]
mod own;
#[path = "explain/own_broken.rs"]
mod own_broken;
#[allow(dead_code, reason = "the tests of the tool use all of it")]
#[path = "tool/sample.rs"]
mod sample;
#[path = "explain/tables.rs"]
mod tables;
#[allow(dead_code, reason = "the tests of the tool use all of it")]
#[path = "tool/run.rs"]
mod tool;
