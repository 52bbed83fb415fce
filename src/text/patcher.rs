//! The patcher: checks everything, then writes, then reads back.
//!
//! Unsafe code here reads sites and writes through the platform's alias. What makes
//! that sound is the contract of [`Platform`] and one check before each access: the
//! whole site lies in the text range that the platform named ([`Patcher::spot`]).
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::Classes;
use super::fault::{Fault, Why};
use super::memory;
use super::one_cpu::OneCpu;
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Aim, Counts, Goal, Report};
use super::spot::{Holds, Spot, View};
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::ops::{INDIRECT, Table};
use crate::site::{Record, Sites};

/// So many sites are written before they are read back: what was just written is
/// not in the cache yet, and to read it by another address is to wait for it.
const BLOCK: usize = 16;

/// The patcher: a table of sites, the ops tables they go through, and the
/// platform.
///
/// Sites of one ops table can be in several patchers, those of a kernel and of its
/// modules for example: run each of them the same way, to apply or to revert, before
/// any is run for something else.
///
/// ```no_run
/// use patchlet::{OneCpu, Patcher, SecondMapping, Sites, pv};
/// # let (text, offset) = (0..1, 0);
///
/// // SAFETY: the kernel's text and its place in the direct map.
/// let platform = unsafe { SecondMapping::new(text, offset) };
/// let mut patcher = Patcher::new(Sites::linked(), [&pv::TABLE], platform);
/// // SAFETY: boot: one CPU, in ring 0, and the NMI handler has no site.
/// let report = unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) }?;
/// assert_eq!(report.indirect, 0);
/// # Ok::<(), patchlet::Error>(())
/// ```
#[derive(Debug)]
pub struct Patcher<'a, P, const TABLES: usize> {
    sites: Sites<'a>,
    tables: [&'a Table; TABLES],
    platform: P,
}

