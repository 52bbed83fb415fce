//! Files and archives (`.a`, `.rlib`): they are mapped, and their kind is recognized by their
//! first bytes.
//!
//! Unsafe code here maps a file. It is the only unsafe code of the tool.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;
use object::FileKind;
use object::read::archive::ArchiveFile;

use crate::inspect::error::FileError;

/// Maps a file for reading.
///
/// # Errors
/// Returns what the system reported, or that the path does not name a regular file.
pub fn map(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, FileError> {
    let failed = |error: std::io::Error| FileError::new(format!("cannot read it: {error}"));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::new("cannot read it: not a regular file"));
    }
    // SAFETY: the mapping is read-only. If another process truncates the file meanwhile, the
    // tool ends by SIGBUS. If one writes to it, the bytes change under the slice: no
    // `unsafe` code of the tool relies on a value that was read before, and each access is
    // checked against the length of the slice, so the result can be wrong but no memory
    // outside of the mapping is read.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

/// Returns the kind of a file by its first bytes, or `None` if the crate `object` does not know
/// the kind.
pub(super) fn kind_of(data: &[u8]) -> Option<FileKind> {
    // `object` wants 16 bytes, but an empty archive has only 8: the rest is filled with zeros.
    let mut start = [0; 16];
    for (to, from) in start.iter_mut().zip(data) {
        *to = *from;
    }
    FileKind::parse(&start[..]).ok()
}

/// Returns whether the file is an archive, a thin one included.
#[must_use]
pub fn is_archive(data: &[u8]) -> bool {
    kind_of(data) == Some(FileKind::Archive)
}

/// Returns the name and the bytes of each member of an archive that is an ELF file.
///
/// # Errors
/// Returns an error if the archive is damaged, if its members overlap, or if it is a thin one,
/// which has no members in it.
pub fn members(data: &[u8]) -> Result<Vec<(String, &[u8])>, FileError> {
    let bad = |error: object::Error| FileError::new(format!("unusable archive: {error}"));
    let archive = ArchiveFile::parse(data).map_err(bad)?;
    if archive.is_thin() {
        return Err(FileError::new(
            "a thin archive has no objects in it: give the objects themselves",
        ));
    }
    let mut members = Vec::new();
    let mut claimed = 0;
    for member in archive.members() {
        let member = member.map_err(bad)?;
        let bytes = member.data(data).map_err(bad)?;
        claimed += bytes.len();
        if claimed > data.len() {
            return Err(FileError::new("unusable archive: its members overlap"));
        }
        if matches!(kind_of(bytes), Some(FileKind::Elf32 | FileKind::Elf64)) {
            let name = String::from_utf8_lossy(member.name());
            members.push((name.replace(char::is_control, "?"), bytes));
        }
    }
    Ok(members)
}

/// Returns the ELF files of an archive with their names, or any other file itself with an empty
/// name.
pub(crate) fn objects(data: &[u8]) -> Result<Vec<(String, &[u8])>, FileError> {
    if is_archive(data) { members(data) } else { Ok(vec![(String::new(), data)]) }
}
