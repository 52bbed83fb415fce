//! The INT3 protocol. The numbers are those of the list in [`live`](crate::live).
//!
//! Nothing unsafe is done here: text is written by the engine, [`Run`]. The traits and
//! constructors are unsafe because they take the kernel's word for what the protocol needs.
#![allow(unsafe_code)]

use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::live::hook::{Live, Writer};
use crate::live::{INT3, rule};
use crate::text::{
    self, Change, CheckedSite, ClassCache, Fault, Follow, Goal, Platform, Report, Run,
    SecondMapping, SiteFault, View,
};

/// The first byte of each site while its batch is written, as the bytes of a site.
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

/// A kernel's way to make all its CPUs execute a serializing instruction.
///
/// # Safety
/// When [`sync_all`](Self::sync_all) returns,
/// - every CPU that may execute a site, this one included, has executed a
///   serializing instruction (Intel SDM vol. 3A §8.1.3) after the call began; CPUs
///   that were off or asleep execute one before their first site;
/// - and so has every NMI and machine-check handler that has sites and was running
///   when the call began.
pub unsafe trait Synchronize {
    /// Waits until each CPU has serialized itself. Sites may be used in here, and by the CPUs
    /// that are waited for.
    fn sync_all(&self);

    /// Lets some time pass: `pause`. Called again and again while CPUs are in the hook, where each
    /// is for some instructions. Where one of them can be suspended there, give way to it.
    fn relax(&self) {
        core::hint::spin_loop();
    }

    /// Lets a test act between the steps, and a reader in. It does nothing unless implemented.
    fn between_steps(&self, step: BatchStep) {
        let _ = step;
    }
}

/// The step that was done last, when [`Synchronize::between_steps`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchStep {
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

/// The threads that may be inside a site when it is switched: some, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threads {
    MayBeInside,
    AreOutside,
}

/// The writer of the INT3 protocol.
///
/// ```no_run
/// use patchlet::live::{Int3, Live, Synchronize};
/// use patchlet::{SecondMapping, pv};
/// # fn f(platform: SecondMapping, ipis: impl Synchronize) -> Result<(), patchlet::Error> {
/// patchlet::site_set! {
///     /// Every site of this kernel.
///     static KERNEL = [pv];
/// }
/// static LIVE: Live<'static> = Live::new(&[&KERNEL]);
///
/// // SAFETY: the kernel calls `LIVE.handle` first thing in its #BP handler, …
/// let mut int3 = unsafe { Int3::new(&LIVE, platform, ipis) };
/// let report = int3.apply()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Int3<'a, P, S> {
    live: &'a Live<'a>,
    platform: P,
    sync: S,
    threads: Threads,
}

impl<'a, P: LivePlatform, S: Synchronize> Int3<'a, P, S> {
    /// Makes the writer for sites that threads may be inside; [`admit`](crate::live::admit) is
    /// the rule that makes that harmless.
    ///
    /// # Safety
    /// As long as this is used,
    /// - each CPU calls [`Live::handle`] of this `live` for each #BP it takes in code with sites,
    ///   and returns from the trap if it answers [`Handled::Yes`](crate::live::Handled::Yes);
    /// - at each site of an op that is not [`Abi::Assembly`](crate::ops::Abi::Assembly), a #BP can
    ///   be taken: the stack pointer is the kernel's own, and nothing of the interrupted code's
    ///   lies below it (no red zone);
    /// - what is executed between the trap and [`Live::handle`] has no site;
    /// - nobody but users of this `live` writes to sites of these sets, or has their front ends
    ///   (or an [`OpState`](crate::ops::OpState) of one) in another set and writes to that one;
    /// - [`apply`](Self::apply) and [`revert`](Self::revert) are not called from an NMI,
    ///   machine-check or #BP handler.
    pub const unsafe fn new(live: &'a Live<'a>, platform: P, sync: S) -> Self {
        Self { live, platform, sync, threads: Threads::MayBeInside }
    }

    /// Makes the writer for sites that no thread is inside: everything may become everything.
    ///
    /// # Safety
    /// - all of [`new`](Self::new);
    /// - when [`sync_all`](Synchronize::sync_all) returns, each thread (and each interrupted
    ///   context) has at least once since the call began been outside every site, that is with
    ///   neither its instruction pointer nor a return address behind the first byte of one. INT3
    ///   keeps it from entering again.
    pub const unsafe fn with_nobody_inside(live: &'a Live<'a>, platform: P, sync: S) -> Self {
        Self { live, platform, sync, threads: Threads::AreOutside }
    }

