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
use super::platform::Platform;
use super::site_set::{Part, SiteSet};
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::site::Record;

/// What is looked for in each site of a set, while the first pass goes over it.
#[derive(Debug)]
pub(super) enum Search {
    /// Nothing: the records are sorted, and no two sites overlap; or the set was checked before.
    Nothing,
    /// Sites that may begin inside others.
    InnerSites(InnerSites),
}

#[derive(Debug)]
pub(super) struct InnerSites {
    /// The largest capacity of a site of the set, in bytes.
    longest: u8,
    /// Each opening of an original, in all four places of a number; 0 where there are fewer, which
    /// is an opening like another one.
    openings: [u64; Self::OPENINGS],
    /// Whether there are more openings than that, so that every site is looked into.
    has_more: bool,
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
        let search =
            if is_sorted { Self::Nothing } else { Self::InnerSites(InnerSites::new(set, longest)) };
        (search, span)
    }

    /// Returns whether all records are to be searched for a site that overlaps this one.
    #[inline(always)]
    pub(super) fn finds<P: Platform>(
        &self,
        run: &Run<'_, P>,
        set: &SiteSet<'_>,
        site: &CheckedSite<'_, '_>,
    ) -> bool {
        match self {
            Self::Nothing => false,
            Self::InnerSites(inner) => inner.may_be_in(run, set, site),
        }
    }
}

impl InnerSites {
    const OPENINGS: usize = 2;

    fn new(set: &SiteSet<'_>, longest: u8) -> Self {
        let mut inner = Self { longest, openings: [0; Self::OPENINGS], has_more: false };
        let mut count = 0;
        for part in set.parts() {
            for &opening in part.source().openings() {
                match inner.openings.get_mut(count) {
                    Some(place) => *place = in_all_places(opening),
                    None => inner.has_more = true,
                }
                count += 1;
            }
        }
        inner
    }

    #[inline(always)]
    fn may_be_in<P: Platform>(
        &self,
        run: &Run<'_, P>,
        set: &SiteSet<'_>,
        site: &CheckedSite<'_, '_>,
    ) -> bool {
        if !run.holds_original(site) {
            return true;
        }
        let all_are_six_bytes = usize::from(self.longest) == InsnBuffer::MIN;
        if all_are_six_bytes
            && !self.has_more
            && let Some(text) = run.read_eight(site)
        {
            // Pairs of bytes from the second byte on, and from the third byte on: all that begin
            // inside the site but for the site's own.
            if !self.has_opening(text >> 8) && !self.has_opening(text >> 16) {
                return false;
            }
        }
        self.may_be_in_text(run, set, site)
    }

    /// Returns whether one of the four pairs of bytes in a number is an opening; to be true for no
    /// reason is possible, and rare.
    ///
    /// The places of a pair that is an opening become 0, and then subtracting 1 borrows into a
    /// highest bit that was not set before.
    #[inline(always)]
    fn has_opening(&self, number: u64) -> bool {
        let ones = in_all_places([1, 0]);
        let borrows = self.openings.map(|opening| {
            let zero_where_equal = number ^ opening;
            zero_where_equal.wrapping_sub(ones) & !zero_where_equal
        });
        borrows.into_iter().fold(0, |all, one| all | one) & ones << 15 != 0
    }

    /// Returns whether, by what text holds, a site may begin inside this one, or a longer one at
    /// its first byte.
    #[cold]
    #[inline(never)]
    fn may_be_in_text<P: Platform>(
        &self,
        run: &Run<'_, P>,
        set: &SiteSet<'_>,
        site: &CheckedSite<'_, '_>,
    ) -> bool {
        let capacity = site.record.capacity();
        // As many as a site has that begins at the last byte of this one.
        let len = usize::from(capacity) + InsnBuffer::MIN - 1;
        let len = len.min(run.platform.text().end - site.address);
        let text = run.read_text::<{ InsnBuffer::MAX + InsnBuffer::MIN }>(site, len);
        let text = text.get(..len).unwrap_or_default();
        let is_padded = capacity < self.longest && text.get(usize::from(capacity)) == Some(&0x90);
        let mut parts = set.parts().iter();
        is_padded || parts.any(|part| part.source().may_begin_inside(site.address, capacity, text))
    }
}

/// Returns a number that has these two bytes in all four places.
const fn in_all_places([first, second]: [u8; 2]) -> u64 {
    u64::from_le_bytes([first, second, first, second, first, second, first, second])
}

/// Returns whether the sites of two records share a byte. Linkers that fold functions of the same
/// code into one (`--icf=all`) leave the records of each; those say the same, and are one site.
#[inline(never)]
fn overlaps(one: &Record, other: &Record) -> bool {
    let (a, b) = (one.site(), other.site());
    let is_same = a == b && one.subject() == other.subject() && one.shape() == other.shape();
    let (distance, capacity) =
        if a <= b { (b - a, one.capacity()) } else { (a - b, other.capacity()) };
    !is_same && distance < capacity.into()
}

/// Searches a set for a site that overlaps that of `record`, which is the record at `index` of
/// `part`, in this set or another. Returns the error of the one of the two whose record comes
/// later; of `record`, if the other is of another set.
#[cold]
#[inline(never)]
pub(super) fn search<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    part: &Part<'_>,
    index: usize,
    record: &Record,
) -> Option<Error> {
    let mut is_earlier = true;
    for other_part in set.parts() {
        for (other_index, other) in other_part.sites().records().iter().enumerate() {
            is_earlier &= !core::ptr::eq(other, record);
            if !overlaps(record, other) {
                continue;
            }
            let (part, index, record, other) = if is_earlier {
                (part, index, record, other)
            } else {
                (other_part, other_index, other, record)
            };
            let name = run.recipe_of(part, record).map_or("", |recipe| recipe.name);
            return Some(Error::Overlap { index, site: record.site(), name, other: other.site() });
        }
    }
    None
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
            check_between(run, set, earlier)?;
        }
    }
    Ok(())
}

fn check_between<P: Platform>(
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
            if let Some(error) = search(run, other, part, index, record) {
                return Err(error);
            }
        }
    }
    Ok(())
}
