//! The tool `patchlet`, on files small enough to be written byte by byte, with
//! every defect there is, and on real ones.
#![cfg(feature = "inspect")]

#[path = "inspect/defects.rs"]
mod defects;
#[path = "inspect/malformed.rs"]
mod malformed;
#[path = "inspect/output.rs"]
mod output;
#[path = "inspect/patching.rs"]
mod patching;
#[path = "inspect/real.rs"]
mod real;
#[path = "inspect/replay.rs"]
mod replay;
#[path = "inspect/sample.rs"]
mod sample;
#[path = "inspect/tool.rs"]
mod tool;
