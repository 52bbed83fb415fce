//! No two sites may share a byte.
//!
//! Linkers sort records by their sites, so nearly always each site begins behind the end of the
//! one before. One look at all records shows whether that is so ([`Search::new`]), and then nothing
//! overlaps. But a table can be in any order: a section of text may have been placed in front of
//! the others, or a linker may not sort at all. There is no memory to sort records in, and
//! comparing each with all others takes a time that grows with the square of their number.
//!
//! Text itself tells where a search is needed. A set is checked when it is first patched, and then
//! nearly all of its sites hold what the assembler wrote. If another site begins inside such a
//! site, its first bytes stand in the bytes of the outer one:
//!
//! ```text
//! outer    ff 15 xx xx xx xx              call *slot_a
//! inner             ff 15 yy yy yy yy     call *slot_b: begins in the operand of the outer
//! ```
//!
//! An operand that has `ff 15` in it, and behind that four bytes which lead to a slot, is hardly
//! ever there by chance. So if the records are not sorted, the first pass asks the front ends
//! ([`Source`]) whether one of their sites may begin inside this one, and goes through all records
//! only then. It also does so for three kinds of sites that text tells nothing about, and all are
//! rare:
//! - one that does not hold its original, since a tool patched it ahead of boot;
//! - one with a single-byte NOP behind it, if the set has longer sites: that NOP may be the padding
//!   of a longer site at the same address;
//! - one that a front end knows by another record, of its own part or another one: both may want
//!   something of it, and the NOP of a branch, for one, does not tell its key.
//!
//! Records and text never move, so a set is checked once: [`SiteSet`] keeps the outcome.
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

/// The search for overlaps that the first pass does in each site of a set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Search {
    /// None: the records are sorted, and no two sites overlap; or the set was checked before.
    Nothing,
    /// A search for sites that may begin inside others.
    InnerSites {
        /// The largest capacity of a site of the set, in bytes.
        longest: u8,
    },
}

impl Search {
    /// Decides how this set is searched, and returns the addresses that its sites span.
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
        // For a set without sites 0..1, since an end of 0 means that the set was not checked.
        let span = lowest.min(highest_end)..highest_end.max(1);
        (if is_sorted { Self::Nothing } else { Self::InnerSites { longest } }, span)
    }

    /// Returns whether all records must be searched for a site that overlaps this one.
    #[inline(always)]
    pub(super) fn is_needed<P: Platform>(
        self,
        run: &Run<'_, P>,
        site: &CheckedSite<'_, '_>,
        contents: Contents,
    ) -> bool {
        match self {
            Self::Nothing => false,
            Self::InnerSites { longest } => may_overlap(run, site, contents, longest),
        }
    }
}

/// Returns whether a site with these contents surely holds its original. If a site of more than six
/// bytes is to get its original and has it, this is false: its class knows six bytes only. All
/// records are then searched for it, needlessly.
fn holds_original(site: &CheckedSite<'_, '_>, contents: Contents) -> bool {
    match contents {
        Contents::Original => true,
        Contents::New => site.is_short() && site.class.new_is_original,
        Contents::Known | Contents::Unknown => false,
    }
}

/// Returns whether a front end of the set may have another record of this site. Then two front ends
/// that are asked one after the other, or one that is asked twice, may want different bytes for it.
fn is_known_twice(set: &SiteSet<'_>, site: &CheckedSite<'_, '_>) -> bool {
    set.parts()
        .iter()
        .any(|part| part.source().may_have_another(site.record, core::ptr::eq(part, site.part)))
}

/// Returns whether another site may overlap this one.
#[inline(never)]
fn may_overlap<P: Platform>(
    run: &Run<'_, P>,
    site: &CheckedSite<'_, '_>,
    contents: Contents,
    longest: u8,
) -> bool {
    if !holds_original(site, contents) || is_known_twice(run.set, site) {
        return true;
    }
    let capacity = site.record.capacity();
    let mut buffer = [0; InsnBuffer::MAX + InsnBuffer::MIN];
    // Whether a longer site may be at the first byte of this one, or another one begin inside, by the
    // text of this one and so many bytes behind it. One byte nearly always tells. What is farther
    // behind may be in another cache line, and is read only if that does not: as far as the first
    // six bytes of a site reach that begins at the last byte of this one.
    [1, InsnBuffer::MIN - 1].into_iter().all(|behind| {
        let len = usize::from(capacity) + behind;
        let text = run.read_text(site, buffer.get_mut(..len).unwrap_or_default());
        let may_go_on = capacity < longest && text.get(usize::from(capacity)) == Some(&0x90);
        let mut parts = run.set.parts().iter();
        may_go_on || parts.any(|part| part.source().may_begin_inside(site.address, capacity, text))
    })
}

/// Returns whether the sites of two records share a byte.
#[inline(never)]
fn overlaps(one: &Record, other: &Record) -> bool {
    let (a, b) = (one.site(), other.site());
    let (distance, capacity) =
        if a <= b { (b - a, one.capacity()) } else { (a - b, other.capacity()) };
    distance < capacity.into()
}

/// Searches a set for a site that overlaps that of `record`, which is of `part`, in this set or
/// another.
///
/// # Errors
/// Returns [`SiteFault::Overlaps`] of that one of the two sites whose record comes later; of
/// `record`, if the other is of another set.
#[cold]
#[inline(never)]
pub(super) fn search<'r>(
    set: &SiteSet<'r>,
    part: &'r Part<'r>,
    record: &'r Record,
) -> Result<(), Fault<'r>> {
    // Whether `other` comes before `record`.
    let mut is_earlier = true;
    for other_part in set.parts() {
        for other in other_part.sites().records() {
            is_earlier &= !core::ptr::eq(other, record);
            let is_one_site =
                || core::ptr::eq(other_part, part) && part.source().is_same(record, other);
            if overlaps(record, other) && !is_one_site() && !set.is_withdrawn(other.site()) {
                let (part, record, other) =
                    if is_earlier { (part, record, other) } else { (other_part, other, record) };
                return Err(Fault::Site(part, record, SiteFault::Overlaps(other.site())));
            }
        }
    }
    Ok(())
}

/// Checks that no site of one set overlaps a site of another, for batches of several sets.
///
/// # Errors
/// Returns [`Error::Overlap`].
#[cold]
#[inline(never)]
pub(crate) fn check_between_sets<'r, P: Platform>(
    platform: &P,
    sets: impl Iterator<Item = &'r SiteSet<'r>> + Clone,
) -> Result<(), Error> {
    for (number, set) in sets.clone().enumerate() {
        check_against(platform, set, sets.clone().take(number))?;
    }
    Ok(())
}

/// Checks that no site of a set, which the platform knows, overlaps a site of one of the others.
///
/// # Errors
/// Returns [`Error::Overlap`], of the site of this set.
pub(crate) fn check_against<'r, P: Platform>(
    platform: &P,
    set: &'r SiteSet<'r>,
    others: impl Iterator<Item = &'r SiteSet<'r>>,
) -> Result<(), Error> {
    for other in others {
        if let Err(fault) = check_between(set, other) {
            // An overlap is the same whatever the sites are to follow.
            let run = Run { set, platform, follow: Follow::Original };
            return Err(run.error(&fault));
        }
    }
    Ok(())
}

fn check_between<'r>(set: &SiteSet<'r>, other: &SiteSet<'r>) -> Result<(), Fault<'r>> {
    // A module may join before the kernel's own sites were checked.
    let (_, a) = Search::new(set);
    let (_, b) = Search::new(other);
    // Nearly always: linked objects lie apart from each other.
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
