//! Site sets: the sites of one linked object, with the front ends that know what they stand for.
//!
//! Unsafe code here declares the one function by which sites are given up, which takes the
//! kernel's word that their code is not executed any more.
#![allow(unsafe_code)]

use super::once_range::OnceRange;
use super::source::{Follow, Source, Subject};
use crate::site::{Record, Sites};

/// The records of one kind, and the front end that knows what they stand for.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    sites: SiteTable<'a>,
    /// Whether the records of the table have targets.
    has_targets: bool,
    source: &'a dyn Source,
}

/// The table of records of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SiteTable<'a> {
    /// One of the linker's, found by this function each time: a static `Part` cannot have it, since
    /// the addresses of its bounds are no constants.
    Linked(fn() -> Sites<'static>),
    Given(Sites<'a>),
}

impl<'a> SiteTable<'a> {
    /// Returns the table.
    #[inline(never)]
    pub(crate) fn sites(&self) -> Sites<'a> {
        match *self {
            SiteTable::Linked(find) => find(),
            SiteTable::Given(sites) => sites,
        }
    }
}

impl<'a> Part<'a> {
    /// Makes a part of all records of sites of ops that the linker collected for this program.
    #[must_use]
    pub const fn linked(source: &'a dyn Source) -> Self {
        Self { sites: SiteTable::Linked(Sites::linked), has_targets: false, source }
    }

    /// Makes a part of these records.
    ///
    /// # Safety
    /// - no part of other records has this front end, in no set: it notes what was last applied to
    ///   these.
    #[must_use]
    pub const unsafe fn new(sites: Sites<'a>, source: &'a dyn Source) -> Self {
        Self { sites: SiteTable::Given(sites), has_targets: sites.has_targets(), source }
    }

    /// Makes a part of this table, whose records have targets, and which only this front end has.
    pub(crate) const fn with_targets(sites: SiteTable<'a>, source: &'a dyn Source) -> Self {
        Self { sites, has_targets: true, source }
    }

    /// Returns the records.
    #[must_use]
    pub fn sites(&self) -> Sites<'a> {
        self.sites.sites()
    }

    /// Returns the address from which the displacement of the site of this record is counted: that
    /// of its target, or 0 if the records of the part have none.
    #[inline(always)]
    pub(super) fn origin(&self, record: &Record) -> usize {
        if self.has_targets { self.source.target(record) } else { 0 }
    }

    pub(crate) const fn source(&self) -> &'a dyn Source {
        self.source
    }
}

impl core::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Part").field("sites", &self.sites()).finish_non_exhaustive()
    }
}

/// The number of ranges of text that can be withdrawn from one set.
const WITHDRAWN_RANGES: usize = 4;

/// A site set: the sites of one linked object, a kernel or a module. What its sites were last
/// patched for belongs to it, so each object has one set, used by everybody who patches its
/// sites. [`site_set!`](crate::site_set) makes that of a kernel.
#[derive(Debug)]
pub struct SiteSet<'a> {
    parts: &'a [Part<'a>],
    /// The addresses that the sites span, once it is known that no two sites overlap. Once is
    /// enough: neither records nor text ever move.
    checked: OnceRange,
    /// Ranges of text whose sites were withdrawn. They are taken into use in their order.
    withdrawn: [OnceRange; WITHDRAWN_RANGES],
}

