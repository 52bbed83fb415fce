//! Checked sites: where a site is and what it gets, after its record was checked. Every access to
//! text goes through one of these.

use core::ops::Range;

use super::class::{Class, ClassCache};
use super::platform::Platform;
use super::site_set::{Part, SiteSet};
use super::source::{Follow, Recipe, RecordFault};
use crate::error::Error;
use crate::insn::{ComposeError, InsnBuffer, Replacement, Width};
use crate::site::Record;

/// One run over site sets: the sets, the platform, and what the sites are to follow.
#[derive(Debug)]
pub(crate) struct Run<'r, P> {
    pub(crate) sets: &'r [&'r SiteSet<'r>],
    pub(crate) platform: &'r P,
    pub(crate) follow: Follow,
}

impl<P> Clone for Run<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Run<'_, P> {}

/// A site whose record was checked: it lies in text, and what it gets fits.
#[derive(Debug)]
pub(crate) struct CheckedSite<'p, 'c> {
    pub(crate) address: usize,
    pub(crate) part: &'p Part<'p>,
    pub(crate) record: &'p Record,
    pub(crate) class: &'c Class,
    /// The first six bytes of what the site gets, as a number.
    pub(super) new_head: u64,
}

impl CheckedSite<'_, '_> {
    /// Returns whether the first six bytes are all of the site.
    #[inline(always)]
    pub(super) const fn is_six_bytes(&self) -> bool {
        self.record.capacity() as usize == InsnBuffer::MIN
    }
}

impl<'r, P: Platform> Run<'r, P> {
    /// Returns the parts of all sets.
    pub(crate) fn parts(&self) -> impl DoubleEndedIterator<Item = &'r Part<'r>> + use<'r, P> {
        self.sets.iter().flat_map(|set| set.parts())
    }

    /// Checks one record and returns its site.
    ///
    /// Not inlined, and callers look at the result where it was put: if they moved it, the
    /// compiler would copy it by loads that are wider than the stores which have just written
    /// it, and such a load waits until the stores have reached the cache.
    ///
    /// # Errors
    /// - What is wrong with the record: its values, its place, or that what it gets does not fit.
    #[inline(never)]
    pub(crate) fn site<'p, 'c>(
        &self,
        part: &'p Part<'p>,
        index: usize,
        record: &'p Record,
        cache: &'c mut ClassCache,
    ) -> Result<CheckedSite<'p, 'c>, Error> {
        let class = cache.get(part, record, || self.class(part, index, record))?;
        let address = record.site();
        if !lies_in(&self.platform.text(), address, record.capacity()) {
            return Err(self.outside(index, record));
        }
        match class.new.head_at(Width::NATIVE, address as u64) {
            Some(new_head) => Ok(CheckedSite { address, part, record, class, new_head }),
            None => Err(self.unfit(part, record)),
        }
    }

    /// Composes the class of a record, after its values were checked.
    #[cold]
    #[inline(never)]
    fn class(&self, part: &Part<'_>, index: usize, record: &Record) -> Result<Class, Error> {
        let recipe =
            self.recipe_of(part, record).map_err(|fault| bad_record(index, record, fault))?;
        let class = Class::compose(part, record, &recipe, self.platform.nops());
        // That a site lies outside of text says more about a wrong record than that something does
        // not fit into it.
        let is_outside = !lies_in(&self.platform.text(), record.site(), record.capacity());
        class.ok_or_else(|| {
            if is_outside { self.outside(index, record) } else { self.unfit(part, record) }
        })
    }

    /// Returns the recipe of a record, whose capacity an instruction buffer can have.
    pub(super) fn recipe_of<'p>(
        &self,
        part: &Part<'p>,
        record: &Record,
    ) -> Result<Recipe<'p>, RecordFault> {
        if !(1..=InsnBuffer::MAX).contains(&record.capacity().into()) {
            return Err(RecordFault::Capacity);
        }
        part.source().recipe(record, self.follow)
    }

    /// Returns the recipe of a checked site. There is one, unless a front end breaks its contract.
    pub(crate) fn recipe<'p>(&self, site: &CheckedSite<'p, '_>) -> Option<Recipe<'p>> {
        self.recipe_of(site.part, site.record).ok()
    }

    #[cold]
    fn outside(&self, index: usize, record: &Record) -> Error {
        let Range { start, end } = self.platform.text();
        Error::OutsideText { index, site: record.site(), start, end }
    }

    /// Makes the error of a site that cannot hold what it is to get.
    #[cold]
    #[inline(never)]
    fn unfit(&self, part: &Part<'_>, record: &Record) -> Error {
        let (site, capacity) = (record.site(), record.capacity());
        // It fits if a slot was set since: that happens while a plan is made, and then only.
        let Ok(recipe) = self.recipe_of(part, record) else { return Error::Busy };
        match self.compose(site, capacity, &recipe.new) {
            Err(why) => Error::Compose { site, name: recipe.name, why },
            Ok(_) => Error::Busy,
        }
    }

    /// Composes all bytes of a site.
    pub(crate) fn compose(
        &self,
        address: usize,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        let nops = self.platform.nops();
        InsnBuffer::compose(Width::NATIVE, nops, address as u64, capacity, replacement)
    }
}

/// Makes the error of a record that belongs to no class.
#[cold]
fn bad_record(index: usize, record: &Record, fault: RecordFault) -> Error {
    match fault {
        RecordFault::Capacity => {
            Error::BadRecord { index, field: "capacity", value: record.capacity() }
        }
        RecordFault::Kind => Error::BadRecord { index, field: "kind", value: record.kind_number() },
        RecordFault::UnknownSubject => Error::UnknownSubject {
            index,
            site: record.site(),
            subject: record.subject(),
            number: record.number(),
        },
    }
}

/// Returns whether a site lies in text as a whole.
#[inline(always)]
fn lies_in(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    let room = text.end.checked_sub(address);
    address >= text.start && room.is_some_and(|room| room >= usize::from(capacity))
}
