//! The branch sites and keys of a model: which key decides a site, which form the site has, and
//! the bytes of its two forms.

use super::file::Model;
use crate::insn::{ComposeError, InsnBuffer, Nops, Replacement};
use crate::inspect::error::FileError;
use crate::inspect::formats::{BRANCH_SIZE, BranchImage, KeyImage};

/// The form of a branch site in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BranchForm {
    /// The site is a NOP: execution goes on behind it.
    Nop,
    /// The site jumps to its target, which is out of line.
    Jump,
    /// The site holds other bytes.
    Foreign,
}

impl BranchForm {
    /// Returns the word by which the tool prints this form.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nop => "nop",
            Self::Jump => "jump",
            Self::Foreign => "foreign",
        }
    }
}

impl<'d> Model<'d> {
    /// Returns the records of branch sites, in the order of their table.
    #[must_use]
    pub fn branches(&self) -> &[BranchImage] {
        &self.branches.list
    }

    /// Returns the keys, sorted by address.
    #[must_use]
    pub fn keys(&self) -> &[KeyImage<'d>] {
        &self.keys
    }

    /// Returns the key that decides a branch site, or `None` if no key of the file has the address
    /// in the record.
    #[must_use]
    pub fn key(&self, branch: &BranchImage) -> Option<&KeyImage<'d>> {
        self.key_at(branch.key)
    }

    /// Returns the key at an address.
    pub(crate) fn key_at(&self, address: u64) -> Option<&KeyImage<'d>> {
        let at = self.keys.binary_search_by_key(&Some(address), |key| key.address).ok()?;
        self.keys.get(at)
    }

    /// Returns the name of the key of a branch site, or `?` if the file has no such key.
    pub(crate) fn key_name_of(&self, branch: &BranchImage) -> &'d str {
        self.key(branch).map_or("?", |key| key.name)
    }

    /// Returns the path of the static that is a key, `crate::module::TRACE`, if the file says it.
    pub(crate) fn key_path(&self, key: &KeyImage<'_>) -> Option<String> {
        let symbols = self.image.symbols();
        let symbol = symbols.at(key.address?).first()?;
        Some(symbols.readable(symbol).into_owned())
    }

    /// Returns the keys that are meant by these words: a name, the path of a static, or an address,
    /// `0x…`.
    ///
    /// # Errors
    /// Returns an error that names the keys which there are, if none is meant.
    pub(crate) fn keys_meant<'m>(
        &'m self,
        words: &str,
    ) -> Result<Vec<&'m KeyImage<'d>>, FileError> {
        let digits = words.strip_prefix("0x");
        let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let is_meant = |key: &&KeyImage<'_>| {
            key.name == words
                || address.is_some() && key.address == address
                || self.key_path(key).is_some_and(|path| path == words)
        };
        let meant: Vec<_> = self.keys.iter().filter(is_meant).collect();
        if meant.is_empty() {
            return Err(self.no_such_key(words));
        }
        Ok(meant)
    }

    /// Returns the error of words that mean no key.
    fn no_such_key(&self, words: &str) -> FileError {
        /// More than anybody reads.
        const MANY: usize = 100;
        if self.keys.is_empty() {
            return FileError::new(format!("no key is called `{words}`; there are no keys in it"));
        }
        let mut names: Vec<&str> = self.keys.iter().take(MANY).map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        FileError::new(format!("no key is called `{words}`; there are {}", names.join(", ")))
    }

    /// Returns the form that a branch site has at present. Both families of NOPs count: which one
    /// is right depends on the CPUs that a 32-bit file was compiled for.
    #[must_use]
    pub fn branch_form(&self, branch: &BranchImage) -> BranchForm {
        let Some(present) = self.branch_bytes(branch) else { return BranchForm::Foreign };
        let is_nop = |nops: &Nops| self.branch_nop(*nops) == Some(present);
        if self.branch_jump(branch) == Ok(present) {
            BranchForm::Jump
        } else if [Nops::Long, Nops::Lea].iter().any(is_nop) {
            BranchForm::Nop
        } else {
            BranchForm::Foreign
        }
    }

    /// Returns the bytes of a branch site, or `None` if it is not in a section of the file.
    #[must_use]
    pub fn branch_bytes(&self, branch: &BranchImage) -> Option<InsnBuffer> {
        InsnBuffer::copy_of(self.image.bytes_at(branch.site, u64::from(BRANCH_SIZE))?)
    }

    /// Returns the bytes that a branch site has if its key is on, or off.
    ///
    /// # Errors
    /// Returns an error if the target is out of reach.
    pub fn branch_bytes_for(
        &self,
        branch: &BranchImage,
        is_on: bool,
    ) -> Result<InsnBuffer, ComposeError> {
        // A NOP of five bytes fits a buffer.
        let nops = self.branch_nops.unwrap_or(self.nops);
        let nop = || self.branch_nop(nops).unwrap_or(InsnBuffer::empty());
        if branch.jumps_when() == Some(is_on) { self.branch_jump(branch) } else { Ok(nop()) }
    }

    fn branch_jump(&self, branch: &BranchImage) -> Result<InsnBuffer, ComposeError> {
        let jump = Replacement::Jump(branch.target);
        InsnBuffer::compose(self.image.width(), Nops::Long, branch.site, BRANCH_SIZE, &jump)
    }

    /// Returns the NOP of a branch site: one instruction, so that no thread can be between two.
    fn branch_nop(&self, nops: Nops) -> Option<InsnBuffer> {
        InsnBuffer::copy_of(&nops.of_jump(self.image.width()))
    }

    /// Returns the family of NOPs that the file's branch sites were assembled with: that of the first
    /// site that is a NOP, or `None` if none is.
    pub(super) fn nops_of_branches(&self) -> Option<Nops> {
        let family = |branch: &BranchImage| {
            let present = self.branch_bytes(branch)?;
            let is_of = |nops: &Nops| self.branch_nop(*nops) == Some(present);
            [Nops::Long, Nops::Lea].into_iter().find(is_of)
        };
        self.branches.list.iter().find_map(family)
    }
}
