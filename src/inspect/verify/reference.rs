//! The reference that a file is compared with.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::contract::{BlobContract, Contract};
use crate::inspect::elf::Linkage;
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
    /// The number of sites that the file must have, if it is known.
    pub sites: Option<ExpectedSites>,
    /// The number of branch sites that the file must have, if it is known.
    pub branches: Option<ExpectedSites>,
    /// Contracts that patchlets of these names must keep.
    pub contracts: Vec<Contract>,
    /// What the places and holes of blobs of these names mean. All of a blob must be there.
    pub blobs: Vec<BlobContract>,
    /// Where `patchlets` come from, in words, for messages.
    pub origin: &'r str,
}

/// The number of sites that a file must have. Only its author knows it; nothing in the file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedSites {
    /// Exactly this many sites.
    Exactly(usize),
    /// This many sites or more.
    AtLeast(usize),
}

impl ExpectedSites {
    /// Returns whether a file may have this many sites.
    #[must_use]
    pub const fn allows(self, sites: usize) -> bool {
        match self {
            Self::Exactly(expected) => sites == expected,
            Self::AtLeast(least) => sites >= least,
        }
    }
}

/// Parses `1527` or `1500..`.
impl FromStr for ExpectedSites {
    type Err = ParseIntError;

    fn from_str(words: &str) -> Result<Self, ParseIntError> {
        match words.strip_suffix("..") {
            Some(least) => least.parse().map(Self::AtLeast),
            None => words.parse().map(Self::Exactly),
        }
    }
}

impl fmt::Display for ExpectedSites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(expected) => write!(f, "{expected}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl<'r> Reference<'r> {
    /// Returns the native set of the crate for the width of this file; nothing for a module, since
    /// the set is in the kernel.
    #[must_use]
    pub fn native(model: &Model<'_>) -> Self {
        let is_module = model.image.kind() == Linkage::Module;
        Self {
            patchlets: if is_module { vec![] } else { native_set(model.image.width()).to_vec() },
            required: vec![],
            sites: None,
            branches: None,
            contracts: vec![],
            blobs: vec![],
            origin: "the native set",
        }
    }

    /// Returns a reference with the patchlets of an object.
    #[must_use]
    pub fn object(patchlets: &'r [PatchletImage<'r>]) -> Self {
        Self {
            patchlets: patchlets.iter().map(|found| (found.name, found.bytes)).collect(),
            required: vec![],
            sites: None,
            branches: None,
            contracts: vec![],
            blobs: vec![],
            origin: "the object",
        }
    }
}
