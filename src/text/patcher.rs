//! The patcher: checks everything, then writes, then reads back.

use core::ops::Range;

use super::one_cpu::OneCpu;
use super::pass::{Refused, Run, Step};
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Aim, Goal, Report};
use crate::error::Error;
use crate::ops::Table;
use crate::site::{Record, Sites};

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
    /// replacement is checked before the first byte is written, and no alias is written to
    /// that shows what such a site cannot hold. Applying again changes nothing, unless
    /// slots were set meanwhile.
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
        let mut run = Run::new(aim);
        self.validate(&mut run).map_err(|_| run.error)
    }

    /// First pass: every record, every site, every replacement; no write. `run` has the
    /// counts.
    pub(crate) fn validate(&self, run: &mut Run) -> Result<(), Refused> {
        if !self.sites.is_whole() {
            run.error = Error::TruncatedTable { bytes: self.sites.size(), record: Record::SIZE };
            return Err(Refused);
        }
        self.pass(Step::Check, self.all().end, run)
    }

    /// Both passes.
    pub(crate) fn write(&mut self, aim: Aim, _: &OneCpu<'_>) -> Result<Report, Error> {
        let mut run = Run::new(aim);
        let mut result = self.validate(&mut run);
        if result.is_ok() {
            self.platform.unlock();
            result = self.pass(Step::Write, self.all().end, &mut run);
            if result.is_err() {
                // The platform broke its contract.
                for step in [Step::Blame, Step::PutBack] {
                    let _ = self.pass(step, run.written, &mut run);
                }
            }
            self.platform.lock();
            self.platform.serialize();
        }
        if result.is_err() {
            return Err(run.error);
        }
        self.note(aim);
        Ok(run.counts)
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
}
