//! The model of a linked file, on which all commands work that need a linked file.

mod branches;
mod file;
mod functions;
mod ops;
mod ops_tables;
mod sites;
mod variants;

pub use branches::BranchForm;
pub use file::{Model, OpImage};
pub use ops_tables::TableImage;
pub use sites::SiteState;
