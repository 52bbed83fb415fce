//! The variants of the ops of a model, and the replacement of a site for what its slot holds.

use super::file::{Model, OpImage};
use crate::choose::Choice;
use crate::insn::{Kind, Replacement};
use crate::inspect::formats::VariantImage;

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

    /// Returns the facts that decide which replacement the sites of an op get while its slot holds
    /// `target`. The op's own patchlets are those of its native function and of its variants.
    #[must_use]
    pub(crate) fn choice_for(&self, op: &OpImage, target: u64) -> Choice<'d> {
        let default = self.choice(op);
        let is_own = self.variants_of(op.slot).iter().any(|variant| variant.function == target);
        match self.natives.get(&target).and_then(|&at| self.patchlets.get(at)) {
            Some(patchlet) if is_own => {
                Choice { native: target, patchlet: patchlet.bytes, ..default }
            }
            _ => default,
        }
    }

    /// Returns the replacement of a site of an op while the op's slot holds `target`.
    #[must_use]
    pub fn replacement(&self, op: &OpImage, target: u64, kind: Kind) -> Replacement<'d> {
        self.choice_for(op, target).replacement(target, kind)
    }
}
