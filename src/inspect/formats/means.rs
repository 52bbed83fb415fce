//! The means by which an op or a variant does its work, as records say it.

/// The means of an op or a variant: what `ops!` was told behind `=` or `=>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Means {
    /// A patchlet: the slot holds its native function, and a site gets its instructions.
    Patchlet,
    /// A function, which sites call also if its instructions are those of a patchlet.
    Function,
    /// Nothing: the slot holds the no-op function, and a site gets NOPs.
    Nothing,
}

impl Means {
    /// Returns the means of this number in a record, or `None` if there is none.
    pub(super) const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Patchlet),
            1 => Some(Self::Function),
            2 => Some(Self::Nothing),
            _ => None,
        }
    }
}
