//! The tool `patchlet`, which reads, verifies and patches ELF files.
//!
//! Each step is a function over the bytes of a file, so that a kernel's own
//! tools and tests can use the steps too:
//!
//! ```no_run
//! use patchlet::inspect::{Model, Reference, map, parse, verify};
//!
//! let file = map("target/kernel".as_ref())?;
//! let model = Model::new(parse(&file)?)?;
//! for finding in verify(&model, &Reference::native(&model), &mut |_, _| ()).sorted() {
//!     println!("{finding}");
//! }
//! # Ok::<(), patchlet::inspect::FileError>(())
//! ```
//!
//! Imports run one way: `elf` reads a file into plain data; `formats` finds patchlets and
//! tables of records in it; `model` joins all of it; `cpu` knows what other CPUs have; `verify`,
//! `plan`, `apply`, `diff` and `raw` work on the model. `explain` reads memory dumps; `running` says
//! what the text of a kernel with this crate should be, and `linux` that of a Linux kernel. `tool` is the command line on
//! top, over any [`std::io::Write`].
//! The replacement of a site is chosen by [`Choice`](crate::choose::Choice) and composed by
//! [`insn`](crate::insn), the same code that patches at boot.
//!
//! A type whose name ends in `Image` describes a thing of the crate as it stands in a file:
//! `PatchletImage` has numbers and borrowed bytes of the file, and `patchlet::Patchlet` is the
//! patchlet in a running program.
//!
//! # What is stable
//!
//! Semantic versioning applies to the command line, the [`Exit`] status, the names of
//! [`FindingCode`], the fields of `--json`, and this library. Any version may add options,
//! codes, and fields in JSON and in structs. The columns and sentences for people can change
//! in any version. The tool reads kernels that were built with the same version of the crate:
//! another version may have another layout of records and of the index of patchlets.

mod apply;
mod cpu;
mod diff;
mod elf;
mod error;
mod explain;
mod finding;
mod formats;
mod hex;
mod linux;
mod model;
mod near;
mod plan;
mod raw;
mod running;
mod sweep;
mod tool;
mod verify;

pub use apply::{Edit, edits, edits_of_branches, write, write_edited};
pub use cpu::{CpuFeatures, CpuSpec};
pub use diff::{Difference, Sign, diff};
pub use elf::{
    Image, Linkage, PlacedModule, Section, Symbol, SymbolKind, Symbols, is_archive, map, members,
    parse,
};
pub use error::FileError;
pub use explain::{Count, Explained, Explanation, RawAddress, SlideEvidence, Verdict};
pub use finding::{Finding, FindingCode, Findings};
pub use formats::{
    BranchImage, HoleImage, KeyImage, Means, OpRecord, PatchletImage, PlaceImage, PlaceMode,
    SiteImage, VariantImage, keys_of, native_set, ops_of, patchlets_of, variants_of,
};
pub use linux::{
    Audit, AuditFinding, AuditKind, BuiltWith, CodeLine, ComparedOops, ExplainedLog, ExplainedOops,
    LineSign, LinuxKernel, LinuxSite, LinuxSitePlan, ListedSite, OopsDifference, PlanCertainty,
    SiteFilter, SiteForm, Slide, SlideFrom, TableKind, Unpacked, audit as audit_linux,
    explain as explain_linux, explain_oopses, plan as plan_linux, unpack, unpack_module,
};
pub use model::{BranchForm, Model, OpImage, SiteState, TableImage};
pub use plan::{
    BranchPlan, KeyPlan, PlatformSpec, SitePlan, on_platform, plan, plan_branches, plan_keys,
    plan_keys_revert, plan_revert,
};
pub use raw::{RawInstruction, raw};
pub use running::{ModuleFile, explain as explain_running};
pub use tool::{Exit, Terminal, run};
pub use verify::{ExpectedSites, Reference, verify};
