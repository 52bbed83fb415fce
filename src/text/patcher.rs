//! The patcher: checks everything, then writes, then reads back.
//!
//! Unsafe code here reads sites and writes through the platform's alias. What makes
//! that sound is the contract of [`Platform`] and one check before each access: the
//! whole site lies in the text range that the platform named ([`Patcher::walk`]).
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::{Classes, Form};
use super::memory::{self, HEAD};
use super::one_cpu::OneCpu;
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Aim, Counts, Goal, Report};
use super::walk::Spot;
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::ops::Table;
use crate::site::{Record, Sites};

/// So many sites are written before they are read back: what was just written is
/// not in the cache yet, and to read it by another address is to wait for it.
const BLOCK: usize = 32;

/// What the first pass found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// Sites that do not hold what they get.
    pub(crate) changed: usize,
    /// Of those, how many hold something else than was noted of their op, and how
    /// many hold it because they were patched ahead of boot.
    unnoted: usize,
    native: usize,
}

impl Survey {
    /// Whether the sites of ops that were never patched hold native forms.
    fn ahead(&self) -> bool {
        self.native > 0 && self.native == self.unnoted
    }
}

/// The patcher: a table of sites, the ops tables they go through, and the
/// platform.
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
    /// Every variant of [`Error`] but [`Error::Alias`] and [`Error::ReadBack`].
    pub fn plan(&self, goal: Goal) -> Result<Plan<'_, 'a, P, TABLES>, Error> {
        self.validate(goal.into(), None)?;
        Ok(Plan { patcher: self, goal })
    }

    /// Patches every site for what its slot holds now. Everything is checked
    /// before the first byte is written. Applying again changes nothing, unless
    /// slots were set meanwhile.
    ///
    /// # Errors
    /// Every variant of [`Error`]. Text is then as it was before; see
    /// [`Error::ReadBack`] for the one exception.
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

    /// First pass: every record, every site, every replacement, and what `admit`
    /// has to say of the sites that change; no write.
    pub(crate) fn validate(
        &self,
        aim: Aim,
        admit: Option<&dyn Fn(&Spot<'_>) -> Result<(), Error>>,
    ) -> Result<Survey, Error> {
        if !self.sites.size().is_multiple_of(Record::SIZE) {
            return Err(Error::TruncatedTable { bytes: self.sites.size(), record: Record::SIZE });
        }
        let mut survey = Survey::default();
        let mut highest_end = 0;
        self.walk(aim, &mut Classes::new(), self.all(), |spot| {
            // Linkers sort the records by their sites, so this is the rule; and
            // where one does not, only those out of order cost more.
            if spot.address < highest_end {
                self.no_overlap(spot)?;
            }
            highest_end = highest_end.max(spot.address + usize::from(spot.class.capacity));
            let head = self.read_head(spot);
            if self.holds(spot, head, &spot.class.new) {
                return Ok(());
            }
            survey.changed += 1;
            if !self.holds(spot, head, &spot.class.applied) {
                survey.unnoted += 1;
                if !self.holds(spot, head, &spot.class.indirect) {
                    survey.native += usize::from(self.holds_native(spot)?);
                }
            }
            match admit {
                Some(admit) => admit(spot),
                None => Ok(()),
            }
        })?;
        Ok(survey)
    }

    /// Both passes.
    pub(crate) fn write(&mut self, aim: Aim, _: &OneCpu<'_>) -> Result<Report, Error> {
        let survey = self.validate(aim, None)?;
        self.platform.unlock();
        let result = self.write_all(aim, survey);
        self.platform.lock();
        self.platform.serialize();
        if result.is_ok() {
            self.note(aim);
        }
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

    /// All records of the table, for [`walk`](Self::walk).
    pub(crate) const fn all(&self) -> Range<usize> {
        0..self.sites.records().len()
    }

    /// Second pass: writes and reads back.
    fn write_all(&self, aim: Aim, survey: Survey) -> Result<Report, Error> {
        let mut classes = Classes::new();
        let mut counts = Counts::default();
        let (mut written, all) = (0, self.all());
        for start in all.clone().step_by(BLOCK) {
            let block = start..all.end.min(start + BLOCK);
            let result = self
                .walk(aim, &mut classes, block.clone(), |spot| {
                    counts.add(spot.class.count, self.write_site(spot)?);
                    written = spot.index + 1;
                    Ok(())
                })
                .and_then(|()| self.walk(aim, &mut classes, block, |spot| self.check(spot)));
            if let Err(error) = result {
                // The platform broke its contract. Put back what can be.
                self.put_back(aim, written, survey.ahead());
                return Err(error);
            }
        }
        Ok(counts.report())
    }

    /// Writes a site if it changes; whether it does.
    #[inline(always)]
    fn write_site(&self, spot: &Spot<'_>) -> Result<bool, Error> {
        let present = self.read_head(spot);
        if self.holds(spot, present, &spot.class.new) {
            return Ok(false);
        }
        self.store(spot, &spot.class.new, self.alias(spot, present)?);
        Ok(true)
    }

    /// Stores these bytes, each once.
    #[inline(always)]
    fn store(&self, spot: &Spot<'_>, form: &Form, alias: *mut u8) {
        // `walk` saw that it is in reach.
        let Some(head) = form.head_at(spot.address) else { return };
        // SAFETY: the site is inside text (`walk`), and the platform answers for
        // the alias.
        unsafe { memory::write_six(alias, head) };
        let capacity = usize::from(spot.class.capacity);
        if capacity > InsnBuffer::MIN {
            let bytes = self.bytes(spot, form);
            // SAFETY: as above.
            unsafe { memory::write_part(alias, &bytes, InsnBuffer::MIN..capacity) };
        }
    }

    /// The site holds what it got.
    #[inline(always)]
    fn check(&self, spot: &Spot<'_>) -> Result<(), Error> {
        if self.holds(spot, self.read_head(spot), &spot.class.new) {
            return Ok(());
        }
        Err(self.read_back(spot))
    }

    /// Undoes the first `count` sites of a failed pass.
    #[cold]
    #[inline(never)]
    fn put_back(&self, aim: Aim, count: usize, ahead: bool) {
        // An error can be none of a record: they were all checked.
        let _ = self.walk(aim, &mut Classes::new(), 0..count, |spot| {
            let before = self.noted(spot, ahead);
            if self.bytes(spot, &before) != self.bytes(spot, &spot.class.new) {
                // Whatever the site shows: it is the alias that was written.
                self.store(spot, &before, self.platform.alias(spot.address));
            }
            Ok(())
        });
    }

    /// Writes these bytes of the site, one store each, and reads them back.
    pub(crate) fn write_part(
        &self,
        spot: &Spot<'_>,
        bytes: &InsnBuffer,
        part: Range<usize>,
    ) -> Result<(), Error> {
        let alias = self.platform.alias(spot.address);
        // SAFETY: the site is inside text (`walk`), the part is one of the site,
        // and the platform answers for the alias.
        unsafe { memory::write_part(alias, bytes, part.clone()) };
        let found = self.read(spot);
        if found.bytes().get(part.clone()) == bytes.bytes().get(part) {
            return Ok(());
        }
        Err(self.read_back(spot))
    }

    /// The first word of what the site holds.
    #[inline(always)]
    pub(crate) fn read_head(&self, spot: &Spot<'_>) -> u64 {
        let site = core::ptr::with_exposed_provenance(spot.address);
        // SAFETY: the site is inside text (`walk`), which the platform says is
        // readable, and its capacity is 6 to 32.
        unsafe { memory::read_head(site, spot.class.capacity) }
    }

    /// What the site holds.
    pub(crate) fn read(&self, spot: &Spot<'_>) -> InsnBuffer {
        let capacity = spot.class.capacity;
        let site = core::ptr::with_exposed_provenance(spot.address);
        InsnBuffer::short(self.read_head(spot), capacity)
            // SAFETY: as above.
            .unwrap_or_else(|| unsafe { memory::read(site, capacity) })
    }

    /// Whether the site, whose first word is this, holds these bytes.
    #[inline(always)]
    pub(crate) fn holds(&self, spot: &Spot<'_>, head: u64, form: &Form) -> bool {
        form.head_at(spot.address) == Some(head)
            && (usize::from(spot.class.capacity) <= HEAD || self.holds_tail(spot, form))
    }

    #[cold]
    #[inline(never)]
    fn holds_tail(&self, spot: &Spot<'_>, form: &Form) -> bool {
        self.read(spot) == self.bytes(spot, form)
    }

    /// Where the site is written, whose first word is this; it shows the same bytes.
    #[inline(always)]
    pub(crate) fn alias(&self, spot: &Spot<'_>, head: u64) -> Result<*mut u8, Error> {
        let (alias, capacity) = (self.platform.alias(spot.address), spot.class.capacity);
        if alias.addr() == spot.address {
            return Ok(alias);
        }
        // SAFETY: the site is inside text (`walk`), its capacity is 6 to 32, and
        // the platform answers for the alias.
        let same = unsafe {
            memory::read_head(alias, capacity) == head
                && (usize::from(capacity) <= HEAD
                    || memory::read(alias, capacity) == self.read(spot))
        };
        if same {
            return Ok(alias);
        }
        Err(Error::Alias { site: spot.address, alias: alias.addr(), op: spot.class.op.name() })
    }

    #[cold]
    #[inline(never)]
    fn read_back(&self, spot: &Spot<'_>) -> Error {
        Error::ReadBack {
            site: spot.address,
            op: spot.class.op.name(),
            wrote: self.bytes(spot, &spot.class.new),
            found: self.read(spot),
        }
    }

    /// A record out of order: compares it with every earlier one.
    #[cold]
    #[inline(never)]
    fn no_overlap(&self, spot: &Spot<'_>) -> Result<(), Error> {
        let end = spot.address + usize::from(spot.class.capacity);
        for earlier in self.sites.records().iter().take(spot.index) {
            let other = earlier.site();
            let apart = spot.address >= other + usize::from(earlier.capacity()) || other >= end;
            // Linkers that fold functions of the same code into one (`--icf=all`)
            // can leave the records of each. They say the same.
            let again = other == spot.address && spot.class.is_of(earlier);
            if !apart && !again {
                return Err(Error::Overlap {
                    index: spot.index,
                    site: spot.address,
                    op: spot.class.op.name(),
                    other,
                });
            }
        }
        Ok(())
    }
}
