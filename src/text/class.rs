//! Classes of sites. Sites of one set with the same subject, number, capacity and kind get the
//! same bytes, but for a displacement; so the first six bytes are composed once for the class
//! ([`Form`]), and for each site only the displacement is computed. The few sites of another
//! capacity than six bytes are composed one by one.

use super::site_set::Part;
use super::source::Recipe;
use crate::insn::{Form, Nops, ReplacementName};
use crate::site::Record;

/// The values that are the same for all sites of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    /// The class of a record is told by these three: the part of the set that it stands in, by
    /// its address, the subject, and the rest of the record as one number.
    part: usize,
    subject: usize,
    shape: u32,
    /// What the sites get; [`Form::NEVER`] if they have no room for it.
    pub(crate) new: Form,
    /// What a site most likely holds that does not hold `new`: what the set was last patched
    /// for; the original, if that is the same as `new`, since then the site is unpatched.
    /// [`Form::NEVER`] if such a site has no room for that: then what it holds is something else,
    /// which is found byte by byte.
    pub(crate) usual: Form,
    /// Whether the first six bytes of `new` are those of the original.
    pub(super) new_is_original: bool,
    /// Whether those of `usual` are.
    pub(super) usual_is_original: bool,
    /// Names what the sites get, for the report.
    pub(crate) new_name: ReplacementName,
}

impl Class {
    /// The class of records that belong to none: no part is at address 0, and no site gets
    /// anything.
    pub(super) const NONE: Self = Self {
        part: 0,
        subject: 0,
        shape: 0,
        new: Form::NEVER,
        usual: Form::NEVER,
        new_is_original: false,
        usual_is_original: false,
        new_name: ReplacementName::Nops,
    };

    /// Composes the class of this record.
    pub(super) fn compose(
        part: &Part<'_>,
        record: &Record,
        recipe: &Recipe<'_>,
        nops: Nops,
    ) -> Self {
        let form = |replacement| Form::or_never(nops, record.capacity(), replacement);
        let (new, last_applied) = (form(&recipe.new), form(&recipe.last_applied));
        let original = form(&recipe.original);
        let usual = if last_applied == new { original } else { last_applied };
        Self {
            part: core::ptr::from_ref(part).addr(),
            subject: record.subject(),
            shape: record.shape(),
            new,
            usual,
            new_is_original: new == original,
            usual_is_original: usual == original,
            new_name: recipe.new.name(),
        }
    }

    /// Returns whether the site of this record is of this class.
    #[inline(always)]
    fn has(&self, part: &Part<'_>, record: &Record) -> bool {
        self.shape == record.shape()
            && self.subject == record.subject()
            && self.part == core::ptr::from_ref(part).addr()
    }
}

/// The classes met last. In most kernels a few ops have nearly all of the sites, so that a class
/// is nearly always found here.
#[derive(Debug)]
pub(crate) struct ClassCache {
    places: [Class; Self::PLACES],
}

impl ClassCache {
    const PLACES: usize = 16;

    // Not inlined, or it is made twice: once, and where it is to be.
    #[inline(never)]
    pub(crate) const fn new() -> Self {
        Self { places: [Class::NONE; Self::PLACES] }
    }

    /// Returns the class of this record, after `compose` has made it if it is not here.
    #[inline(always)]
    pub(super) fn get(
        &mut self,
        part: &Part<'_>,
        record: &Record,
        compose: impl FnOnce() -> Class,
    ) -> &Class {
        // Sixteen slots side by side have places of their own; their sites of other capacities
        // have places some way further on.
        let slot = record.subject() / size_of::<usize>();
        let place = slot.wrapping_add(record.capacity().into());
        // The remainder by a power of two, so that no bounds check is left.
        let entry = &mut self.places[place % Self::PLACES];
        if !entry.has(part, record) {
            *entry = compose();
        }
        entry
    }
}
