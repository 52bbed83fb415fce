//! A set of features.

use core::fmt;

use super::feature::{Feature, Requirement};
use super::table;

/// A set of features: what one CPU has, what several have in common, or what a kernel wants to be
/// chosen by.
///
/// ```
/// use patchlet::cpu::{Feature, Features};
///
/// let features = Features::EMPTY.with(Feature::ERMS).with(Feature::SMAP).without(Feature::SMAP);
/// assert!(features.meets(&[Feature::ERMS.present(), Feature::SMAP.absent()]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features {
    words: [u32; table::WORDS.len()],
}

/// Returns the word of a set in which a feature is, and its bit there.
const fn place(feature: Feature) -> (usize, u32) {
    ((feature.number() / 32) as usize, feature.number() as u32 % 32)
}

impl Features {
    /// The set without any feature.
    pub const EMPTY: Self = Self { words: [0; table::WORDS.len()] };

    /// Returns this set and the feature.
    #[must_use]
    pub const fn with(mut self, feature: Feature) -> Self {
        let (word, bit) = place(feature);
        self.words[word] |= 1 << bit;
        self
    }

    /// Returns this set without the feature.
    #[must_use]
    pub const fn without(mut self, feature: Feature) -> Self {
        let (word, bit) = place(feature);
        self.words[word] &= !(1 << bit);
        self
    }

    /// Returns this set with all 32 features of a word of the table.
    pub(super) const fn with_word(mut self, word: usize, bits: u32) -> Self {
        self.words[word] = bits;
        self
    }

    /// Returns whether the feature is in the set.
    #[must_use]
    pub const fn has(&self, feature: Feature) -> bool {
        let (word, bit) = place(feature);
        self.words[word] >> bit & 1 != 0
    }

    /// Returns the features that are in both sets: what can be used on each of several CPUs that
    /// differ.
    #[must_use]
    pub const fn intersection(mut self, other: Self) -> Self {
        let mut word = 0;
        while word < self.words.len() {
            self.words[word] &= other.words[word];
            word += 1;
        }
        self
    }

    /// Returns whether every requirement is met. No requirement is always met.
    #[must_use]
    pub fn meets(&self, requirements: &[Requirement]) -> bool {
        requirements
            .iter()
            .all(|requirement| self.has(requirement.feature()) == requirement.is_presence())
    }

    /// Returns the names of the named features in the set, in the order of the table.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        Feature::named().filter(|(_, feature)| self.has(*feature)).map(|(name, _)| name)
    }
}

/// Writes the names of the named features with spaces between.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, name) in self.names().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Writes the names of the features, and the numbers of the kernel's own.
impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = (0..64).map(Feature::own);
        let all = Feature::named().map(|(_, feature)| feature).chain(own);
        f.debug_set().entries(all.filter(|feature| self.has(*feature))).finish()
    }
}
