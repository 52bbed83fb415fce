//! One pass through the table.
//!
//! Unsafe code here reads and writes sites, through the platform's alias. What makes
//! that sound is the contract of [`Platform`] and one check before each access: the
//! whole site lies in the text range that the platform named ([`Patcher::spot`]).
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::Classes;
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Report};
use super::spot::{Holds, Spot, View};
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::ops::INDIRECT;

/// So many sites are written before they are read back: what was just written is
/// not in the cache yet, and to read it by another address is to wait for it.
const BLOCK: usize = 16;

/// What a pass does with each site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Checks everything and counts, writes nothing.
    Check,
    /// Writes and reads back, block by block.
    Write,
    /// Finds the first site that does not hold what it got. On its own, before any site is
    /// put back: the record of one can be there twice.
    Blame,
    /// Undoes what was written, as far as can be, from the last site on.
    PutBack,
}

/// What is kept from site to site, and from pass to pass.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) classes: Classes,
    /// What [`Step::Check`] found.
    pub(crate) counts: Report,
    /// So many sites may have been written.
    pub(super) written: usize,
    /// Where each site of a block is, and the first six bytes it got.
    wrote: [(usize, u64); BLOCK],
    /// What [`Refused`] is about; before that, nothing.
    pub(crate) error: Error,
}

impl Run {
    pub(crate) fn new(aim: Aim) -> Self {
        Self {
            classes: Classes::new(aim),
            counts: Report::default(),
            written: 0,
            wrote: [(0, 0); BLOCK],
            error: Error::Busy,
        }
    }
}

/// There is an error, in [`Run::error`]. A `Result` with all of it would be copied, value
/// by value, at each `?`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

impl<P: Platform, const TABLES: usize> Patcher<'_, P, TABLES> {
    /// Does this with the first `end` sites.
    ///
    /// One loop for all the steps, as most of it is the same.
    #[inline(never)]
    pub(super) fn pass(&self, step: Step, end: usize, run: &mut Run) -> Result<(), Refused> {
        let Run { classes, counts, written, wrote, error } = run;
        let view = if step == Step::Write { View::Alias } else { View::Site };
        let expected = match step {
            Step::Blame => Holds::New,
            Step::Check | Step::Write => Holds::Known,
            Step::PutBack => Holds::Other,
        };
        let mut highest_end = 0;
        for index in 0..end {
            let index = if step == Step::PutBack { end - 1 - index } else { index };
            self.prefetch(index, view);
            let spot = self.spot(index, classes, error);
            let Some(spot) = &spot else { return Err(Refused) };
            // Linkers sort the records by their sites, so this is the rule; and where one
            // does not, only those out of order cost more.
            if step == Step::Check && spot.address < highest_end {
                self.no_overlap(index, spot, error)?;
            }
            highest_end = highest_end.max(spot.end());
            let holds = self.holds(spot, view);
            let changes = holds == Holds::Known;
            if step == Step::Check {
                counts.add(spot.class.new.what, changes);
            }
            if holds > expected {
                return Err(self.wrong(spot, step, error));
            }
            if step == Step::PutBack {
                // Whatever it shows: its alias was written, or showed what it was to get.
                self.put(spot, spot.class.maker.row.applied(), 0);
            }
            if step != Step::Write {
                continue;
            }
            *written = index + 1;
            if changes && !self.write_site(spot) {
                return Err(self.wrong(spot, step, error));
            }
            let place = index % BLOCK;
            wrote[place] = (spot.address, spot.new);
            if place + 1 < BLOCK && index + 1 < end {
                continue;
            }
            for &(site, new) in &wrote[..=place] {
                let site = core::ptr::with_exposed_provenance(site);
                // SAFETY: the sites of this block are inside text (`spot`).
                if unsafe { memory::read_six(site) } != new {
                    // `Blame` finds out which.
                    return Err(self.wrong(spot, step, error));
                }
            }
        }
        Ok(())
    }

    /// Writes a site, each byte once. A long one is read back at once: false if it does not
    /// show what it got.
    #[inline(always)]
    fn write_site(&self, spot: &Spot<'_>) -> bool {
        // SAFETY: the site is inside text (`spot`), and the platform answers for the
        // alias.
        unsafe { memory::write_six(self.platform().alias(spot.address), spot.new) };
        let maker = &spot.class.maker;
        if !maker.is_long() {
            return true;
        }
        self.put(spot, maker.target, InsnBuffer::MIN);
        self.look(spot, View::Site) == Holds::New
    }

    /// Stores the bytes of a site that stands for this, but for the first ones. If it
    /// cannot, it gets its indirect call or jump: what other sites of the op were patched
    /// for does not go into this one.
    #[cold]
    #[inline(never)]
    fn put(&self, spot: &Spot<'_>, target: usize, from: usize) {
        let mut bytes = spot.made(target);
        if bytes.is_empty() {
            bytes = spot.made(INDIRECT);
        }
        self.store(spot, &bytes, from..InsnBuffer::MAX);
    }

    /// Stores these bytes of the site, each by one store.
    pub(crate) fn store(&self, spot: &Spot<'_>, bytes: &InsnBuffer, part: Range<usize>) {
        let alias = self.platform().alias(spot.address);
        // SAFETY: the site is inside text (`spot`), these are bytes of a site as long,
        // or fewer, and the platform answers for the alias.
        unsafe { memory::write_part(alias, bytes, part) };
    }

    /// An error if an earlier record shares bytes with that at `index`; but not if the
    /// nearest such says the same, for that was itself compared with those before it.
    #[cold]
    #[inline(never)]
    fn no_overlap(&self, index: usize, spot: &Spot<'_>, error: &mut Error) -> Result<(), Refused> {
        let (site, end) = (spot.address, spot.end());
        let earlier = self.sites().records().get(..index).unwrap_or_default();
        for earlier in earlier.iter().rev() {
            let other = earlier.site();
            if other < end && site < other + usize::from(earlier.capacity()) {
                // Linkers that fold functions of the same code into one (`--icf=all`) can
                // leave the records of each. They say the same.
                if site == other && spot.class.is_of(earlier) {
                    break;
                }
                let op = spot.class.maker.row.op.name();
                *error = Error::Overlap { index, site, op, other };
                return Err(Refused);
            }
        }
        Ok(())
    }
}
