//! The type of a patchlet in a file.

use super::place_image::PlaceImage;

/// The largest length of a patchlet, in bytes, for which the index has 16 bits. A site has room for
/// 32 bytes; a blob is copied elsewhere and can have more.
pub(super) const LONGEST: u64 = 0xffff;

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
    /// Whether it is a blob, which no site gets and which has no native function.
    pub is_blob: bool,
    /// The places and holes of a blob, in the order of its source.
    pub places: Vec<PlaceImage<'d>>,
}

impl PatchletImage<'_> {
    /// Returns the first address behind the patchlet.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}
