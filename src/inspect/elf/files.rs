//! Files: mapped and not slurped, recognized by their first bytes, and what is in an
//! archive (`.a`, `.rlib`). The only place of the tool with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;
use object::FileKind;
use object::read::archive::ArchiveFile;

use crate::inspect::error::FileError;

/// Maps a file to read it.
///
/// # Errors
/// What the system said.
pub fn map(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, FileError> {
    let failed = |error: std::io::Error| FileError::new(format!("cannot read it: {error}"));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::new("cannot read it: not a regular file"));
    }
    // SAFETY: the mapping is read-only and private to this process. A process that
    // truncates the file meanwhile ends the tool by SIGBUS, and one that writes to it
    // confuses the tool, as any reader: no code here relies on bytes staying as they
    // were checked, each access is checked by itself.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

/// Returns what kind of file this is by its first bytes; none if `object` knows no such kind.
pub(super) fn kind_of(data: &[u8]) -> Option<FileKind> {
    // `object` looks at 16 bytes, and an empty archive has 8.
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

/// Returns the name and the bytes of each member that is an ELF file.
///
/// # Errors
/// Where the archive breaks off; that it is a thin one.
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

/// Returns the file itself under an empty name, or the ELF files of an archive.
pub(crate) fn objects(data: &[u8]) -> Result<Vec<(String, &[u8])>, FileError> {
    if is_archive(data) { members(data) } else { Ok(vec![(String::new(), data)]) }
}
