//! The tool `patchlet`: an ELF file in, findings out.
//!
//! Everything is a function over the bytes of a file, so that a kernel's own
//! tools and tests can use it too:
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
//! tables of records in it; `model` joins all of it; `verify`, `plan`, `apply`, `diff` and
//! `raw` work on the model; `tool` is the command line on top, over any [`std::io::Write`]. What
//! is chosen for a site and how it is composed is [`Choice`](crate::choose::Choice) and
//! [`insn`](crate::insn), the same code that patches at boot.
//!
//! A type that ends in `Image` is a thing of the crate as it stands in a file: numbers and
//! borrowed bytes, where the type without that ending is the thing in a running program.
//!
//! # What is stable
//!
//! For as long as the crate's version says: the command line, the [`Exit`] status, the
//! names of [`FindingCode`], the fields of `--json`, and this library. There can always be
//! more options, more codes, and more fields in JSON and in structs. The columns and
//! sentences for people can change at any time. The tool reads kernels that were built
//! with a crate of its own version; a record, or the index of patchlets, may look
//! different in another one.

mod apply;
mod diff;
mod elf;
mod error;
mod finding;
mod formats;
mod hex;
mod model;
mod plan;
mod raw;
mod sweep;
mod tool;
mod verify;

pub use apply::{Edit, edits, write, write_edited};
pub use diff::{Difference, Sign, diff};
pub use elf::{
    Image, Linkage, Section, Symbol, SymbolKind, Symbols, is_archive, map, members, parse,
};
pub use error::FileError;
pub use finding::{Finding, FindingCode, Findings};
pub use formats::{OpRecord, PatchletImage, SiteImage, native_set, ops_of, patchlets_of};
pub use model::{Model, OpImage, SiteState, TableImage};
pub use plan::{PlatformSpec, SitePlan, on_platform, plan, plan_revert};
pub use raw::{RawInstruction, raw};
pub use tool::{Exit, Terminal, run};
pub use verify::{ExpectedSites, Reference, verify};
