//! The commands of the tool, one file for each.

mod apply;
mod audit;
mod diff;
mod explain;
mod help;
mod linux_plan;
mod linux_sites;
mod list;
mod oops;
mod plan;
mod raw;
mod sites;
mod verify;

pub(super) use apply::apply;
pub(super) use audit::audit;
pub(super) use diff::diff;
pub(super) use explain::explain;
pub(super) use help::{completions, man};
pub(super) use list::list;
pub(super) use oops::oops;
pub(super) use plan::plan;
pub(super) use raw::raw;
pub(super) use sites::sites;
pub(super) use verify::verify;
