//! The model of a linked file, on which all commands work that need a linked file.

mod branches;
mod file;
mod ops_tables;
mod variants;

pub use branches::BranchForm;
pub use file::{Model, OpImage, SiteState};
pub use ops_tables::TableImage;
