//! The model of a linked file, on which all commands work that need a linked file.

mod file;
mod ops_tables;

pub use file::{Model, OpImage, SiteState};
pub use ops_tables::TableImage;
