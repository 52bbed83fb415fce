//! The rendezvous: all CPUs wait outside every site while one writes.
//!
//! Unsafe code here takes the kernel's word that one CPU runs.
#![allow(unsafe_code)]

use crate::error::Error;
use crate::live::hook::{Live, Writer};
use crate::text::{self, Change, ClassCache, Follow, Goal, OneCpu, Platform, Report};

/// A kernel's way to make its other CPUs wait.
///
/// # Safety
/// While [`stop_others`](Self::stop_others) runs `write`,
/// - every other CPU waits in code that has no site, with interrupts off, and this
///   one has interrupts off;
/// - no thread, and no interrupted context, has its instruction pointer or a return
///   address behind the first byte of a site and before its end;
/// - no NMI or machine-check handler that can come uses a site.
///
/// And afterwards each CPU executes a serializing instruction (Intel SDM vol. 3A
/// §8.1.3) before its first site.
pub unsafe trait StopOthers {
    /// Brings all other CPUs to the place where they wait, calls `write` once, on
    /// this CPU, and lets them go.
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R;
}

/// The writer of the rendezvous protocol.
///
/// 1. Validate, while all CPUs run.
/// 2. Stop the others.
/// 3. Write, read back, serialize this CPU.
/// 4. The others serialize themselves and go on.
#[derive(Debug)]
pub struct Rendezvous<'a, P, R> {
    live: &'a Live<'a>,
    platform: P,
    others: R,
}

impl<'a, P: Platform, R: StopOthers> Rendezvous<'a, P, R> {
    /// Makes the writer of the shared state, which keeps a second writer out, the platform, and
    /// the way to stop the other CPUs.
    ///
    /// # Safety
    /// - nobody but users of this `live` writes to sites of these sets, or has their front ends
    ///   (or an [`OpState`](crate::ops::OpState) of one) in another set and writes to that one;
    /// - [`apply`](Self::apply) and [`revert`](Self::revert) are called neither from an interrupt
    ///   handler nor by a function that a site called.
    pub const unsafe fn new(live: &'a Live<'a>, platform: P, others: R) -> Self {
        Self { live, platform, others }
    }

    /// Switches every site to what its slot holds now.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::Busy`] if a writer is at work on these sites;
    /// - the others as for [`Patcher::apply`](crate::Patcher::apply). All but [`Error::Alias`] and
    ///   [`Error::ReadBack`] come before any CPU was stopped.
    pub fn apply(&mut self) -> Result<Report, Error> {
        self.switch(Goal::Patched.batch())
    }

    /// Gives every site its indirect call or jump back.
    ///
    /// # Errors
    /// Returns the same errors as [`apply`](Self::apply).
    pub fn revert(&mut self) -> Result<Report, Error> {
        self.switch(Goal::Original.batch())
    }

    /// Makes these changes of keys and slots and switches every site, in one batch and as one
    /// transaction: on an error, neither keys nor slots nor text have changed. Apart from the
    /// changes this is [`apply`](Self::apply).
    ///
    /// A list whose changes were made is that of the changes which undo them.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::KeyNotFollowed`] or [`Error::SlotNotFollowed`] for a key or slot that neither
    ///   these sets know nor that of a member;
    /// - [`Error::Count`] if a counted key cannot count on, up or down;
    /// - the others as for [`apply`](Self::apply).
    pub fn change(&mut self, changes: &mut [Change<'_>]) -> Result<Report, Error> {
        let live = self.live;
        let writer = live.begin()?;
        text::make_changes(writer.sets(), changes)?;
        let result = self.switch_by(&writer, Goal::Patched.batch());
        if result.is_err() {
            text::undo(changes);
        }
        result
    }

    fn switch(&mut self, follow: Follow) -> Result<Report, Error> {
        let live = self.live;
        self.switch_by(&live.begin()?, follow)
    }

    fn switch_by(&mut self, writer: &Writer<'_, '_>, follow: Follow) -> Result<Report, Error> {
        for set in writer.sets() {
            set.begin();
        }
        // 1.
        text::check(writer.sets(), &self.platform, follow, &mut ClassCache::new())?;
        text::check_between_sets(&self.platform, writer.sets())?;
        // 2. to 4.
        let platform = &mut self.platform;
        self.others.stop_others(|| {
            // SAFETY: by the contract of `StopOthers` no other CPU executes code with sites, and
            // nothing with a site can interrupt this one.
            unsafe { OneCpu::assume(|cpu| text::write_sets(writer.sets(), platform, follow, cpu)) }
        })
    }
}
