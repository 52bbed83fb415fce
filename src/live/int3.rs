//! The INT3 protocol. The numbers are those of the list in [`live`](crate::live).
//!
//! Nothing unsafe is done here: text is written by [`Patcher`]. The traits and
//! constructors are unsafe because they take the kernel's word for what the protocol
//! needs.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::live::hook::{Live, Writer};
use crate::live::{INT3, rule};
use crate::text::{
    self, Aim, Classes, Holds, Patcher, Platform, Refused, Report, Run, SecondMapping, Spot, View,
};

/// What each first byte is in between.
const BREAKPOINT: InsnBuffer = InsnBuffer::of(INT3);

/// A platform whose aliases can be written at any time and on any CPU.
///
/// # Safety
/// - the aliases are readable and writable at all times, not only between `unlock`
///   and `lock`, which are not called;
/// - a write to an alias leaves the site executable, on all CPUs (W^X by a second
///   mapping, not by changing the rights of the first).
pub unsafe trait LivePlatform: Platform {}

// SAFETY: the second mapping is always there, and is another one.
unsafe impl LivePlatform for SecondMapping {}

/// How a kernel makes all its CPUs execute a serializing instruction.
///
/// # Safety
/// When [`sync_all`](Self::sync_all) returns,
/// - every CPU that may execute a site, this one included, has executed a
///   serializing instruction (Intel SDM vol. 3A §8.1.3) after the call began; CPUs
///   that were off or asleep execute one before their first site;
/// - and so has every NMI and machine-check handler that has sites and was running
///   when the call began.
pub unsafe trait Synchronize {
    /// Returns when each CPU has serialized itself. Sites may be used in here, and
    /// by the CPUs that are waited for.
    fn sync_all(&self);

    /// Called again and again while CPUs are in the hook, for some instructions
    /// each: `pause`. Where one of them can be suspended there, give way to it.
    fn relax(&self) {
        core::hint::spin_loop();
    }

    /// For tests: called between the steps, so that a reader can get in. Does
    /// nothing.
    fn between_steps(&self, step: Step) {
        let _ = step;
    }
}

/// What was done last, when [`Synchronize::between_steps`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// 1: the batch is published.
    Published,
    /// 2: INT3 over each first byte is written, and not synchronized.
    Int3Written,
    /// 2: and synchronized.
    Int3Synced,
    /// 3: the tails are written, and not synchronized.
    TailsWritten,
    /// 3: and synchronized.
    TailsSynced,
    /// 4: the first bytes are written, and not synchronized.
    FirstWritten,
    /// 4: and synchronized; the batch is not retired.
    FirstSynced,
}

/// The writer of the INT3 protocol.
///
/// ```no_run
/// use patchlet::live::{Int3, Live, Synchronize};
/// use patchlet::{SecondMapping, pv};
/// # fn f(platform: SecondMapping, ipis: impl Synchronize) -> Result<(), patchlet::Error> {
/// static LIVE: Live<'static, 1> = Live::linked([&pv::TABLE]);
///
/// // SAFETY: the kernel calls `LIVE.handle` first thing in its #BP handler, …
/// let mut int3 = unsafe { Int3::new(&LIVE, platform, ipis) };
/// let report = int3.apply()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Int3<'a, P, S, const TABLES: usize> {
    live: &'a Live<'a, TABLES>,
    patcher: Patcher<'a, P, TABLES>,
    sync: S,
    /// Whether a thread may be inside a site.
    inside: bool,
}

