//! Variants: the ways to do an op that some CPUs have and others have not.

use core::mem::offset_of;

use super::target::Target;
use crate::cpu::{Features, Requirement};
use crate::patchlet::Patchlet;

/// One way to do an op, for CPUs that meet its condition.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Index of the op in its table.
    op: u16,
    condition: &'static [Requirement],
    target: Target,
    patchlet: Option<&'static Patchlet>,
}

impl Variant {
    /// Makes a variant of its parts. `target` is what the slot of the op holds while the variant is
    /// selected, and `patchlet` the same instructions as data. Only [`ops!`](crate::ops!) and the
    /// crate's tests call this.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        op: u16,
        condition: &'static [Requirement],
        target: Target,
        patchlet: Option<&'static Patchlet>,
    ) -> Self {
        Self { op, condition, target, patchlet }
    }

    /// Returns the index of the op in its table.
    #[must_use]
    pub const fn op(&self) -> usize {
        self.op as usize
    }

    /// Returns what CPUs must meet for which this variant is selected.
    #[must_use]
    pub const fn condition(&self) -> &'static [Requirement] {
        self.condition
    }

    /// Returns what the slot of the op holds while this variant is selected.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Returns the patchlet with the instructions of the target, or `None` if the variant is no
    /// patchlet.
    #[must_use]
    pub const fn patchlet(&self) -> Option<&'static Patchlet> {
        self.patchlet
    }

    /// Returns whether this variant may be selected for CPUs with these features.
    #[must_use]
    pub fn is_eligible(&self, features: &Features) -> bool {
        features.meets(self.condition)
    }
}

/// Returns how many variants the ops before the op of this index have. `counts` has how many each
/// op has.
#[must_use]
pub const fn variants_before(counts: &[usize], index: usize) -> usize {
    let (mut before, mut op) = (0, 0);
    while op < index {
        before += counts[op];
        op += 1;
    }
    before
}

/// Returns the variants of all ops in one list, those of one op together. `N` is how many there
/// are. In a table without variants the list has no byte.
#[must_use]
pub const fn in_one_list<const N: usize>(by_op: &[&[Variant]]) -> [Variant; N] {
    let mut list = [Variant::new(0, &[], Target::NULL, None); N];
    let (mut at, mut op) = (0, 0);
    while op < by_op.len() {
        let mut place = 0;
        while place < by_op[op].len() {
            list[at] = by_op[op][place];
            at += 1;
            place += 1;
        }
        op += 1;
    }
    assert!(at == N);
    list
}

/// Returns how many bytes into the list of variants the word is that holds the target of the
/// variant at this place of it.
#[must_use]
pub const fn target_offset(place: usize) -> usize {
    place * size_of::<Variant>() + offset_of!(Variant, target)
}
