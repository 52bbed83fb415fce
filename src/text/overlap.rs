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
//! as never there by chance. So if the records are not sorted, the first pass looks in each site for
//! bytes that a site may begin with ([`Source`]), and all records are searched only if there are
//! some. Two more kinds of sites are searched for, and both are rare: one that does not hold its
//! original, since a tool patched it ahead of boot; and one with single-byte NOPs behind it, in a
//! set with sites of several capacities, since a record of a longer site may name the same address.
//!
//! Records and text never move, so a set is checked once.
//!
//! [`Source`]: super::Source

use core::ops::Range;

use super::checked_site::{CheckedSite, Run};
use super::contents::Contents;
use super::fault::{Fault, SiteFault};
use super::platform::Platform;
use super::site_set::{Part, SiteSet};
use super::source::Follow;
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::site::Record;

/// What is looked for in each site of a set, while the first pass goes over it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Search {
    /// Nothing: the records are sorted, and no two sites overlap; or the set was checked before.
    Nothing,
    /// Sites that may begin inside others.
    InnerSites {
        /// The largest capacity of a site of the set, in bytes.
        longest: u8,
    },
}

impl Search {
    /// Decides what is to be looked for in this set, and returns the addresses that its sites span.
    #[cold]
    #[inline(never)]
    pub(super) fn new(set: &SiteSet<'_>) -> (Self, Range<usize>) {
        if let Some(span) = set.checked_span() {
            return (Self::Nothing, span);
        }
        let (mut lowest, mut highest_end, mut longest) = (usize::MAX, 0, 0);
        let mut is_sorted = true;
        for part in set.parts() {
            for record in part.sites().records() {
                is_sorted &= record.site() >= highest_end;
                lowest = lowest.min(record.site());
                highest_end = highest_end.max(record.end());
                longest = longest.max(record.capacity());
            }
        }
        // Not empty, even if there is no site.
        let span = lowest.min(highest_end)..highest_end.max(1);
        (if is_sorted { Self::Nothing } else { Self::InnerSites { longest } }, span)
    }

    /// Returns whether all records are to be searched for a site that overlaps this one.
    #[inline(always)]
    pub(super) fn finds<P: Platform>(
        self,
        run: &Run<'_, P>,
        set: &SiteSet<'_>,
        site: &CheckedSite<'_, '_>,
        contents: Contents,
    ) -> bool {
        match self {
            Self::Nothing => false,
            Self::InnerSites { longest } => {
                !holds_original(site, contents)
                    || is_known_twice(set, site)
                    || may_overlap(run, set, site, longest)
            }
        }
    }
}

/// Returns whether a site that holds this holds its original. May be false of one that does, if its
/// new bytes are the original: all records are searched for it then, needlessly.
fn holds_original(site: &CheckedSite<'_, '_>, contents: Contents) -> bool {
    match contents {
        Contents::Original => true,
        Contents::New => site.is_six_bytes() && site.class.new_is_original,
        Contents::Known | Contents::Unknown => false,
    }
}

/// Returns whether a front end of another part of the set knows what the record belongs to as well.
/// Then both parts may have the site, and two front ends that are asked one after the other may
/// want different bytes for it.
fn is_known_twice(set: &SiteSet<'_>, site: &CheckedSite<'_, '_>) -> bool {
    set.parts().iter().any(|part| {
        !core::ptr::eq(part, site.part)
            && part.source().recipe(site.record, Follow::Original).is_ok()
    })
}

/// Returns whether another site may begin inside this one, which holds its original, or a longer
/// one at its first byte.
#[inline(never)]
fn may_overlap<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    site: &CheckedSite<'_, '_>,
    longest: u8,
) -> bool {
    let capacity = site.record.capacity();
    let is_padded = capacity < longest && matches!(run.pairs(set, site).last(), Some([_, 0x90]));
    is_padded
        || set.parts().iter().any(|part| {
            let openings = part.source().openings();
            // The first pair is the opening of this site.
            run.pairs(set, site).skip(1).any(|pair| openings.contains(&pair))
                && may_begin_inside(run, set, site, part)
        })
}

/// Asks the front end of this part whether one of its sites may begin inside this one.
#[cold]
#[inline(never)]
fn may_begin_inside<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    site: &CheckedSite<'_, '_>,
    part: &Part<'_>,
) -> bool {
    let capacity = site.record.capacity();
    // As many as a site has that begins at the last byte of this one.
    let len = usize::from(capacity) + InsnBuffer::MIN - 1;
    let mut buffer = [0; InsnBuffer::MAX + InsnBuffer::MIN];
    let text = run.read_text(set, site, buffer.get_mut(..len).unwrap_or_default());
    part.source().may_begin_inside(site.address, capacity, text)
}

/// Returns whether the sites of two records share a byte.
#[inline(never)]
fn overlaps(one: &Record, other: &Record) -> bool {
    let (a, b) = (one.site(), other.site());
    let (distance, capacity) =
        if a <= b { (b - a, one.capacity()) } else { (a - b, other.capacity()) };
    distance < capacity.into()
}

/// Returns whether two records of one part say the same. Linkers that fold functions of the same
/// code into one (`--icf=all`) leave the records of each, and they are one site.
fn is_same(one: &Record, other: &Record) -> bool {
    one.site() == other.site() && one.subject() == other.subject() && one.shape() == other.shape()
}

/// Searches a set for a site that overlaps that of `record`, which is of `part`, in this set or
/// another.
///
/// # Errors
/// - [`SiteFault::Overlaps`], of the one of the two whose record comes later; of `record`, if the
///   other is of another set.
#[cold]
#[inline(never)]
pub(super) fn search<'r>(
    set: &SiteSet<'r>,
    part: &'r Part<'r>,
    record: &'r Record,
) -> Result<(), Fault<'r>> {
    let mut is_earlier = true;
    for other_part in set.parts() {
        for other in other_part.sites().records() {
            is_earlier &= !core::ptr::eq(other, record);
            let is_one_site = core::ptr::eq(other_part, part) && is_same(record, other);
            if overlaps(record, other) && !is_one_site && !set.is_withdrawn(other.site()) {
                let (part, record, other) =
                    if is_earlier { (part, record, other) } else { (other_part, other, record) };
                return Err(Fault::Site(part, record, SiteFault::Overlaps(other.site())));
            }
        }
    }
    Ok(())
}

/// Checks that no site of one set overlaps a site of another, for batches of several sets. Each set
/// was checked by itself.
///
/// # Errors
/// - [`Error::Overlap`]
#[cold]
#[inline(never)]
pub(crate) fn check_between_sets<P: Platform>(run: &Run<'_, P>) -> Result<(), Error> {
    for (number, set) in run.sets.iter().enumerate() {
        for earlier in run.sets.iter().take(number) {
            if let Err(fault) = check_between(set, earlier) {
                return Err(run.error(&fault));
            }
        }
    }
    Ok(())
}

fn check_between<'r>(set: &SiteSet<'r>, other: &SiteSet<'r>) -> Result<(), Fault<'r>> {
    let (Some(a), Some(b)) = (set.checked_span(), other.checked_span()) else { return Ok(()) };
    // Linked objects lie apart from each other; so this is the rule.
    if a.end <= b.start || b.end <= a.start {
        return Ok(());
    }
    for part in set.parts() {
        for record in part.sites().records() {
            if !set.is_withdrawn(record.site()) {
                search(other, part, record)?;
            }
        }
    }
    Ok(())
}