impl<'a, P: LivePlatform, S: Synchronize, const TABLES: usize> Int3<'a, P, S, TABLES> {
    /// For sites that threads may be inside; [`admit`](crate::live::admit) is the
    /// rule that makes that harmless.
    ///
    /// # Safety
    /// As long as this is used,
    /// - each CPU calls [`Live::handle`] of this `live` for each #BP it takes in
    ///   code with sites, and returns from the trap if it answers
    ///   [`Handled::Yes`](crate::live::Handled::Yes);
    /// - at each site of an op that is not [`Abi::Assembly`](crate::ops::Abi::Assembly),
    ///   a #BP can be taken: the stack pointer is the kernel's own, and nothing of
    ///   the interrupted code's lies below it (no red zone);
    /// - what is executed between the trap and [`Live::handle`] has no site;
    /// - nobody but users of this `live` writes to sites of these ops tables;
    /// - [`apply`](Self::apply) and [`revert`](Self::revert) are not called from an
    ///   NMI, machine-check or #BP handler.
    pub unsafe fn new(live: &'a Live<'a, TABLES>, platform: P, sync: S) -> Self {
        Self::writer(live, platform, sync, true)
    }

    /// For sites that no thread is inside: everything may become everything.
    ///
    /// # Safety
    /// - all of [`new`](Self::new);
    /// - when [`sync_all`](Synchronize::sync_all) returns, each thread (and each
    ///   interrupted context) has at least once since the call began been outside
    ///   every site, that is with neither its instruction pointer nor a return
    ///   address behind the first byte of one. INT3 keeps it from entering again.
    pub unsafe fn with_nobody_inside(live: &'a Live<'a, TABLES>, platform: P, sync: S) -> Self {
        Self::writer(live, platform, sync, false)
    }

    fn writer(live: &'a Live<'a, TABLES>, platform: P, sync: S, inside: bool) -> Self {
        let patcher = Patcher::new(live.sites(), live.tables(), platform);
        Self { live, patcher, sync, inside }
    }

    /// Switches every site to what its slot holds now. Slots that are set while
    /// this runs count for the next time.
    ///
    /// # Errors
    /// - [`Error::Busy`] if a writer is at work on these sites, this one included;
    /// - [`Error::NotEmulated`], [`Error::Breakpoint`], [`Error::Inside`] where
    ///   this protocol may not be used;
    /// - the others as for [`Patcher::apply`].
    ///
    /// Text is then as it was before. The exception is [`Error::ReadBack`] after
    /// step 2, a platform that broke its contract: there are INT3s in text then,
    /// the batch stays published, so that CPUs go on, and each later call is
    /// answered by [`Error::Busy`].
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

    fn switch(&self, aim: Aim) -> Result<Report, Error> {
        let writer = self.live.begin()?;
        self.patcher.keep();
        let mut run = Run::new(aim);
        match self.write(&writer, aim, &mut run) {
            Ok(()) => Ok(run.counts),
            Err(_) => Err(run.error),
        }
    }

    /// The steps.
    fn write(
        &self,
        writer: &Writer<'_, 'a, TABLES>,
        aim: Aim,
        run: &mut Run,
    ) -> Result<(), Refused> {
        self.validate(run)?;
        let changes = run.counts.changed > 0;
        if changes {
            // 1.
            writer.publish(aim);
            self.sync.between_steps(Step::Published);
        }
        // 2.
        if let Err(refused) = self.write_int3(run) {
            if self.put_back(&mut run.classes) {
                self.synchronize(Step::FirstWritten, Step::FirstSynced);
                writer.retire(|| self.sync.relax());
            }
            return Err(refused);
        }
        if changes {
            self.synchronize(Step::Int3Written, Step::Int3Synced);
            // 3.
            self.write_part_of_each(run, |capacity| 1..capacity)?;
            self.synchronize(Step::TailsWritten, Step::TailsSynced);
            // 4.
            self.write_part_of_each(run, |_| 0..1)?;
            self.synchronize(Step::FirstWritten, Step::FirstSynced);
        }
        self.patcher.note(aim);
        // 5.
        writer.retire(|| self.sync.relax());
        Ok(())
    }

    /// All that boot patching checks, and whether each site may be switched and can
    /// be written.
    fn validate(&self, run: &mut Run) -> Result<(), Refused> {
        self.patcher.validate(run)?;
        self.each(&mut run.classes, &mut run.error, |spot, error| {
            if self.is_done(spot) {
                return Ok(());
            }
            if self.patcher.present(spot, View::Alias) != self.patcher.present(spot, View::Site) {
                return Err(self.patcher.wrong(spot, text::Step::Write, error));
            }
            self.admit(spot, error)
        })
    }

