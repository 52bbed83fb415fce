//! Patching a file: the bytes of its sites, at their offsets in the file.
//! Everything is checked first; what is written is a copy, under its final name
//! only when it is complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::model::Model;
use super::plan::Outcome;
use crate::insn::InsnBuffer;

/// New bytes at an offset of the file.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Edit {
    /// Offset of the first.
    pub offset: u64,
    /// The bytes.
    pub bytes: InsnBuffer,
}

/// The edits that carry out a plan, by offset; sites that stay are left out.
///
/// # Errors
/// A site that something else would write to, so that the edit would not last.
pub fn edits(model: &Model<'_>, plan: &[Outcome<'_>]) -> Result<Vec<Edit>, Error> {
    let mut edits = Vec::new();
    for outcome in plan.iter().filter(|outcome| outcome.before != outcome.after) {
        let record = outcome.record;
        // Kept by --emit-relocs for a kernel that relocates itself: it would
        // add to bytes that are no address any more. A relative one it skips.
        let relocations = model.image.relocations_in(record.site, record.end());
        if let Some(relocation) = relocations.iter().find(|relocation| relocation.absolute) {
            return Err(Error::new(format!(
                "site {:#x} ({}) has a relocation at {:#x}: relocating the kernel would destroy what is \
                 patched in; patch it at boot, or link it for a fixed address",
                record.site,
                model.function(record.site),
                relocation.address
            )));
        }
        let offset = model.image.file_offset(record.site).ok_or_else(|| {
            Error::new(format!("site {:#x} is not in any section of the file", record.site))
        })?;
        edits.push(Edit { offset, bytes: outcome.after });
    }
    edits.sort_by_key(|edit| edit.offset);
    Ok(edits)
}

/// Writes `original` with the edits to `path`, with the rights of the file at
/// `like`.
///
/// # Errors
/// What the system said; there is no new file then, and an old one is as it was.
pub fn write(original: &[u8], edits: &[Edit], path: &Path, like: &Path) -> Result<(), Error> {
    let part = part_name(path);
    let result = write_part(original, edits, &part, like)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|error| Error::new(format!("cannot write {}: {error}", path.display())));
    if result.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&part);
    }
    result
}

/// Beside the file, so that it can be renamed.
fn part_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

fn write_part(original: &[u8], edits: &[Edit], part: &Path, like: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(part)?;
    write_edited(original, edits, &mut file)?;
    file.set_permissions(File::open(like)?.metadata()?.permissions())?;
    file.sync_all()
}

/// The file with the edits, from its start to its end.
///
/// # Errors
/// What the writer said.
pub fn write_edited(original: &[u8], edits: &[Edit], out: &mut dyn Write) -> std::io::Result<()> {
    let mut at = 0;
    for edit in edits {
        let offset = usize::try_from(edit.offset).unwrap_or(usize::MAX);
        // By offset, and not overlapping except with itself (a site can have two
        // records): as sites are, where `verify` holds.
        out.write_all(original.get(at..offset).unwrap_or_default())?;
        let bytes = edit.bytes.bytes();
        let skip = at.saturating_sub(offset);
        out.write_all(bytes.get(skip..).unwrap_or_default())?;
        at = at.max(offset.saturating_add(bytes.len()));
    }
    out.write_all(original.get(at..).unwrap_or_default())
}
