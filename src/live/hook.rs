//! What the CPUs share: the site sets, the state of the batch, and the #BP hook.
//!
//! Unsafe code here reads one byte of text, in front of an address that the CPU put into a trap
//! frame.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crate::error::Error;
use crate::live::INT3;
use crate::live::member::{Link, Member, Members};
use crate::site::Record;
use crate::text::{Emulation, Follow, SiteSet, Source};

/// The frame of a #BP, as the kernel's entry code keeps it.
///
/// Making room for [`push`](Self::push): in 64-bit mode the CPU puts its frame right below the
/// interrupted stack pointer (rounded down to 16) unless #BP has an IST stack, and 32-bit mode
/// pushes no stack pointer at all when the trap comes from ring 0. The entry code must have moved
/// the frame, or return by one that it has built anew.
///
/// # Safety
/// - the frame is that of an INT3 that this CPU executed in code with sites (in a kernel: not in
///   user mode), and returning from the trap restores it;
/// - [`ip`](Self::ip) is the address behind the INT3;
/// - returning, the interrupted code goes on at the last [`set_ip`](Self::set_ip), with the stack
///   as [`push`](Self::push) left it and all else unchanged.
pub unsafe trait TrapFrame {
    /// Returns the instruction pointer of the interrupted code: the address behind the INT3.
    fn ip(&self) -> usize;

    /// Sets where the interrupted code is to go on.
    fn set_ip(&mut self, ip: usize);

    /// Pushes a word onto the stack of the interrupted code, as its own `call` would; with shadow
    /// stacks onto that one, too.
    fn push(&mut self, value: usize);
}

/// The answer of [`Live::handle`]: whether the INT3 was the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an INT3 that is not the protocol's is somebody else's to handle"]
pub enum Handled {
    /// Not the protocol's, and the frame is untouched: a debugger's, or a bug.
    No,
    /// The protocol's: return from the trap.
    Yes,
}

/// The state that the CPU which writes shares with those that trap. There is one for all site sets
/// that are switched together, usually a static.
///
/// ```no_run
/// use patchlet::live::{Handled, Live, TrapFrame};
/// use patchlet::pv;
///
/// patchlet::site_set! {
///     /// Every site of this kernel.
///     static KERNEL = [pv];
/// }
/// static LIVE: Live<'static> = Live::new(&[&KERNEL]);
///
/// fn breakpoint(frame: &mut impl TrapFrame) {
///     if LIVE.handle(frame) == Handled::No {
///         // somebody else's
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Live<'a> {
    sets: &'a [&'a SiteSet<'a>],
    /// The first of the members that have joined.
    pub(super) first_member: Link,
    /// Whether a writer is at work. A second one gets an error, and never waits.
    has_writer: AtomicBool,
    batch: Batch,
    cpus_in_hook: AtomicUsize,
}

/// The batch that is being written, if there is one.
///
/// One word, so that a CPU in the hook sees all of it at once. The count makes two batches differ,
/// so that a CPU in the hook can tell whether one began since it looked:
///
/// ```text
/// | how many batches were retired |  what this one follows: 00 no batch,  |
/// |                               |  01 Follow::Batch, 10 Follow::Original |
///                                2 1                                     0
/// ```
#[derive(Debug)]
struct Batch(AtomicUsize);

/// The value of a [`Batch`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BatchState(usize);

impl BatchState {
    /// The bits that say what the batch follows.
    const FOLLOWS: usize = 0b11;
    const FOLLOWS_BATCH: usize = 0b01;
    const FOLLOWS_ORIGINAL: usize = 0b10;

    /// Returns what the batch follows; `None` if there is no batch.
    const fn follow(self) -> Option<Follow> {
        match self.0 & Self::FOLLOWS {
            Self::FOLLOWS_BATCH => Some(Follow::Batch),
            Self::FOLLOWS_ORIGINAL => Some(Follow::Original),
            _ => None,
        }
    }