impl<'a> SiteSet<'a> {
    /// Makes a set of these parts, which are all the records of one linked object.
    #[must_use]
    pub const fn new(parts: &'a [Part<'a>]) -> Self {
        Self {
            parts,
            checked: OnceRange::new(),
            withdrawn: [const { OnceRange::new() }; WITHDRAWN_RANGES],
        }
    }

    /// Withdraws the sites in `text`, which is code that is about to be freed: from now on they are
    /// neither read nor written, and [`Report::withdrawn`](crate::text::Report::withdrawn) counts
    /// them. Returns false, and withdraws nothing, if four ranges were withdrawn before.
    ///
    /// # Safety
    /// - no code in `text` is executed after this, unless something else is loaded there;
    /// - nobody patches sites of this set while this runs.
    #[must_use = "sites that are not withdrawn must stay readable"]
    pub unsafe fn withdraw(&self, text: core::ops::Range<usize>) -> bool {
        let free = self.withdrawn.iter().find(|range| !range.is_set());
        // The hook of another CPU may look meanwhile.
        free.map(|range| range.set(text)).is_some()
    }

    /// Returns whether an address lies in text that was withdrawn.
    #[must_use]
    #[inline(always)]
    pub fn is_withdrawn(&self, address: usize) -> bool {
        // Asked for each record, and most sets never withdraw anything.
        let [first, ..] = &self.withdrawn;
        first.is_set() && self.lies_in_withdrawn(address)
    }

    #[cold]
    #[inline(never)]
    fn lies_in_withdrawn(&self, address: usize) -> bool {
        self.withdrawn().any(|range| range.contains(&address))
    }

    /// Returns the end of this text, which begins outside of what was withdrawn: before the first
    /// address in it that was withdrawn, if there is one.
    pub(super) fn end_of_present(&self, text: core::ops::Range<usize>) -> usize {
        let behind = self.withdrawn().map(|range| range.start).filter(|start| *start > text.start);
        behind.fold(text.end, usize::min)
    }

    /// Returns the ranges that were withdrawn.
    fn withdrawn(&self) -> impl Iterator<Item = core::ops::Range<usize>> {
        self.withdrawn.iter().map_while(OnceRange::get)
    }

    /// Returns the parts.
    #[must_use]
    pub const fn parts(&self) -> &'a [Part<'a>] {
        self.parts
    }

    /// Returns the number of records in all parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.sites().records().len()).sum()
    }

    /// Returns whether the set has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the record of the site whose first byte is at `address`, and the front end that
    /// knows it.
    pub(crate) fn find(&self, address: usize) -> Option<(&'a Record, &'a dyn Source)> {
        if self.is_withdrawn(address) {
            return None;
        }
        let find = |search: fn(&Sites<'a>, usize) -> Option<&'a Record>| {
            let found = |part: &Part<'a>| Some((search(&part.sites(), address)?, part.source));
            self.parts.iter().find_map(found)
        };
        // In all parts by a binary search, before any is searched from end to end.
        find(Sites::find_in_order).or_else(|| find(Sites::find_anywhere))
    }

    /// Returns the name of what sites of the set belong to that have this subject, if there is such
    /// a site.
    #[cold]
    pub(super) fn name_of(&self, subject: usize) -> Option<&'static str> {
        self.parts.iter().find_map(|part| {
            let record = part.sites().records().find(|record| record.subject() == subject)?;
            part.source.recipe(record, Follow::Present).ok().map(|recipe| recipe.name)
        })
    }

    /// Returns whether sites of the set follow a change of this subject.
    pub(super) fn follows(&self, subject: Subject) -> bool {
        self.parts.iter().any(|part| part.source.follows(subject))
    }

    /// Keeps what slots and keys say now, for [`Follow::Batch`].
    pub(crate) fn begin(&self) {
        for part in self.parts {
            part.source.begin();
        }
    }

    /// Notes what all sites have now.
    pub(crate) fn finish(&self, follow: Follow) {
        for part in self.parts {
            part.source.finish(follow);
        }
    }

    /// Returns the addresses that the sites span, if it is known that none overlaps another.
    pub(super) fn checked_span(&self) -> Option<core::ops::Range<usize>> {
        self.checked.get()
    }

    /// Notes that no two sites overlap, and which addresses they span. The end of a set without
    /// sites is 1.
    pub(super) fn set_checked(&self, span: core::ops::Range<usize>) {
        self.checked.set(span);
    }
}
