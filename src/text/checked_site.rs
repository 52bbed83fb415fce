//! Checked sites: where a site is and what it gets, after its record was checked. Every access to
//! text goes through one of these.
//!
//! Three lifetimes stand here throughout: `'r` is that of the sets of a run, `'p` that of a part
//! and its records, and `'c` that of the class cache, which a checked site borrows its class from.
//! So there is one checked site at a time.

use core::ops::Range;

use super::class::{Class, ClassCache};
use super::platform::Platform;
use super::site_set::{Part, SiteSet};
use super::source::{Follow, Recipe, RecordFault};
use crate::insn::{ComposeError, InsnBuffer, Replacement, Width};
use crate::site::Record;

/// One run over a site set: the set, the platform, and what the sites are to follow.
#[derive(Debug)]
pub(crate) struct Run<'r, P> {
    pub(crate) set: &'r SiteSet<'r>,
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
    /// The address of its first byte, which [`Record::site`] would compute anew.
    pub(crate) address: usize,
    pub(crate) part: &'p Part<'p>,
    pub(crate) record: &'p Record,
    pub(crate) class: &'c Class,
    /// The first six bytes of what the site gets, as a number.
    pub(crate) new_head: u64,
    /// The address for which the forms of the class give the bytes of this site.
    pub(super) place: u64,
}

impl CheckedSite<'_, '_> {
    /// Returns whether the first six bytes are all of the site, and the site has no fewer.
    #[inline(always)]
    pub(super) const fn is_six_bytes(&self) -> bool {
        self.record.capacity() as usize == InsnBuffer::MIN
    }

    /// Returns what tells the class of this site from every other: part, subject and shape.
    pub(crate) fn class_id(&self) -> (usize, usize, u32) {
        (core::ptr::from_ref(self.part).addr(), self.record.subject(), self.record.shape())
    }

    /// Returns whether the site has no more than six bytes.
    #[inline(always)]
    pub(super) const fn is_short(&self) -> bool {
        self.record.capacity() as usize <= InsnBuffer::MIN
    }
}

impl<'r, P: Platform> Run<'r, P> {
    /// Returns the records of the set whose sites are not withdrawn, and the parts they stand in.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&'r Part<'r>, &'r Record)> + use<'r, P> {
        let set = self.set;
        set.parts().iter().flat_map(move |part| {
            let records = part.sites().records();
            let present = records.filter(|record| !set.is_withdrawn(record.site()));
            present.map(move |record| (part, record))
        })
    }

    /// Checks one record and returns its site; `None` if it was withdrawn, or if something is wrong
    /// with the record. Callers then report [`SiteFault::Refused`](super::fault::SiteFault) unless
    /// it [was withdrawn](SiteSet::is_withdrawn), and [`Run::error`] finds out what is wrong.
    ///
    /// Not inlined, and callers borrow the result and never move it: the compiler would copy it by
    /// loads that are wider than the stores which have just written it, and such a load waits
    /// until the stores have reached the cache.
    #[inline(never)]
    pub(crate) fn site<'p, 'c>(
        &self,
        part: &'p Part<'p>,
        record: &'p Record,
        cache: &'c mut ClassCache,
    ) -> Option<CheckedSite<'p, 'c>> {
        let address = record.site();
        if self.set.is_withdrawn(address) {
            return None;
        }
        let class = cache.get(part, record, |class| self.compose_class(part, record, class));
        if !lies_in(&self.platform.text_around(address), record) {
            return None;
        }
        let place = address.wrapping_sub(part.origin(record)) as u64;
        let new_head = class.new.head_at(Width::NATIVE, place)?;
        Some(CheckedSite { address, part, record, class, new_head, place })
    }

    /// Composes the class of a record in its place in the cache. If the record is at fault, that is
    /// [`Class::NONE`], by which [`site`](Self::site) refuses it.
    #[cold]
    #[inline(never)]
    fn compose_class(&self, part: &Part<'_>, record: &Record, class: &mut Class) {
        match &self.recipe_of(part, record) {
            Ok(recipe) => class.compose(part, record, recipe, self.platform.nops()),
            Err(_) => *class = Class::NONE,
        }
    }

    /// Returns the recipe of a record, after checking that an instruction buffer can have its
    /// capacity.
    #[inline(never)]
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
    ///
    /// Callers borrow the result and do not move it: it is large, and copying it takes code.
    pub(crate) fn recipe<'p>(&self, site: &CheckedSite<'p, '_>) -> Result<Recipe<'p>, RecordFault> {
        self.recipe_of(site.part, site.record)
    }

    /// Composes all bytes of the site of a record.
    pub(crate) fn compose(
        &self,
        record: &Record,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        let (nops, address) = (self.platform.nops(), record.site() as u64);
        InsnBuffer::compose(Width::NATIVE, nops, address, record.capacity(), replacement)
    }
}

/// Returns whether the site of a record lies in this piece of text as a whole.
#[inline(always)]
pub(super) fn lies_in(text: &Range<usize>, record: &Record) -> bool {
    let address = record.site();
    let room = text.end.checked_sub(address);
    address >= text.start && room.is_some_and(|room| room >= usize::from(record.capacity()))
}