    /// Switches every site to what its slot holds now. Slots that are set while this runs count
    /// for the next time.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::Busy`] if a writer is at work on these sites, this one included;
    /// - [`Error::NotEmulated`], [`Error::Breakpoint`], [`Error::ThreadInside`] where this
    ///   protocol may not be used;
    /// - the others as for [`Patcher::apply`](crate::Patcher::apply).
    ///
    /// Text is then as it was before. The exception is [`Error::ReadBack`] after step 2, from a
    /// platform that broke its contract: there are INT3s in text then, so the hook goes on
    /// answering for this batch, and no other can begin ([`Error::Busy`]).
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
    /// changes this is [`apply`](Self::apply); changes that leave every direction as it was need
    /// no synchronization.
    ///
    /// A list whose changes were made is that of the changes which undo them.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::KeyNotFollowed`] or [`Error::SlotNotFollowed`] for a key or slot that neither
    ///   these sets know nor that of a member;
    /// - [`Error::Count`] if a counted key cannot count on, up or down;
    /// - the others as for [`apply`](Self::apply). After [`Error::ReadBack`] from step 3 or 4 the
    ///   hook goes on answering for the changes, and so they stay.
    pub fn change(&mut self, changes: &mut [Change<'_>]) -> Result<Report, Error> {
        let writer = self.live.begin()?;
        text::make_changes(writer.sets(), changes)?;
        let result = self.switch_by(&writer, Goal::Patched.batch());
        if result.is_err() && !writer.has_batch() {
            text::undo(changes);
        }
        result
    }

    fn switch(&self, follow: Follow) -> Result<Report, Error> {
        self.switch_by(&self.live.begin()?, follow)
    }

    fn switch_by(&self, writer: &Writer<'_, '_>, follow: Follow) -> Result<Report, Error> {
        for set in writer.sets() {
            set.begin();
        }
        let runs = Runs { writer, platform: &self.platform, follow };
        let mut cache = ClassCache::new();
        let mut report = self.validate(&runs, &mut cache)?;
        if report.changed > 0 {
            report.changed = self.write(&runs, &mut cache)?;
        }
        for set in writer.sets() {
            set.finish(follow);
        }
        Ok(report)
    }

    /// Checks all that boot patching checks, and whether each site may be switched and can be
    /// written.
    fn validate(&self, runs: &Runs<'_, P>, cache: &mut ClassCache) -> Result<Report, Error> {
        let report = text::check(runs.writer.sets(), &self.platform, runs.follow, cache)?;
        text::check_between_sets(&self.platform, runs.writer.sets())?;
        // The class of the last site that everything may become of: one instruction each way.
        let mut admitted = None;
        each(runs, cache, &mut |run, site| {
            if is_done(run, site) {
                return Ok(());
            }
            let head = run.head(site, View::Site);
            let is_alias = match head {
                Some(head) => run.head(site, View::Alias) == Some(head),
                None => run.read(site, View::Alias) == run.read(site, View::Site),
            };
            if !is_alias {
                return Err(run.error(&site.fault(SiteFault::Alias)));
            }
            let is_usual = head.is_some_and(|head| run.is_usual(site, head));
            if is_usual && admitted == Some(site.class_id()) {
                return Ok(());
            }
            // `None` is not met: `check` has seen that the site holds something known.
            // Borrowed: it is large, and moving it takes code.
            let Some(outcome) = &run.outcome(site) else { return Ok(()) };
            rule::admit_emulated(outcome)?;
            if self.threads == Threads::MayBeInside {
                rule::admit_inside(outcome, self.platform.nops())?;
            }
            if is_usual && rule::is_one_instruction(outcome) {
                admitted = Some(site.class_id());
            }
            Ok(())
        })?;
        Ok(report)
    }

    /// Goes through the steps of the protocol, and returns how many sites were switched. An error
    /// in steps 3 and 4 leaves the batch published, for there are INT3s in text then.
    fn write(&self, runs: &Runs<'_, P>, cache: &mut ClassCache) -> Result<usize, Error> {
        let writer = runs.writer;
        // 1.
        writer.publish(runs.follow);
        self.sync.between_steps(BatchStep::Published);
        // 2.
        let switched = match write_int3(runs, cache) {
            Ok(switched) => switched,
            Err(error) => {
                if put_first_bytes_back(runs, cache) {
                    self.synchronize(BatchStep::FirstWritten, BatchStep::FirstSynced);
                    writer.retire(|| self.sync.relax());
                }
                return Err(error);
            }
        };
        self.synchronize(BatchStep::Int3Written, BatchStep::Int3Synced);
        // 3.
        write_new(runs, cache, |capacity| 1..capacity)?;
        self.synchronize(BatchStep::TailsWritten, BatchStep::TailsSynced);
        // 4.
        write_new(runs, cache, |_| 0..1)?;
        self.synchronize(BatchStep::FirstWritten, BatchStep::FirstSynced);
        // 5.
        writer.retire(|| self.sync.relax());
        Ok(switched)
    }

    /// Makes all CPUs serialize, between these two steps.
    fn synchronize(&self, before: BatchStep, after: BatchStep) {
        self.sync.between_steps(before);
        // Other CPUs must see the stores before they are asked to serialize; writing to the
        // x2APIC, for one, does not wait for them.
        fence(Ordering::SeqCst);
        self.sync.sync_all();
        self.sync.between_steps(after);
    }
}

/// The runs of one batch: one over each set.
struct Runs<'r, P> {
    writer: &'r Writer<'r, 'r>,
    platform: &'r P,
    follow: Follow,
}

