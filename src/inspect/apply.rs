//! Patching a file: the bytes of its sites, at their offsets in the file. Everything is
//! checked first; what is written is a copy, under its final name only when it is complete.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::error::FileError;
use super::model::Model;
use super::plan::SitePlan;
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

/// Returns the edits that carry out a plan, by offset; sites that stay are left out.
///
/// # Errors
/// A site that something else would write to, so that the edit would not last.
pub fn edits(model: &Model<'_>, plan: &[SitePlan<'_>]) -> Result<Vec<Edit>, FileError> {
    let mut edits = Vec::new();
    for site_plan in plan.iter().filter(|site_plan| site_plan.before != site_plan.after) {
        let record = site_plan.record;
        // Kept by --emit-relocs for a kernel that relocates itself: it would
        // add to bytes that are no address any more. A relative one it skips.
        let relocations = model.image().relocations_in(record.site, record.end());
        if let Some(relocation) = relocations.iter().find(|relocation| relocation.absolute) {
            return Err(FileError::new(format!(
                "site {:#x} ({}) has a relocation at {:#x}: relocating the kernel would destroy what is \
                 patched in; patch it at boot, or link it for a fixed address",
                record.site,
                model.function(record.site),
                relocation.address
            )));
        }
        let offset = model.image().file_offset(record.site).ok_or_else(|| {
            FileError::new(format!("site {:#x} is not in any section of the file", record.site))
        })?;
        edits.push(Edit { offset, bytes: site_plan.after });
    }
    edits.sort_by_key(|edit| edit.offset);
    Ok(edits)
}

/// Writes `original` with the edits to `path`, with the permissions of the file at `like`.
///
/// # Errors
/// What the system said; there is no new file then, and an old one is as it was.
pub fn write(original: &[u8], edits: &[Edit], path: &Path, like: &Path) -> Result<(), FileError> {
    replace(original, edits, path, like)
        .map_err(|error| FileError::new(format!("cannot write {}: {error}", path.display())))
}

fn replace(original: &[u8], edits: &[Edit], path: &Path, like: &Path) -> io::Result<()> {
    let permissions = fs::metadata(like)?.permissions();
    // In the same folder, so that it can be renamed. It goes away by itself on an error.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut part = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    write_edited(original, edits, &mut part)?;
    let file = part.as_file();
    file.set_permissions(permissions)?;
    file.sync_all()?;
    part.persist(path)?;
    Ok(())
}

/// Writes the file with the edits, from its start to its end.
///
/// # Errors
/// What the writer said.
pub fn write_edited(original: &[u8], edits: &[Edit], out: &mut dyn Write) -> io::Result<()> {
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
