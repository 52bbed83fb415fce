//! Opens the files and platforms that the command line names. Each error names the file.

use std::ops::Deref;
use std::path::Path;

use super::arguments::NopsName;
use super::stop::{Stop, in_file};
use crate::inspect::elf::{map, parse};
use crate::inspect::error::FileError;
use crate::inspect::model::Model;
use crate::inspect::plan::{PlatformSpec, on_platform};

/// Maps a file.
pub(super) fn read(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, Stop> {
    map(path).map_err(in_file(path))
}

/// Reads a linked file. Its sites are compared with their replacements on a platform.
pub(super) fn linked_for<'d>(
    path: &Path,
    data: &'d [u8],
    platform: &PlatformSpec,
) -> Result<Model<'d>, Stop> {
    on_platform(linked(path, data)?, platform).map_err(in_file(path))
}

/// Makes sites be filled with the NOPs that the command line names, if it names any.
pub(super) fn filled_with<'d>(
    model: Model<'d>,
    nops: Option<NopsName>,
    path: &Path,
) -> Result<Model<'d>, Stop> {
    match nops {
        Some(nops) => model.with_nops(nops.into()).map_err(in_file(path)),
        None => Ok(model),
    }
}

/// Reads what a command line says of a platform.
pub(super) fn platform(words: &str) -> Result<PlatformSpec, Stop> {
    words.parse().map_err(|error: FileError| Stop::Failed(error.to_string()))
}

/// Reads a linked file.
pub(super) fn linked<'d>(path: &Path, data: &'d [u8]) -> Result<Model<'d>, Stop> {
    parse(data).and_then(Model::new).map_err(in_file(path))
}
