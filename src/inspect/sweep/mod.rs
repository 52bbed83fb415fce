//! The walk over all instructions of a file, and the rules for padding between functions.

mod padding;
mod walk;

pub(super) use walk::{Visitor, end_of, sites_in_text, sweep};
