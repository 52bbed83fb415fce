//! The patcher: checks everything, then writes, then reads back.
//!
//! Unsafe code here reads sites and writes through the platform's alias. What makes
//! that sound is the contract of [`Platform`] and one check before each access: the
//! whole site lies in the text range that the platform named ([`Patcher::walk`]).
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::Classes;
use super::fault::{Fault, Why};
use super::memory;
use super::one_cpu::OneCpu;
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Aim, Counts, Goal, Report};
use super::walk::{Act, Spot, View, inside};
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::ops::Table;
use crate::site::{Record, Sites};

/// So many sites are written before they are read back: what was just written is
/// not in the cache yet, and to read it by another address is to wait for it.
const BLOCK: usize = 32;

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
        let result = self.validate(aim, &mut Classes::new(), None);
        result.map(drop).map_err(|fault| self.explain(fault, aim))
    }

    /// First pass: every record, every site, every replacement, and what `admit`
    /// has to say of the sites that change; no write. Returns how many do.
    pub(crate) fn validate(
        &self,
        aim: Aim,
        classes: &mut Classes,
        mut admit: Option<&mut Act<'_>>,
    ) -> Result<usize, Fault> {
        if !self.sites.size().is_multiple_of(Record::SIZE) {
            return Err(Fault { index: 0, why: Why::Truncated });
        }
        let mut changed = 0;
        let mut highest_end = 0;
        self.walk(aim, View::Site, classes, self.all(), &mut |spot| {
            // Linkers sort the records by their sites, so this is the rule; and
            // where one does not, only those out of order cost more.
            if spot.address < highest_end && self.overlapping(spot.index, spot.record).is_some() {
                return Err(Why::Overlap);
            }
            highest_end = highest_end.max(spot.address + usize::from(spot.class.capacity));
            if spot.done {
                return Ok(());
            }
            changed += 1;
            match &mut admit {
                _ if !spot.is_usual() && self.held(spot).is_none() => Err(Why::OldBytes),
                Some(admit) => admit(spot),
                None => Ok(()),
            }
        })?;
        Ok(changed)
    }

    /// Both passes.
    pub(crate) fn write(&mut self, aim: Aim, _: &OneCpu<'_>) -> Result<Report, Error> {
        let classes = &mut Classes::new();
        self.validate(aim, classes, None).map_err(|fault| self.explain(fault, aim))?;
        self.platform.unlock();
        let (mut counts, mut written) = (Counts::default(), 0);
        let result = self.write_all(aim, classes, &mut counts, &mut written).map_err(|fault| {
            // The platform broke its contract. Put back what can be.
            let error = self.explain(fault, aim);
            self.put_back(aim, classes, written);
            error
        });
        self.platform.lock();
        self.platform.serialize();
        result?;
        self.note(aim);
        Ok(counts.report())
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

    /// All records of the table, for [`walk`](Self::walk).
    pub(crate) const fn all(&self) -> Range<usize> {
        0..self.sites.records().len()
    }

    /// Second pass: writes and reads back, block by block. `written` is the number of
    /// sites that may have been written.
    fn write_all(
        &self,
        aim: Aim,
        classes: &mut Classes,
        counts: &mut Counts,
        written: &mut usize,
    ) -> Result<(), Fault> {
        let all = self.all();
        for start in all.clone().step_by(BLOCK) {
            let block = start..all.end.min(start + BLOCK);
            self.walk(aim, View::Alias, classes, block.clone(), &mut |spot| {
                counts.add(spot.class.count, !spot.done);
                if !spot.done {
                    self.write_site(spot)?;
                }
                *written = spot.index + 1;
                Ok(())
            })?;
            self.walk(aim, View::Site, classes, block, &mut |spot| {
                if spot.done { Ok(()) } else { Err(Why::ReadBack) }
            })?;
        }
        Ok(())
    }

    /// Writes a site, each byte once. Its alias must show what the site holds: what
    /// the first pass found nothing wrong with, or the very same.
    #[inline(always)]
    fn write_site(&self, spot: &Spot<'_>) -> Result<(), Why> {
        let alias =
            if spot.is_usual() { self.platform.alias(spot.address) } else { self.alias(spot)? };
        // SAFETY: the site is inside text (`walk`), and the platform answers for
        // the alias.
        unsafe { memory::write_six(alias, spot.new) };
        let capacity = usize::from(spot.class.capacity);
        if capacity > InsnBuffer::MIN {
            let bytes = self.bytes(spot, &spot.class.new);
            // SAFETY: as above.
            unsafe { memory::write_part(alias, &bytes, InsnBuffer::MIN..capacity) };
        }
        Ok(())
    }

    /// Undoes the first `count` sites of a failed pass: they get what their op was
    /// patched for last, or their indirect call or jump.
    #[cold]
    #[inline(never)]
    fn put_back(&self, aim: Aim, classes: &mut Classes, count: usize) {
        // There can be no fault: the records were all checked.
        let _ = self.walk(aim, View::Site, classes, 0..count, &mut |spot| {
            let before = self.bytes(spot, &spot.class.applied);
            if before != self.bytes(spot, &spot.class.new) {
                // Whatever the site shows: it is the alias that was written.
                self.store(spot, &before, 0..before.bytes().len());
            }
            Ok(())
        });
    }

    /// Stores these bytes of the site, each by one store.
    pub(crate) fn store(&self, spot: &Spot<'_>, bytes: &InsnBuffer, part: Range<usize>) {
        let alias = self.platform.alias(spot.address);
        // SAFETY: the site is inside text (`walk`), the part is one of the site,
        // and the platform answers for the alias.
        unsafe { memory::write_part(alias, bytes, part) };
    }

    /// Where the site is written; it shows the same bytes.
    #[cold]
    #[inline(never)]
    pub(crate) fn alias(&self, spot: &Spot<'_>) -> Result<*mut u8, Why> {
        let alias = self.platform.alias(spot.address);
        // SAFETY: the site is inside text (`walk`), its capacity is 6 to 32, and
        // the platform answers for the alias.
        let shown = unsafe { memory::read(alias, spot.class.capacity) };
        if shown == self.present(spot) { Ok(alias) } else { Err(Why::Alias) }
    }

    /// What a site holds; nothing, if it is not inside text.
    pub(crate) fn read(&self, site: usize, capacity: u8) -> InsnBuffer {
        if !inside(&self.platform.text(), site, capacity) {
            return InsnBuffer::nothing();
        }
        // SAFETY: inside text, which the platform says is readable.
        unsafe { memory::read(core::ptr::with_exposed_provenance(site), capacity) }
    }

    /// The site of the nearest earlier record that shares bytes with that at `index`.
    /// None, if it says the same: it was itself compared with those before it.
    #[cold]
    #[inline(never)]
    pub(super) fn overlapping(&self, index: usize, record: &Record) -> Option<usize> {
        let (site, capacity) = (record.site(), usize::from(record.capacity()));
        let shares = |earlier: &&Record| {
            let other = earlier.site();
            site < other + usize::from(earlier.capacity()) && other < site + capacity
        };
        let nearest = self.sites.records().get(..index)?.iter().rev().find(shares)?;
        // Linkers that fold functions of the same code into one (`--icf=all`) can
        // leave the records of each. They say the same.
        (!nearest.repeats(record)).then(|| nearest.site())
    }
}
