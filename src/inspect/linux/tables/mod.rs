//! The tables in which a Linux kernel says where it patches itself. A format is a row of data:
//! where the table lies, and what a record looks like. Kernels of one version can have different
//! records, for stable versions get what later ones had first. So the layout is not taken from
//! the version: of the layouts of a format it is the one in which every record of the table makes
//! sense.

mod format;
mod kind;
mod read;
mod record;
mod search;

pub use kind::TableKind;
pub use read::has_tables;

pub(crate) use read::{of_module, read};
pub(crate) use record::{KernelTable, TableRecord};
