//! Everything that the commands need of one linked file, read once.

mod file;
mod ops_tables;

pub use file::{Model, OpImage, SiteState};
pub use ops_tables::TableImage;
