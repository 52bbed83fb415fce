//! The type of a patchlet in a file.

/// The largest length of a patchlet, in bytes. A site has room for 32 bytes. The larger limit
/// lets the tool list a patchlet that fits no site, and still limits the time for a damaged file.
pub(super) const LONGEST: u64 = 4096;

/// A patchlet in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PatchletImage<'d> {
    /// Name of the patchlet, from its labels or the index.
    pub name: &'d str,
    /// Address of the first byte; in an object, offset in the section.
    pub address: u64,
    /// Number of the section that holds the patchlet.
    pub section: usize,
    /// Bytes of the instructions.
    pub bytes: &'d [u8],
    /// Address of the native function, if a symbol or the index names it.
    pub native: Option<u64>,
}

impl PatchletImage<'_> {
    /// Returns the first address behind the patchlet.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}
