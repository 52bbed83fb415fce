//! Linux: what the text of a running kernel should be. `unpack` and `module` read the file of a kernel
//! or a module; `names`, `btf` and `tables` read what it says about itself; `features` its numbers and
//! names for features of the CPU; `state` the variables in the dump, and `file_state` those in the
//! file. `rules` write the text that follows from all this into `text`.
//!
//! `explain` compares this text with a dump, and `oops` with a log; `plan` and `listing` show it site
//! by site; `audit` looks for instructions without a record.

mod audit;
mod btf;
mod describe;
mod explain;
mod features;
mod file_state;
mod kallsyms;
mod kernel;
mod listing;
mod module;
mod names;
mod nops;
mod oops;
mod plan;
mod rules;
mod site_groups;
mod state;
mod tables;
mod text;
mod unpack;

pub use audit::{Audit, AuditFinding, AuditKind, BuiltWith, audit};
pub use explain::explain;
pub use kernel::LinuxKernel;
pub use listing::{LinuxSite, ListedSite, SiteFilter};
pub use module::{is_packed, unpack_module};
pub use oops::{
    CodeLine, ComparedOops, ExplainedLog, ExplainedOops, LineSign, OopsDifference, SiteForm, Slide,
    SlideFrom, explain_oopses,
};
pub use plan::{LinuxSitePlan, PlanCertainty, plan};
pub use tables::{TableKind, has_tables};
pub use unpack::{Unpacked, unpack};
