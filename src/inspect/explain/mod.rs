//! Dumps of a machine's memory: they are read, and a kernel is found in them. `outcome` is what
//! comparing the kernel with its file says. Nothing here knows how a kernel patches itself.

mod dump;
mod kcore;
mod locate;
mod memory;
mod outcome;
mod paging;

pub use dump::RawAddress;
pub use locate::SlideEvidence;
pub use outcome::{Count, Explained, Explanation, Verdict};

pub(super) use dump::read;
pub(super) use kcore::copy as copy_kcore;
pub(super) use locate::{Located, locate};
pub(super) use memory::{Memory, Region};
