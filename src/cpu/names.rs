//! The names of features, for messages and for what is typed by hand.

use core::fmt;

use super::feature::Feature;
use super::table::{FeatureWord, NAMED, WORDS};

impl Feature {
    /// Returns the name of the feature, as its constant has it; `None` for a kernel's own.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let (name, _) = NAMED.iter().find(|(_, feature)| *feature == self)?;
        Some(name)
    }

    /// Returns the feature whose constant has this name, or `None` if there is none.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let (_, feature) = NAMED.iter().find(|(named, _)| *named == name)?;
        Some(*feature)
    }

    /// Returns the register or the facts that this feature is a bit of, and which bit. Of a kernel's
    /// own, the word is [`FeatureWord::Own`].
    #[must_use]
    pub fn place(self) -> (FeatureWord, u32) {
        let number = usize::from(self.number());
        let word = WORDS.get(number / 32).copied().unwrap_or(FeatureWord::Own);
        (word, (number % 32) as u32)
    }

    /// Returns all named features with their names, in the order of the table.
    pub fn named() -> impl Iterator<Item = (&'static str, Self)> {
        NAMED.iter().copied()
    }
}

/// Writes the name; `own(3)` for a kernel's own.
impl fmt::Debug for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "own({})", self.number()),
        }
    }
}