/// The function that is called with each site. By `dyn`, so that [`each`] is compiled once: beside
/// the synchronizations its cost does not count.
type Action<'a, P> = dyn FnMut(&Run<'_, P>, &CheckedSite<'_, '_>) -> Result<(), Error> + 'a;

/// Calls `act` with each site.
fn each<P: Platform>(
    runs: &Runs<'_, P>,
    cache: &mut ClassCache,
    act: &mut Action<'_, P>,
) -> Result<(), Error> {
    for set in runs.writer.sets() {
        let run = &Run { set, platform: runs.platform, follow: runs.follow };
        for part in set.parts() {
            for record in part.sites().records() {
                match &run.site(part, record, cache) {
                    Some(site) => act(run, site)?,
                    None if set.is_withdrawn(record.site()) => {}
                    None => return Err(run.error(&Fault::Site(part, record, SiteFault::Refused))),
                }
            }
        }
    }
    Ok(())
}

/// Writes INT3 over the first byte of each site of the batch, and returns how many those are. The
/// batch is all sites that do not hold what they are to get.
fn write_int3<P: Platform>(runs: &Runs<'_, P>, cache: &mut ClassCache) -> Result<usize, Error> {
    let mut written = 0;
    each(runs, cache, &mut |run, site| {
        // A site whose record is there twice has its INT3 already.
        if is_done(run, site) || has_int3(run, site) {
            return Ok(());
        }
        written += 1;
        write_part(run, site, &BREAKPOINT, 0..1)
    })?;
    Ok(written)
}

/// Writes a part of what each site of the batch gets: `part_of` a capacity, its first byte or the
/// rest. The sites of the batch are by now those that have an INT3.
fn write_new<P: Platform>(
    runs: &Runs<'_, P>,
    cache: &mut ClassCache,
    part_of: fn(usize) -> Range<usize>,
) -> Result<(), Error> {
    each(runs, cache, &mut |run, site| {
        if !has_int3(run, site) {
            return Ok(());
        }
        let part = part_of(site.record.capacity().into());
        write_part(run, site, &run.new_bytes(site), part)
    })
}

/// Writes a part of these bytes of the site, and reads it back.
fn write_part<P: Platform>(
    run: &Run<'_, P>,
    site: &CheckedSite<'_, '_>,
    bytes: &InsnBuffer,
    part: Range<usize>,
) -> Result<(), Error> {
    run.store(site, bytes, part.clone());
    let found = run.read(site, View::Site);
    if found.bytes().get(part.clone()) == bytes.bytes().get(part) {
        return Ok(());
    }
    let name = match &run.recipe(site) {
        Ok(recipe) => recipe.name,
        Err(_) => "",
    };
    Err(Error::ReadBack { site: site.address, name, wrote: *bytes, found })
}

/// Undoes step 2: puts the old first bytes back. The tails are still the old ones. Returns whether
/// no INT3 is left. One that was written to an alias that is none is in other memory, and is taken
/// out of there.
fn put_first_bytes_back<P: Platform>(runs: &Runs<'_, P>, cache: &mut ClassCache) -> bool {
    let mut is_clean = true;
    let all = each(runs, cache, &mut |run, site| {
        let went_astray = || run.read(site, View::Alias).bytes().first() == Some(&INT3);
        if has_int3(run, site) || went_astray() {
            let old = old_bytes(run, site);
            is_clean &= old.is_some_and(|old| write_part(run, site, &old, 0..1).is_ok());
        }
        Ok(())
    });
    is_clean && all.is_ok()
}

/// Returns the bytes that the site held before its first byte was written. Its tail is still there,
/// so of all that the site may hold, it is what has this tail.
fn old_bytes<P: Platform>(run: &Run<'_, P>, site: &CheckedSite<'_, '_>) -> Option<InsnBuffer> {
    let present = run.read(site, View::Site);
    let Ok(recipe) = &run.recipe(site) else { return None };
    // Two candidates may have the same tail. What the site is to get comes last: a site that held
    // it has no INT3.
    let [new, a, b, c] = recipe.known();
    let mut candidates =
        [a, b, c, new].into_iter().map(|held| run.compose_or_empty(site.record, held));
    candidates.find(|bytes| bytes.bytes().get(1..) == present.bytes().get(1..))
}

/// Returns whether the site holds what it is to get.
fn is_done<P: Platform>(run: &Run<'_, P>, site: &CheckedSite<'_, '_>) -> bool {
    match run.head(site, View::Site) {
        Some(head) => head == site.new_head,
        None => run.read(site, View::Site) == run.new_bytes(site),
    }
}

/// Returns whether the site begins with INT3.
fn has_int3<P: Platform>(run: &Run<'_, P>, site: &CheckedSite<'_, '_>) -> bool {
    match run.head(site, View::Site) {
        Some(head) => head.to_le_bytes()[0] == INT3,
        None => run.read(site, View::Site).bytes().first() == Some(&INT3),
    }
}
