//! One feature, and one requirement of it. The named features are in `table.rs`.

use core::fmt;

/// One thing that a CPU has or has not, that the operating system has switched on or not, or that a
/// kernel knows about itself ([`own`](Self::own)).
///
/// Features of the CPU are named as in the manuals. Each constant says where its bit is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feature(u16);

impl Feature {
    /// Returns the feature of a bit of a word of the table.
    ///
    /// # Panics
    /// At compile time, in the table: if there is no such bit, or if the number would have a bit that
    /// a [`Requirement`] uses for itself.
    pub(super) const fn new(word: usize, bit: usize) -> Self {
        assert!(word < ABSENT as usize / 32 && bit < 32);
        Self((word * 32 + bit) as u16)
    }

    /// Returns the kernel's own feature of this number, 0 to 63. It is never detected: the kernel
    /// says whether it has it, by [`Features::with`](super::Features::with).
    ///
    /// ```
    /// use patchlet::cpu::{Feature, Features};
    ///
    /// /// This CPU's `rep movsb` is broken: an erratum, or the command line says so.
    /// pub const BROKEN_REP: Feature = Feature::own(0);
    ///
    /// assert!(Features::EMPTY.with(BROKEN_REP).has(BROKEN_REP));
    /// ```
    ///
    /// A number above 63 does not compile in a constant:
    ///
    /// ```compile_fail,E0080
    /// const TOO_MANY: patchlet::cpu::Feature = patchlet::cpu::Feature::own(64);
    /// ```
    ///
    /// # Panics
    /// If the number is above 63.
    #[must_use]
    pub const fn own(number: u8) -> Self {
        assert!(number < 64, "a kernel has 64 features of its own, 0 to 63");
        // They are the first two words of a set.
        Self(number as u16)
    }

    /// Returns the requirement that this feature is there.
    #[must_use]
    pub const fn present(self) -> Requirement {
        Requirement(self.0)
    }

    /// Returns the requirement that this feature is not there.
    #[must_use]
    pub const fn absent(self) -> Requirement {
        Requirement(self.0 | ABSENT)
    }

    /// Returns the number of the feature: 32 for each word before its own, and its bit there.
    pub(super) const fn number(self) -> u16 {
        self.0
    }
}

/// The bit of a requirement that says that the feature must not be there.
const ABSENT: u16 = 0x8000;

/// A feature that must be there, or must not: one word of the condition of a variant.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Requirement(u16);

impl Requirement {
    /// Returns the feature that this is about.
    #[must_use]
    pub const fn feature(self) -> Feature {
        Feature(self.0 & !ABSENT)
    }

    /// Returns whether the feature must be there; if not, it must not be.
    #[must_use]
    pub const fn is_presence(self) -> bool {
        self.0 & ABSENT == 0
    }
}

/// Writes the name of the feature, and `!` before it if it must not be there.
impl fmt::Debug for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_presence() {
            f.write_str("!")?;
        }
        self.feature().fmt(f)
    }
}
