//! Linux: what the text of a running kernel should be. `unpack` reads a kernel's file; `names`, `btf`
//! and `tables` what it says about itself; `features` what it calls the CPU's; `state` the dump;
//! `rules` write the text that follows from all this into `text`; `explain` compares it with the
//! dump.

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
