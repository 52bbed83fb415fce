//! A walk over the instructions of a file.

mod padding;
mod walk;

pub(super) use walk::{Visitor, end_of, sites_in_text, sweep};