    /// Returns the state that comes after this one when a batch is published.
    const fn published(self, follow: Follow) -> Self {
        let follows = match follow {
            Follow::Original => Self::FOLLOWS_ORIGINAL,
            // Only a plan follows the present, and nothing is written for a plan.
            Follow::Batch | Follow::Present => Self::FOLLOWS_BATCH,
        };
        Self(self.0 & !Self::FOLLOWS | follows)
    }

    /// Returns the state that comes after this one when its batch is retired.
    const fn retired(self) -> Self {
        Self((self.0 & !Self::FOLLOWS).wrapping_add(Self::FOLLOWS + 1))
    }
}

impl Batch {
    fn load(&self, order: Ordering) -> BatchState {
        BatchState(self.0.load(order))
    }

    fn store(&self, state: BatchState) {
        self.0.store(state.0, Ordering::SeqCst);
    }
}

impl<'a> Live<'a> {
    /// Makes the shared state of these sets, whose sites are switched together.
    #[must_use]
    pub const fn new(sets: &'a [&'a SiteSet<'a>]) -> Self {
        Self {
            sets,
            first_member: Link::new(),
            has_writer: AtomicBool::new(false),
            batch: Batch(AtomicUsize::new(0)),
            cpus_in_hook: AtomicUsize::new(0),
        }
    }

    /// Returns the sets that this was made of.
    #[must_use]
    pub const fn sets(&self) -> &'a [&'a SiteSet<'a>] {
        self.sets
    }

    /// Handles a #BP: the hook, to be called for every #BP, first thing. If the INT3 is that of a
    /// batch, the frame is changed so that the CPU does what the site does. Takes no lock, waits
    /// for nobody, and executes no site.
    pub fn handle<F: TrapFrame>(&self, frame: &mut F) -> Handled {
        let address = frame.ip().wrapping_sub(1);
        if let Some((record, source)) = self.sets.iter().find_map(|set| set.find(address)) {
            let _in_hook = InHook::enter(&self.cpus_in_hook);
            return self.answer(address, record, source, frame);
        }
        if self.first_member.is_last() {
            return Handled::No;
        }
        // Pairs with `leave`, like `retire`: either that sees this CPU, or this CPU does not find
        // the member that leaves.
        let _in_hook = InHook::enter(&self.cpus_in_hook);
        // SAFETY: this CPU is counted as one in the hook, and by the contract of `join` members
        // stay until `leave` has waited for it.
        let mut members = unsafe { self.first_member.members() };
        match members.find_map(|member| member.find(address)) {
            Some((record, source)) => self.answer(address, record, source, frame),
            None => Handled::No,
        }
    }

    /// Handles a #BP at the site of this record. The CPU is counted as one in the hook.
    fn answer<F: TrapFrame>(
        &self,
        address: usize,
        record: &Record,
        source: &dyn Source,
        frame: &mut F,
    ) -> Handled {
        loop {
            // Pairs with `publish`: a CPU that has fetched an INT3 of a batch sees the batch here,
            // unless that was retired since.
            let batch = self.batch.load(Ordering::SeqCst);
            if let Some(follow) = batch.follow() {
                let Some(emulation) = source.emulation(record, follow) else {
                    return Handled::No;
                };
                emulate(emulation, record.end(), frame);
                return Handled::Yes;
            }
            // SAFETY: the CPU has just fetched this byte of text, by the contract of
            // `TrapFrame`; the platforms have text readable.
            let byte = unsafe { core::ptr::with_exposed_provenance::<u8>(address).read_volatile() };
            if byte != INT3 {
                // Between the trap and here the site was finished and the batch retired. An
                // instruction stands there now, and the CPU is to execute that.
                frame.set_ip(address);
                return Handled::Yes;
            }
            if self.batch.load(Ordering::SeqCst) == batch {
                // There was no batch all the while, so somebody else put this INT3 there.
                return Handled::No;
            }
            // A batch began meanwhile, and the INT3 may be its: look again. This ends, because
            // while this CPU is in the hook that batch is not done retiring, and no other begins.
        }
    }

    /// Begins to write.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if a writer is at work.
    pub(super) fn begin(&self) -> Result<Writer<'_, 'a>, Error> {
        if self.has_writer.swap(true, Ordering::Acquire) {
            return Err(Error::Busy);
        }
        Ok(Writer { live: self })
    }
}

