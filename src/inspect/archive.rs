//! Archives (`.a`, `.rlib`): their members, by the crate `object`.

use object::read::archive::ArchiveFile;

use super::error::Error;

/// How every archive starts; the second is a thin one.
const MAGIC: [&[u8]; 2] = [b"!<arch>\n", b"!<thin>\n"];

/// Whether the file is an archive.
#[must_use]
pub fn is_archive(data: &[u8]) -> bool {
    MAGIC.iter().any(|magic| data.starts_with(magic))
}

/// The name and the bytes of each member that is an ELF file.
///
/// # Errors
/// Where the archive breaks off; that it is a thin one.
pub fn members(data: &[u8]) -> Result<Vec<(String, &[u8])>, Error> {
    let bad = |error: object::Error| Error::new(format!("unusable archive: {error}"));
    let archive = ArchiveFile::parse(data).map_err(bad)?;
    if archive.is_thin() {
        return Err(Error::new("a thin archive has no objects in it: give the objects themselves"));
    }
    let mut members = Vec::new();
    let mut claimed = 0;
    for member in archive.members() {
        let member = member.map_err(bad)?;
        let bytes = member.data(data).map_err(bad)?;
        claimed += bytes.len();
        if claimed > data.len() {
            return Err(Error::new("unusable archive: its members overlap"));
        }
        if bytes.starts_with(b"\x7fELF") {
            let name = String::from_utf8_lossy(member.name());
            members.push((name.replace(char::is_control, "?"), bytes));
        }
    }
    Ok(members)
}
