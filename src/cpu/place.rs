//! The place of a feature: the register that says whether it is there, and the bit.

use super::feature::Feature;
use super::table::{FeatureWord, WORDS};

impl Feature {
    /// Returns what says whether this feature is there: a register, or what stands for one, and
    /// the number of the bit in it, 0 to 31.
    #[must_use]
    pub const fn place(self) -> (FeatureWord, u32) {
        let number = self.number() as u32;
        // The number of a feature is made of a word of the table, in `new` and `own`.
        (WORDS[(number / 32) as usize], number % 32)
    }
}
