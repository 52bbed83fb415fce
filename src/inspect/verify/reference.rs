//! The reference that a file is compared with.

use crate::contract::Contract;
use crate::inspect::formats::{PatchletImage, native_set};
use crate::inspect::model::Model;

/// A reference: the patchlets that a file must have, and the contracts that they must keep.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reference<'r> {
    /// Names and bytes of patchlets that must be in the file.
    pub patchlets: Vec<(&'r str, &'r [u8])>,
    /// Names of further patchlets that must be in the file, with any bytes.
    pub required: Vec<&'r str>,
    /// Contracts. Each names the patchlet that must keep it.
    pub contracts: Vec<Contract>,
    /// Where `patchlets` come from, in words, for messages.
    pub origin: &'r str,
}

impl<'r> Reference<'r> {
    /// Returns the native set of the crate for the width of this file.
    #[must_use]
    pub fn native(model: &Model<'_>) -> Self {
        Self {
            patchlets: native_set(model.image.width()).to_vec(),
            required: vec![],
            contracts: vec![],
            origin: "the native set",
        }
    }

    /// Returns a reference with the patchlets of an object.
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
