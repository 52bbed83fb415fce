//! Files, mapped and not slurped. The one place of the tool with unsafe code.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::error::Error;

/// Maps a file to read it.
///
/// # Errors
/// What the system said.
pub fn map(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, Error> {
    let failed = |error: std::io::Error| Error::new(format!("cannot read it: {error}"));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::new("cannot read it: not a regular file"));
    }
    // SAFETY: read-only and private to this process. Who truncates the file
    // meanwhile ends the tool by SIGBUS, and who writes to it confuses it, as any
    // reader; nothing here trusts bytes to stay as they were checked, every
    // access is checked by itself.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