    fn admit(&self, spot: &Spot<'_>, error: &mut Error) -> Result<(), Refused> {
        // It holds what is known: that was checked first.
        let Some(outcome) = self.patcher.outcome(spot) else { return Ok(()) };
        let admitted = if self.inside {
            rule::admit(&outcome, self.patcher.platform().nops())
        } else {
            rule::emulated(&outcome)
        };
        admitted.map_err(|why| {
            *error = why;
            Refused
        })
    }

    /// Calls `act` with each site.
    fn each(
        &self,
        classes: &mut Classes,
        error: &mut Error,
        mut act: impl FnMut(&Spot<'_>, &mut Error) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        for index in self.patcher.all() {
            let spot = self.patcher.spot(index, classes, error);
            act(spot.as_ref().ok_or(Refused)?, error)?;
        }
        Ok(())
    }

    fn write_int3(&self, run: &mut Run) -> Result<(), Refused> {
        self.each(&mut run.classes, &mut run.error, |spot, error| {
            if self.is_done(spot) {
                Ok(())
            } else {
                self.write_part(spot, &BREAKPOINT, 0..1, error)
            }
        })
    }

    /// Writes a part of each site of the batch: those that have an INT3.
    fn write_part_of_each(
        &self,
        run: &mut Run,
        part: fn(usize) -> Range<usize>,
    ) -> Result<(), Refused> {
        self.each(&mut run.classes, &mut run.error, |spot, error| {
            if !self.has_int3(spot) {
                return Ok(());
            }
            let part = part(spot.class.maker.capacity.into());
            self.write_part(spot, &spot.made_new(), part, error)
        })
    }

    /// Writes these bytes of the site, and reads them back.
    fn write_part(
        &self,
        spot: &Spot<'_>,
        bytes: &InsnBuffer,
        part: Range<usize>,
        error: &mut Error,
    ) -> Result<(), Refused> {
        self.patcher.store(spot, bytes, part.clone());
        let found = self.patcher.present(spot, View::Site);
        if found.bytes().get(part.clone()) == bytes.bytes().get(part) {
            return Ok(());
        }
        let (site, op) = (spot.address, spot.class.maker.row.op.name());
        *error = Error::ReadBack { site, op, wrote: *bytes, found };
        Err(Refused)
    }

    /// Out of step 2: puts the first bytes back; the tails are still the old ones.
    /// True if no INT3 is left.
    fn put_back(&self, classes: &mut Classes) -> bool {
        let mut clean = true;
        let walked = self.each(classes, &mut Error::Busy, |spot, error| {
            if self.has_int3(spot) {
                let old = self.old(spot);
                clean &= old.is_some_and(|old| self.write_part(spot, &old, 0..1, error).is_ok());
            }
            Ok(())
        });
        clean && walked.is_ok()
    }

    fn is_done(&self, spot: &Spot<'_>) -> bool {
        self.patcher.holds(spot, View::Site) == Holds::New
    }

    fn has_int3(&self, spot: &Spot<'_>) -> bool {
        self.patcher.present(spot, View::Site).bytes().first() == Some(&INT3)
    }

    /// What the site held before its first byte was written: the known form whose
    /// tail it still has.
    fn old(&self, spot: &Spot<'_>) -> Option<InsnBuffer> {
        let present = self.patcher.present(spot, View::Site);
        // Tails can be the same, and the new one is the least likely.
        let [new, known @ ..] = spot.class.maker.known();
        let mut forms = known.into_iter().chain([new]).map(|target| spot.made(target));
        forms.find(|form| form.bytes().get(1..) == present.bytes().get(1..))
    }

    fn synchronize(&self, before: Step, after: Step) {
        self.sync.between_steps(before);
        // The stores are to be seen before the CPUs are asked to serialize; to
        // write to the x2APIC, for one, does not wait for them.
        fence(Ordering::SeqCst);
        self.sync.sync_all();
        self.sync.between_steps(after);
    }
}
