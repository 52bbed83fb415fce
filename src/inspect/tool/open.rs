//! Opening what the command line names.

use std::ops::Deref;
use std::path::Path;

use super::stop::{Stop, in_file};
use crate::inspect::elf::{map, parse};
use crate::inspect::model::Model;

/// Maps a file.
pub(super) fn read(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, Stop> {
    map(path).map_err(in_file(path))
}

/// Reads a linked file.
pub(super) fn linked<'d>(path: &Path, data: &'d [u8]) -> Result<Model<'d>, Stop> {
    parse(data).and_then(Model::new).map_err(in_file(path))
}
