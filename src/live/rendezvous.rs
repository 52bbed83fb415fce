//! The rendezvous: all CPUs wait outside every site while one writes.
//!
//! Unsafe code here takes the kernel's word that one CPU runs.
#![allow(unsafe_code)]

use crate::error::Error;
use crate::live::hook::Live;
use crate::text::{Aim, OneCpu, Patcher, Platform, Report};

/// How a kernel makes its other CPUs wait.
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
pub struct Rendezvous<'a, P, R, const TABLES: usize> {
    live: &'a Live<'a, TABLES>,
    patcher: Patcher<'a, P, TABLES>,
    others: R,
}

impl<'a, P: Platform, R: StopOthers, const TABLES: usize> Rendezvous<'a, P, R, TABLES> {
    /// Of the shared state, which keeps a second writer out, the platform, and the
    /// way to stop the other CPUs.
    ///
    /// # Safety
    /// - nobody but users of this `live` writes to sites of these ops tables;
    /// - [`apply`](Self::apply) and [`revert`](Self::revert) are called neither from
    ///   an interrupt handler nor by a function that a site called.
    pub unsafe fn new(live: &'a Live<'a, TABLES>, platform: P, others: R) -> Self {
        let patcher = Patcher::new(live.sites(), live.tables(), platform);
        Self { live, patcher, others }
    }

    /// Switches every site to what its slot holds now.
    ///
    /// # Errors
    /// - [`Error::Busy`] if a writer is at work on these sites;
    /// - the others as for [`Patcher::apply`], and all but [`Error::Alias`] and
    ///   [`Error::ReadBack`] before any CPU was stopped.
    pub fn apply(&mut self) -> Result<Report, Error> {
        self.switch(Aim::Kept)
    }

    /// Gives every site its indirect call or jump back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn revert(&mut self) -> Result<Report, Error> {
        self.switch(Aim::Indirect)
    }

    fn switch(&mut self, aim: Aim) -> Result<Report, Error> {
        let _writer = self.live.begin()?;
        // 1.
        self.patcher.keep();
        self.patcher.check(aim)?;
        // 2. to 4.
        let patcher = &mut self.patcher;
        self.others.stop_others(|| {
            // SAFETY: by the contract of `StopOthers` no other CPU executes code
            // with sites, and nothing with a site can interrupt this one.
            unsafe { OneCpu::assume(|cpu| patcher.write(aim, cpu)) }
        })
    }
}
