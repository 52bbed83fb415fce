//! What a patchlet in a file is.

/// The longest patchlet that is possible, in bytes. A site has room for 32.
pub(super) const LONGEST: u64 = 4096;

/// One patchlet in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PatchletImage<'d> {
    /// The name in its labels.
    pub name: &'d str,
    /// Address of its first byte; in an object, offset in its section.
    pub address: u64,
    /// Number of its section.
    pub section: usize,
    /// Its instructions.
    pub bytes: &'d [u8],
    /// Address of its native function, if the file names it.
    pub native: Option<u64>,
}

impl PatchletImage<'_> {
    /// Returns the address behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}
