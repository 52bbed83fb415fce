//! The variants of the ops of a model.

use super::file::{Model, OpImage};
use crate::inspect::formats::{Means, VariantImage};

impl<'d> Model<'d> {
    /// Returns all variants, sorted by slot and place.
    #[must_use]
    pub fn variants(&self) -> &[VariantImage<'d>] {
        &self.variants
    }

    /// Returns the variants of the op with this slot, in the order of its list. Of several eligible
    /// ones the last counts.
    #[must_use]
    pub fn variants_of(&self, slot: u64) -> &[VariantImage<'d>] {
        let from = self.variants.partition_point(|variant| variant.slot < slot);
        let to = self.variants.partition_point(|variant| variant.slot <= slot);
        self.variants.get(from..to).unwrap_or_default()
    }

    /// Returns the native function and the bytes of each patchlet that is a variant of an op.
    pub(super) fn patchlets_of_variants(
        &self,
        op: &OpImage,
    ) -> impl Iterator<Item = (u64, &'d [u8])> {
        let variants = self.variants_of(op.slot).iter();
        variants.filter(|variant| variant.means == Means::Patchlet).filter_map(|variant| {
            let at = *self.natives.get(&variant.function)?;
            Some((variant.function, self.patchlets.get(at)?.bytes))
        })
    }
}
