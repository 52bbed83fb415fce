//! Text, and the only writes to it. This is the engine: it knows records, bytes and memory, and
//! neither ops nor keys. What a record stands for, it asks a front end ([`Source`]).
//!
//! | file | what |
//! |---|---|
//! | `source` | the seam: what a front end says of a record |
//! | `once_range` | a range of addresses that is set once |
//! | `site_set` | the sites of one linked object, and their front ends |
//! | `platform`, `serialize`, `one_cpu` | what the kernel supplies |
//! | `report` | what patching is to do, and the counts of what it did |
//! | `change` | keys and slots that are set in one transaction with patching |
//! | `memory` | loads and stores |
//! | `class`, `checked_site`, `contents` | what a site gets, where it is, what it holds |
//! | `fault` | what is wrong with a site, and the error that tells |
//! | `overlap`, `check` | the first pass, which writes nothing |
//! | `write` | the second pass |
//! | `plan`, `patcher` | what a kernel calls |
//!
//! Each file imports only those above it. Two words are used throughout: a `Run` is one pass over
//! a site set, and a `CheckedSite` is a site whose record was checked in it.

mod change;
mod check;
mod checked_site;
mod class;
mod contents;
mod fault;
mod memory;
mod once_range;
mod one_cpu;
mod overlap;
mod patcher;
mod plan;
mod platform;
mod report;
mod serialize;
mod site_set;
mod source;
mod write;

pub use change::Change;
pub use one_cpu::OneCpu;
pub use patcher::Patcher;
pub use plan::{Outcome, Plan};
pub use platform::{Platform, SecondMapping, Writable, WriteProtectOff};
pub use report::{Goal, Report};
pub use serialize::Serializer;
pub use site_set::{Part, SiteSet};
pub use source::{Emulation, Follow, Recipe, RecordFault, Source, Subject};

pub(crate) use change::{KeyRef, undo};
pub(crate) use check::check;
pub(crate) use checked_site::{CheckedSite, Run};
pub(crate) use class::ClassCache;
pub(crate) use contents::View;
pub(crate) use fault::{Fault, SiteFault};
pub(crate) use overlap::{check_against, check_between_sets};
pub(crate) use patcher::{make_changes, write_sets};
pub(crate) use site_set::SiteTable;
