//! Classes of sites. Sites of one set with the same subject, number, capacity and kind get the
//! same bytes, but for a displacement; so the first six bytes are composed once for the class
//! ([`Form`]), and for each site only the displacement is computed. Most sites have six bytes, or
//! five if they are branches, and are done with that. The few longer ones are composed and compared
//! one by one, from the recipe.
//!
//! Where records have targets, as those of branches have, each site jumps to its own. The form of
//! such a class counts from the target, and a site is placed by its distance from its target:
//!
//! ```text
//! displacement = target - length - site = (0 - length) - (site - target)
//!                                         form           place
//! ```

use super::site_set::Part;
use super::source::Recipe;
use crate::insn::{Form, Nops, ReplacementName};
use crate::site::Record;

/// A class: what is the same for all of its sites.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    /// The address of the part in which the records of the class stand. A record is of the class
    /// if this and the next two fields fit.
    part: usize,
    /// The subject of these records.
    subject: usize,
    /// Their number, capacity and kind, in one word.
    shape: u32,
    /// What the sites get; [`Form::NEVER`] if they have no room for it.
    pub(crate) new: Form,
    /// What a site most likely holds if it does not hold `new`: the replacement that it was last
    /// patched for. But if `new` is that replacement, the original, since such a site has not been
    /// patched yet. [`Form::NEVER`] if the site has no room for it; what it holds is then found
    /// byte by byte, as it is for whatever is less likely.
    pub(crate) usual: Form,
    /// Whether the first six bytes of `new` are those of the original.
    pub(super) new_is_original: bool,
    /// Whether the first six bytes of `usual` are those of the original.
    pub(super) usual_is_original: bool,
    /// The name of what the sites get, for the report.
    pub(crate) new_name: ReplacementName,
}

impl Class {
    /// The class of nothing: no part is at address 0, so no record is found to be of it. It is all
    /// zeros, which take little code.
    const EMPTY: Self = Self {
        part: 0,
        subject: 0,
        shape: 0,
        new: Form::EMPTY,
        usual: Form::EMPTY,
        new_is_original: false,
        usual_is_original: false,
        new_name: ReplacementName::Indirect,
    };

    /// The class of a record that is at fault. Its `new` is [`Form::NEVER`], so that the record is
    /// refused.
    pub(super) const NONE: Self = Self { new: Form::NEVER, usual: Form::NEVER, ..Self::EMPTY };

    /// Composes the class of this record, in the place of another one.
    pub(super) fn compose(
        &mut self,
        part: &Part<'_>,
        record: &Record,
        recipe: &Recipe<'_>,
        nops: Nops,
    ) {
        let origin = part.origin(record) as u64;
        let form = |replacement| Form::or_never(nops, record.capacity(), replacement, origin);
        self.part = core::ptr::from_ref(part).addr();
        self.subject = record.subject();
        self.shape = record.shape();
        self.new = form(&recipe.new);
        self.usual = form(&recipe.last_applied);
        let original = form(&recipe.original);
        if self.usual == self.new {
            self.usual = original;
        }
        self.new_is_original = self.new == original;
        self.usual_is_original = self.usual == original;
        self.new_name = recipe.new.name();
    }

    /// Returns whether the site of this record is of this class.
    #[inline(always)]
    fn has(&self, part: &Part<'_>, record: &Record) -> bool {
        self.shape == record.shape()
            && self.subject == record.subject()
            && self.part == core::ptr::from_ref(part).addr()
    }
}

/// The classes of the sites that a pass met last. In most kernels a few ops have nearly all of the
/// sites, so a class is nearly always found here.
#[derive(Debug)]
pub(crate) struct ClassCache {
    places: [Class; Self::PLACES],
}

impl ClassCache {
    const PLACES: usize = 16;

    // Not inlined: the compiler would make the array in one place and copy it to another.
    #[inline(never)]
    pub(crate) const fn new() -> Self {
        const EMPTY: ClassCache = ClassCache { places: [Class::EMPTY; ClassCache::PLACES] };
        EMPTY
    }

    /// Returns the class of this record, after `compose` has put it into its place if it is not there.
    #[inline(always)]
    pub(super) fn get(
        &mut self,
        part: &Part<'_>,
        record: &Record,
        compose: impl FnOnce(&mut Class),
    ) -> &Class {
        // The slots of a table lie side by side, so sixteen of them have a place each. Another
        // capacity moves the place on, so that two classes of one op do not evict each other.
        let slot = record.subject() / size_of::<usize>();
        let place = slot.wrapping_add(record.capacity().into());
        // The remainder by a power of two, so that no bounds check is left.
        let entry = &mut self.places[place % Self::PLACES];
        if !entry.has(part, record) {
            compose(entry);
        }
        entry
    }
}
