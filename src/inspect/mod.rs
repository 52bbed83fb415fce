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
//! # Ok::<(), patchlet::inspect::Error>(())
//! ```
//!
//! Imports run one way: `image` and `symbols` are plain data, `read` makes them;
//! `patchlets`, `records` and `tables` look into them; `model` joins all of it;
//! `verify`, `plan`, `apply` and `diff` work on the model; `command` is the tool
//! on top, over any [`std::io::Write`]. What is chosen for a site and how it is
//! composed is [`choose`](crate::choose) and [`insn`](crate::insn), the same code
//! that patches at boot.
//!
//! # What is stable
//!
//! For as long as the crate's version says: the command line, the [`Exit`] status, the
//! names of [`Code`], the fields of `--json`, and this library. There can always be
//! more options, more codes, and more fields in JSON and in structs. The columns and
//! sentences for people can change at any time. The tool reads kernels that were built
//! with a crate of its own version; a record, or the index of patchlets, may look
//! different in another one.

mod apply;
mod archive;
mod arguments;
mod columns;
mod command;
mod diff;
mod disassemble;
mod error;
mod finding;
mod image;
mod json;
mod map;
mod model;
mod native_set;
mod op_records;
mod patchlets;
mod plan;
mod read;
mod records;
mod symbols;
mod tables;
mod verify;
mod views;

pub use apply::{Edit, edits, write, write_edited};
pub use archive::{is_archive, members};
pub use command::{Exit, Terminal, run};
pub use diff::{Difference, diff};
pub use error::Error;
pub use finding::{Code, Finding, Findings};
pub use image::{FileKind, Image, Section};
pub use map::map;
pub use model::{Model, Op, State};
pub use native_set::native_set;
pub use op_records::{OpRecord, ops_of};
pub use patchlets::{Patchlet, patchlets_of};
pub use plan::{Outcome, Platform, plan, plan_revert};
pub use read::parse;
pub use records::Record;
pub use symbols::{Symbol, SymbolKind, Symbols};
pub use tables::Table;
pub use verify::{Reference, verify};
