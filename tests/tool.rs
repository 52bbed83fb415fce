//! Tests the tool `patchlet` on small files that are written byte by byte, with every kind of
//! defect, and on real files.
#![cfg(feature = "inspect")]

#[path = "tool/blobs.rs"]
mod blobs;
#[path = "tool/branch_defects.rs"]
mod branch_defects;
#[path = "tool/branches.rs"]
mod branches;
#[path = "tool/cpus.rs"]
mod cpus;
#[path = "tool/defects.rs"]
mod defects;
#[path = "tool/malformed.rs"]
mod malformed;
#[path = "tool/odd.rs"]
mod odd;
#[path = "tool/output.rs"]
mod output;
#[path = "tool/patching.rs"]
mod patching;
#[path = "tool/raw.rs"]
mod raw;
#[path = "tool/real.rs"]
mod real;
#[path = "tool/replay.rs"]
mod replay;
#[path = "tool/sample.rs"]
mod sample;
#[path = "tool/run.rs"]
mod tool;
