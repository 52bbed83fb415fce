//! Patching a file: new bytes for its sites, at their offsets in the file. The result is a
//! copy, which gets its final name only when it is complete.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::error::FileError;
use super::formats::KEY_WORD;
use super::model::Model;
use super::plan::{BranchPlan, KeyPlan, SitePlan};
use crate::insn::InsnBuffer;

/// New bytes at an offset of the file.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Edit {
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// The bytes that the file gets there.
    pub bytes: InsnBuffer,
}

/// Returns the edits that carry out the plan of the sites of ops, sorted by offset. Sites that keep
/// their bytes have no edit.
///
/// # Errors
/// Returns an error if a site is not in a section of the file, or if a relocation in a site
/// would overwrite the edit when the kernel relocates itself.
pub fn edits(model: &Model<'_>, plan: &[SitePlan<'_>]) -> Result<Vec<Edit>, FileError> {
    let changed = plan.iter().filter(|site_plan| site_plan.before != site_plan.after);
    let edit =
        |site_plan: &SitePlan<'_>| edit(model, "site", site_plan.record.site, site_plan.after);
    Ok(sorted(changed.map(edit).collect::<Result<_, _>>()?))
}

/// Returns the edits that carry out the plan of branch sites and their keys, sorted by offset. What
/// keeps its bytes has no edit.
///
/// # Errors
/// Returns an error as [`edits`] does, and for a key that changes and has no bytes in the file.
pub fn edits_of_branches(
    model: &Model<'_>,
    branches: &[BranchPlan<'_>],
    keys: &[KeyPlan<'_>],
) -> Result<Vec<Edit>, FileError> {
    let mut edits = Vec::new();
    for plan in branches.iter().filter(|plan| plan.before != plan.after) {
        edits.push(edit(model, "branch site", plan.record.site, plan.after)?);
    }
    for plan in keys.iter().filter(|plan| plan.before != plan.after) {
        let (name, address) = (plan.key.name, plan.key.address.unwrap_or(0));
        // A word in zeroed memory has an address and no bytes.
        if model.image().bytes_at(address, KEY_WORD).is_none() {
            return Err(FileError::new(format!(
                "the key `{name}` at {address:#x} is in zeroed memory, whose bytes are not in the \
                 file: put its static into `.data`, by `#[unsafe(link_section)]`"
            )));
        }
        let word = InsnBuffer::copy_of(&plan.after.to_le_bytes());
        edits.push(edit(model, "key", address, word.unwrap_or(InsnBuffer::empty()))?);
    }
    Ok(sorted(edits))
}

/// Sorts edits by offset.
fn sorted(mut edits: Vec<Edit>) -> Vec<Edit> {
    edits.sort_by_key(|edit| edit.offset);
    edits
}

/// Returns the edit that gives the file these bytes at an address. `what` says what is there.
fn edit(model: &Model<'_>, what: &str, address: u64, bytes: InsnBuffer) -> Result<Edit, FileError> {
    // The linker keeps relocations for a kernel that relocates itself (--emit-relocs).
    // Such a kernel would add its load offset to an absolute one, whose bytes are
    // not an address any more. It skips relative ones.
    let end = address.saturating_add(bytes.bytes().len() as u64);
    let relocations = model.image().relocations_in(address, end);
    if let Some(relocation) = relocations.iter().find(|relocation| relocation.absolute) {
        return Err(FileError::new(format!(
            "{what} {address:#x} ({}) has a relocation at {:#x}: relocating the kernel would destroy \
             what is patched in; patch it at boot, or link it for a fixed address",
            model.function(address),
            relocation.address
        )));
    }
    let offset = model.image().file_offset(address).ok_or_else(|| {
        FileError::new(format!("{what} {address:#x} is not in any section of the file"))
    })?;
    Ok(Edit { offset, bytes })
}

/// Writes `original` with the edits to `path`, with the permissions of the file at `like`.
///
/// # Errors
/// Returns what the system reported. No new file exists then, and an old file at `path` is
/// unchanged.
pub fn write(original: &[u8], edits: &[Edit], path: &Path, like: &Path) -> Result<(), FileError> {
    replace(original, edits, path, like)
        .map_err(|error| FileError::new(format!("cannot write {}: {error}", path.display())))
}

fn replace(original: &[u8], edits: &[Edit], path: &Path, like: &Path) -> io::Result<()> {
    let permissions = fs::metadata(like)?.permissions();
    // The temporary file is in the folder of the final one: a rename works only within one file
    // system. On an error, dropping it removes it.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut part = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    write_edited(original, edits, &mut part)?;
    let file = part.as_file();
    file.set_permissions(permissions)?;
    file.sync_all()?;
    part.persist(path)?;
    Ok(())
}

/// Writes the file with the edits, from its start to its end. The edits must be sorted by offset.
///
/// # Errors
/// Returns the error of the writer.
pub fn write_edited(original: &[u8], edits: &[Edit], out: &mut dyn Write) -> io::Result<()> {
    let mut at = 0;
    for edit in edits {
        let offset = usize::try_from(edit.offset).unwrap_or(usize::MAX);
        // If `verify` found nothing, two edits overlap only if they are equal: a site can have
        // two records. The second of them then writes nothing.
        out.write_all(original.get(at..offset).unwrap_or_default())?;
        let bytes = edit.bytes.bytes();
        let skip = at.saturating_sub(offset);
        out.write_all(bytes.get(skip..).unwrap_or_default())?;
        at = at.max(offset.saturating_add(bytes.len()));
    }
    out.write_all(original.get(at..).unwrap_or_default())
}
