//! Text: the only writes to it. The platform a kernel describes, planning,
//! applying at boot, revert, and read-back.

mod class;
mod fault;
mod memory;
mod one_cpu;
mod pass;
mod patcher;
mod plan;
mod platform;
mod report;
mod spot;

pub use one_cpu::OneCpu;
pub use patcher::Patcher;
pub use plan::Plan;
pub use platform::{Platform, SecondMapping, Writable, WriteProtectOff, serialize};
pub use report::{Goal, Outcome, Report};

pub(crate) use class::Classes;
pub(crate) use pass::{Refused, Run, Step};
pub(crate) use report::Aim;
pub(crate) use spot::{Holds, Spot, View};
