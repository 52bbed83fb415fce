//! Kernels with this crate: what the text of a running one should be. `object` joins a file with the
//! dump and says what a site gets; `sites` finds the sites, `base`, `batch` and `judge` say which state
//! each is in, `compare` compares all of text, and `explain` does it all.

mod base;
mod batch;
mod compare;
mod elsewhere;
mod explain;
mod judge;
mod object;
mod sites;
mod text;
mod words;

pub use explain::{ModuleFile, explain};
