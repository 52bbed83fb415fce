//! The walk over all instructions of a file, and the rules for padding between functions.

mod padding;
mod text_site;
mod walk;

pub(super) use text_site::{RecordImage, TextSite, sites_in_text, sort};
pub(super) use walk::{Visitor, sweep, sweep_text};
