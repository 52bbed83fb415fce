//! Dumps of a machine's memory: they are read, and a kernel is found in them. Nothing here knows
//! how a kernel patches itself.

mod dump;
mod locate;
mod memory;
mod paging;

pub use dump::RawAddress;
pub use locate::SlideEvidence;

pub(super) use dump::read;
pub(super) use locate::{Located, locate};