/// Makes the interrupted code do what the new bytes of the site do.
fn emulate<F: TrapFrame>(emulation: Emulation, end_of_site: usize, frame: &mut F) {
    match emulation {
        Emulation::Skip => frame.set_ip(end_of_site),
        Emulation::Jump(target) => frame.set_ip(target),
        Emulation::Call(function) => {
            // The end of the whole site, padding included: nobody may come back into a site that
            // is being written.
            frame.push(end_of_site);
            frame.set_ip(function);
        }
    }
}

/// Counts this CPU as one in the hook.
struct InHook<'h>(&'h AtomicUsize);

impl<'h> InHook<'h> {
    fn enter(cpus_in_hook: &'h AtomicUsize) -> Self {
        // Pairs with `wait_for_hook`: either that sees this CPU, or this CPU sees what was stored
        // before: that the batch is gone, or the member.
        cpus_in_hook.fetch_add(1, Ordering::SeqCst);
        Self(cpus_in_hook)
    }
}

impl Drop for InHook<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The one writer. When it is dropped, the next one may begin; unless a batch is still published,
/// for then there may be INT3s in text, and the hook must go on answering for them.
#[derive(Debug)]
pub(super) struct Writer<'l, 'a> {
    live: &'l Live<'a>,
}

impl Writer<'_, '_> {
    /// Publishes the batch: from here on the hook answers for its sites.
    pub(super) fn publish(&self, follow: Follow) {
        let batch = &self.live.batch;
        batch.store(batch.load(Ordering::Relaxed).published(follow));
        // Pairs with the first load in `handle`: no INT3 is written before the batch is there.
        fence(Ordering::SeqCst);
    }

    /// Retires the batch, and waits for the CPUs in the hook.
    pub(super) fn retire(&self, relax: impl Fn()) {
        let batch = &self.live.batch;
        batch.store(batch.load(Ordering::Relaxed).retired());
        self.wait_for_hook(relax);
    }

    /// Waits until no CPU is in the hook that may have entered it before this call. CPUs in the
    /// hook wait for nobody.
    pub(super) fn wait_for_hook(&self, relax: impl Fn()) {
        // Pairs with `InHook::enter`.
        while self.live.cpus_in_hook.load(Ordering::SeqCst) != 0 {
            relax();
        }
    }
}

impl Writer<'_, '_> {
    /// Returns all sets whose sites are switched: first those that the [`Live`] was made of, and
    /// then that of each member.
    pub(super) fn sets(&self) -> Sets<'_> {
        Sets { first: self.live.sets.iter(), members: self.members() }
    }

    /// Returns the members. None joins or leaves as long as this is the writer.
    pub(super) fn members(&self) -> Members<'_> {
        // SAFETY: this is the writer, and by the contract of `join` members stay until they leave.
        unsafe { self.live.first_member.members() }
    }

    /// Returns whether a batch is published.
    pub(super) fn has_batch(&self) -> bool {
        self.live.batch.load(Ordering::Relaxed).follow().is_some()
    }
}

/// The sets of a writer, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Sets<'l> {
    first: core::slice::Iter<'l, &'l SiteSet<'l>>,
    members: Members<'l>,
}

impl<'l> Iterator for Sets<'l> {
    type Item = &'l SiteSet<'l>;

    // Not inlined: writers go over the sets in many places.
    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let first = self.first.next().copied();
        first.or_else(|| self.members.next().map(Member::set))
    }
}

impl Drop for Writer<'_, '_> {
    fn drop(&mut self) {
        if !self.has_batch() {
            self.live.has_writer.store(false, Ordering::Release);
        }
    }
}
