//! What a file is compared with.

use crate::contract::Contract;
use crate::inspect::formats::{PatchletImage, native_set};
use crate::inspect::model::Model;

/// What to compare with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reference<'r> {
    /// Each patchlet that must be there, and its bytes.
    pub patchlets: Vec<(&'r str, &'r [u8])>,
    /// Patchlets of any bytes that must be there too.
    pub required: Vec<&'r str>,
    /// Contracts that patchlets of these names must keep.
    pub contracts: Vec<Contract>,
    /// Where the patchlets come from, for messages.
    pub origin: &'r str,
}

impl<'r> Reference<'r> {
    /// Returns the crate's own set for the width of this file.
    #[must_use]
    pub fn native(model: &Model<'_>) -> Self {
        Self {
            patchlets: native_set(model.image.width()).to_vec(),
            required: vec![],
            contracts: vec![],
            origin: "the native set",
        }
    }

    /// Returns the patchlets of an object.
    #[must_use]
    pub fn object(patchlets: &'r [PatchletImage<'r>]) -> Self {
        Self {
            patchlets: patchlets.iter().map(|found| (found.name, found.bytes)).collect(),
            required: vec![],
            contracts: vec![],
            origin: "the object",
        }
    }
}
