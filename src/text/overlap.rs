//! No two sites may share a byte.
//!
//! Linkers sort records by their sites, so nearly always each site begins behind the end of the
//! one before, which the pass over all sites sees by the way. But a table can be in any order: a
//! section of text may have been placed in front of the others, or a linker may not sort at all.
//! There is no memory to sort records in, and comparing each with all others takes a time that
//! grows with the square of their number.
//!
//! What tells two sites apart is text itself. This check comes after the contents of all sites
//! were found to be known, and before the first batch nearly all of them hold what the assembler
//! wrote. Where a site begins inside such a site, the bytes of the outer one look like the
//! beginning of the inner one:
//!
//! ```text
//! outer    ff 15 xx xx xx xx              call *slot_a
//! inner             ff 15 yy yy yy yy     call *slot_b: begins in the operand of the outer
//! ```
//!
//! An operand that has `ff 15` in it, and behind that four bytes which lead to a slot, is as good
//! as never there by chance. So it is enough to look in each site for bytes that a site may begin
//! with ([`Source::may_begin_inside`]), and to search all records only if there are some. Two more
//! kinds of sites are searched for, and both are rare: one that does not hold its original, since
//! a tool patched it ahead of boot; and one with single-byte NOPs behind it, in a set with sites
//! of several capacities, since a record of a longer site may name the same address.
//!
//! Records and text never move, so a set is checked once.
//!
//! [`Source::may_begin_inside`]: super::Source::may_begin_inside

use core::ops::Range;

use super::checked_site::{CheckedSite, Run};
use super::class::ClassCache;
use super::contents::View;
use super::platform::Platform;
use super::site_set::{Part, SiteSet};
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::site::Record;

/// The order of the sites that a pass has met.
#[derive(Debug)]
pub(super) struct Order {
    lowest: usize,
    highest_end: usize,
    is_sorted: bool,
}

impl Order {
    pub(super) const fn new() -> Self {
        Self { lowest: usize::MAX, highest_end: 0, is_sorted: true }
    }

    /// Adds the next site.
    #[inline(always)]
    pub(super) fn add(&mut self, site: Range<usize>) {
        self.is_sorted &= site.start >= self.highest_end;
        self.lowest = self.lowest.min(site.start);
        self.highest_end = self.highest_end.max(site.end);
    }

    /// Returns the addresses that the sites span; 0..1, if there is none.
    pub(super) fn span(&self) -> Range<usize> {
        if self.highest_end == 0 { 0..1 } else { self.lowest..self.highest_end }
    }
}

/// Checks that no two sites of the set overlap. The contents of all sites are known.
///
/// # Errors
/// - [`Error::Overlap`]
pub(super) fn check<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    cache: &mut ClassCache,
    order: &Order,
) -> Result<(), Error> {
    if order.is_sorted { Ok(()) } else { check_unsorted(run, set, cache) }
}

#[cold]
fn check_unsorted<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    cache: &mut ClassCache,
) -> Result<(), Error> {
    let capacities = || all_records(set).map(|record| record.capacity());
    let longest = capacities().max().unwrap_or(0);
    for part in set.parts() {
        let records = part.sites().records();
        for (index, record) in records.iter().enumerate() {
            run.prefetch(records, index, View::Site);
            let site = run.site(part, index, record, cache);
            let site = match &site {
                Ok(site) => site,
                Err(error) => return Err(*error),
            };
            let may_overlap = !run.holds_original(site) || may_have_inside(run, set, site, longest);
            if may_overlap && all_records(set).any(|other| overlaps(record, other)) {
                return Err(first_overlap(run, set));
            }
        }
    }
    Ok(())
}

/// Returns whether, by what text holds, a site may begin inside this one, or a longer one at its
/// first byte.
#[inline(always)]
fn may_have_inside<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    site: &CheckedSite<'_, '_>,
    longest: u8,
) -> bool {
    let capacity = site.record.capacity();
    // The bytes of a site that begins at the last byte of this one.
    let len = usize::from(capacity) + InsnBuffer::MIN - 1;
    let len = len.min(run.platform.text().end - site.address);
    let text = run.read_text::<{ InsnBuffer::MAX + InsnBuffer::MIN }>(site, len);
    let text = text.get(..len).unwrap_or_default();
    let padded = capacity < longest && text.get(usize::from(capacity)) == Some(&0x90);
    padded
        || set
            .parts()
            .iter()
            .any(|part| part.source().may_begin_inside(site.address, capacity, text))
}

fn all_records<'a>(set: &SiteSet<'a>) -> impl Iterator<Item = &'a Record> {
    set.parts().iter().flat_map(|part| part.sites().records())
}

/// Returns whether the sites of two records share a byte. Linkers that fold functions of the same
/// code into one (`--icf=all`) leave the records of each; those say the same, and are one site.
fn overlaps(one: &Record, other: &Record) -> bool {
    let (a, b) = (one.site(), other.site());
    let is_same = a == b && one.subject() == other.subject() && one.shape() == other.shape();
    let distance = if a <= b { (b - a, one.capacity()) } else { (a - b, other.capacity()) };
    !is_same && distance.0 < distance.1.into()
}

/// Finds the first record, in the order of the tables, whose site overlaps that of an earlier one.
#[cold]
fn first_overlap<P: Platform>(run: &Run<'_, P>, set: &SiteSet<'_>) -> Error {
    for part in set.parts() {
        for (index, record) in part.sites().records().iter().enumerate() {
            if let Some(error) = with_earlier(run, set, part, index, record) {
                return error;
            }
        }
    }
    // Two sites overlap, or this would not be called; so one of them was found.
    Error::Busy
}

/// Returns the error of a record whose site overlaps that of an earlier one; `None` if there is no
/// such.
#[cold]
#[inline(never)]
pub(super) fn with_earlier<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    part: &Part<'_>,
    index: usize,
    record: &Record,
) -> Option<Error> {
    let earlier = all_records(set).take_while(|earlier| !core::ptr::eq(*earlier, record));
    let other = earlier.filter(|earlier| overlaps(record, earlier)).last()?;
    let name = run.recipe_of(part, record).map_or("", |recipe| recipe.name);
    Some(Error::Overlap { index, site: record.site(), name, other: other.site() })
}

/// Checks that no site of one set overlaps a site of another. Each set was checked by itself.
///
/// # Errors
/// - [`Error::Overlap`]
pub(super) fn check_between<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    other: &SiteSet<'_>,
) -> Result<(), Error> {
    let (Some(a), Some(b)) = (set.checked_span(), other.checked_span()) else { return Ok(()) };
    // Linked objects lie apart from each other; so this is the rule.
    if a.end <= b.start || b.end <= a.start {
        return Ok(());
    }
    for part in set.parts() {
        for (index, record) in part.sites().records().iter().enumerate() {
            let found = all_records(other).find(|other| overlaps(record, other));
            if let Some(found) = found {
                let name = run.recipe_of(part, record).map_or("", |recipe| recipe.name);
                let (site, other) = (record.site(), found.site());
                return Err(Error::Overlap { index, site, name, other });
            }
        }
    }
    Ok(())
}