impl<'a, P: Platform, const TABLES: usize> Patcher<'a, P, TABLES> {
    /// Of all sites, the tables of all their ops, and the kernel's text.
    pub const fn new(sites: Sites<'a>, tables: [&'a Table; TABLES], platform: P) -> Self {
        Self { sites, tables, platform }
    }

    /// Checks everything and writes nothing: what [`apply`](Self::apply) or
    /// [`revert`](Self::revert) would do now.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply) but [`Error::Alias`] and [`Error::ReadBack`].
    pub fn plan(&self, goal: Goal) -> Result<Plan<'_, 'a, P, TABLES>, Error> {
        self.check(goal.into())?;
        Ok(Plan { patcher: self, goal })
    }

    /// Patches every site for what its slot holds now. Every record, site and
    /// replacement is checked before the first byte is written, and every alias
    /// before it is written to. Applying again changes nothing, unless slots were set
    /// meanwhile.
    ///
    /// # Errors
    /// Every variant of [`Error`] but those of [`live`](crate::live). Text is then as
    /// it was before, and not written at all; except for the errors of a platform that
    /// broke its contract, [`Error::Alias`] and [`Error::ReadBack`], which see.
    pub fn apply(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.keep();
        self.write(Aim::Kept, cpu)
    }

    /// Gives every site its indirect call or jump back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn revert(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.write(Aim::Indirect, cpu)
    }

    /// The first pass alone.
    pub(crate) fn check(&self, aim: Aim) -> Result<(), Error> {
        match self.validate(&mut Classes::new(aim)) {
            Ok(_) => Ok(()),
            Err(fault) => Err(self.explain(fault, aim)),
        }
    }

    /// First pass: every record, every site, every replacement; no write. Returns how
    /// many sites change.
    pub(crate) fn validate(&self, classes: &mut Classes) -> Result<usize, Fault> {
        if !self.sites.size().is_multiple_of(Record::SIZE) {
            return Err(Fault { index: 0, why: Why::Truncated });
        }
        let mut why = Why::Truncated;
        let mut changed = 0;
        let mut highest_end = 0;
        for index in self.all() {
            let fault = |why| Fault { index, why };
            let spot = self.spot(index, View::Site, classes, &mut why);
            let Some(spot) = &spot else { return Err(fault(why)) };
            // Linkers sort the records by their sites, so this is the rule; and
            // where one does not, only those out of order cost more.
            if spot.address < highest_end && self.overlapping(index).is_some() {
                return Err(fault(Why::Overlap));
            }
            let end = spot.address + usize::from(spot.class.maker.capacity);
            highest_end = highest_end.max(end);
            match self.holds(spot, View::Site) {
                Holds::New => {}
                Holds::Known => changed += 1,
                Holds::Other => return Err(fault(Why::OldBytes)),
            }
        }
        Ok(changed)
    }

    /// Both passes.
    pub(crate) fn write(&mut self, aim: Aim, _: &OneCpu<'_>) -> Result<Report, Error> {
        let classes = &mut Classes::new(aim);
        if let Err(fault) = self.validate(classes) {
            return Err(self.explain(fault, aim));
        }
        self.platform.unlock();
        let mut counts = Counts::default();
        let result = match self.write_all(classes, &mut counts) {
            Ok(()) => {
                self.note(aim);
                Ok(counts.report())
            }
            Err(fault) => {
                // The platform broke its contract. Put back what can be.
                let error = self.explain(fault, aim);
                self.put_back(classes, counts.sites);
                Err(error)
            }
        };
        self.platform.lock();
        self.platform.serialize();
        result
    }

    /// Keeps what the slots hold, for [`Aim::Kept`].
    pub(crate) fn keep(&self) {
        for table in self.tables {
            table.keep();
        }
    }

    /// Notes what all sites have now.
    pub(crate) fn note(&self, aim: Aim) {
        for table in self.tables {
            table.note(aim != Aim::Indirect);
        }
    }

    pub(super) const fn sites(&self) -> Sites<'a> {
        self.sites
    }

    pub(super) const fn tables(&self) -> &[&'a Table] {
        &self.tables
    }

    pub(crate) const fn platform(&self) -> &P {
        &self.platform
    }

    /// All records of the table, for [`spot`](Self::spot).
    pub(crate) const fn all(&self) -> Range<usize> {
        0..self.sites.records().len()
    }

    /// Second pass: writes and reads back, block by block. `counts` has the sites that
    /// may have been written.
    fn write_all(&self, classes: &mut Classes, counts: &mut Counts) -> Result<(), Fault> {
        let end = self.all().end;
        let mut why = Why::Truncated;
        // Where each site of the block is, its capacity, and the first six bytes it got: in
        // another order than a spot has them, or both are copied by one load, wider than
        // what was stored.
        let mut wrote = [(core::ptr::null(), 0, 0); BLOCK];
        for index in 0..end {
            let spot = self.spot(index, View::Alias, classes, &mut why);
            let Some(spot) = &spot else { return Err(Fault { index, why }) };
            let site = core::ptr::with_exposed_provenance(spot.address);
            match self.holds(spot, View::Alias) {
                // SAFETY: the site is inside text (`spot`), which is readable; below, too.
                Holds::New if unsafe { memory::read_six(site) } == spot.new => {
                    counts.add(spot.class.count, false);
                }
                Holds::Known => {
                    counts.add(spot.class.count, true);
                    self.write_site(spot);
                }
                // It shows what the site, by the first pass, does not hold.
                Holds::New | Holds::Other => return Err(Fault { index, why: Why::Alias }),
            }
            let place = index % BLOCK;
            wrote[place] = (site, usize::from(spot.class.maker.capacity), spot.new);
            if place + 1 < BLOCK && index + 1 < end {
                continue;
            }
            let block = index - place;
            for (at, &(site, capacity, new)) in wrote.iter().enumerate().take(place + 1) {
                let index = block + at;
                // SAFETY: see above.
                let six = unsafe { memory::read_six(site) };
                let is_long = capacity > InsnBuffer::MIN;
                if six != new || is_long && !self.shows_new(index, classes) {
                    return Err(Fault { index, why: Why::ReadBack });
                }
            }
        }
        Ok(())
    }

    /// Whether a long site holds all that it gets.
    #[cold]
    #[inline(never)]
    fn shows_new(&self, index: usize, classes: &mut Classes) -> bool {
        let spot = self.spot(index, View::Site, classes, &mut Why::Truncated);
        spot.is_some_and(|spot| self.holds(&spot, View::Site) == Holds::New)
    }

    /// Writes a site, each byte once.
    #[inline(always)]
    fn write_site(&self, spot: &Spot<'_>) {
        let alias = self.platform.alias(spot.address);
        // SAFETY: the site is inside text (`spot`), and the platform answers for
        // the alias.
        unsafe { memory::write_six(alias, spot.new) };
        if spot.class.maker.is_long() {
            let new = spot.made_new();
            self.store(spot, &new, InsnBuffer::MIN..InsnBuffer::MAX);
        }
    }

    /// Undoes the first `count` sites of a failed pass: they get what their op was
    /// patched for last, or their indirect call or jump.
    #[cold]
    #[inline(never)]
    fn put_back(&self, classes: &mut Classes, count: usize) {
        for index in 0..count {
            // There is one: the records were all checked.
            let spot = self.spot(index, View::Site, classes, &mut Why::Truncated);
            let Some(spot) = &spot else { continue };
            let mut before = spot.made(spot.class.maker.row.applied());
            if before.bytes().is_empty() {
                // What other sites of the op were patched for does not go into this one.
                before = spot.made(INDIRECT);
            }
            // Whatever the site shows: its alias was written, or showed what it was to
            // get.
            self.store(spot, &before, 0..InsnBuffer::MAX);
        }
    }

    /// Stores these bytes of the site, each by one store.
    pub(crate) fn store(&self, spot: &Spot<'_>, bytes: &InsnBuffer, part: Range<usize>) {
        let alias = self.platform.alias(spot.address);
        // SAFETY: the site is inside text (`spot`), the part is one of the site,
        // and the platform answers for the alias.
        unsafe { memory::write_part(alias, bytes, part) };
    }

    /// The site of the nearest earlier record that shares bytes with that at `index`.
    /// None, if it says the same: it was itself compared with those before it.
    #[cold]
    #[inline(never)]
    pub(super) fn overlapping(&self, index: usize) -> Option<usize> {
        let (earlier, rest) = self.sites.records().split_at_checked(index)?;
        let record = rest.first()?;
        let (site, capacity) = (record.site(), usize::from(record.capacity()));
        let shares = |earlier: &&Record| {
            let other = earlier.site();
            site < other + usize::from(earlier.capacity()) && other < site + capacity
        };
        let nearest = earlier.iter().rev().find(shares)?;
        // Linkers that fold functions of the same code into one (`--icf=all`) can
        // leave the records of each. They say the same.
        (!nearest.repeats(record)).then(|| nearest.site())
    }
}
