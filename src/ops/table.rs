//! The slots of a table, and what is noted of their sites.
//!
//! Unsafe code here is the setting of a slot: what it holds is going to be called.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::op::Op;
use super::target::Target;

/// One function pointer of an ops table; unpatched sites call through it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(AtomicPtr<()>);

impl Slot {
    /// A slot that holds this.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self(AtomicPtr::new(target.0.cast_mut()))
    }

    fn get(&self) -> Target {
        Target(self.0.load(Ordering::Acquire))
    }

    fn set(&self, target: Target) {
        self.0.store(target.0.cast_mut(), Ordering::Release);
    }
}

/// What the sites of one op were last patched for, and what they are being
/// patched for.
#[derive(Debug)]
pub struct Applied {
    now: AtomicUsize,
    /// What that was before it became what it is now. Where a table has several
    /// patchers (a kernel's and its modules'), one is the first to follow a slot.
    before: AtomicUsize,
    /// The slot as it was when the batch in progress began. Other CPUs may set
    /// the slot while a batch is written; every site of it follows this.
    next: AtomicUsize,
}

/// No function is at address 1.
const NEVER: usize = 1;

impl Applied {
    /// Not patched: the sites hold their indirect calls and jumps.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            now: AtomicUsize::new(NEVER),
            before: AtomicUsize::new(NEVER),
            next: AtomicUsize::new(NEVER),
        }
    }
}

/// An ops table: one slot per op.
#[derive(Debug)]
pub struct Table {
    ops: &'static [Op],
    slots: &'static [Slot],
    applied: &'static [Applied],
}

impl Table {
    /// Of its parts, which have one element per op each.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        ops: &'static [Op],
        slots: &'static [Slot],
        applied: &'static [Applied],
    ) -> Self {
        assert!(ops.len() == slots.len() && ops.len() == applied.len());
        assert!(ops.len() <= u16::MAX as usize);
        Self { ops, slots, applied }
    }

    /// The ops, in the order of their indices.
    #[must_use]
    pub const fn ops(&self) -> &'static [Op] {
        self.ops
    }

    /// What the slot of this op holds; `None` if there is no such op.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Target> {
        Some(self.slots.get(index)?.get())
    }

    /// Puts a function into the slot of an op; false, and nothing done, if there
    /// is no such op. Sites that are patched already keep doing what they did
    /// until the patcher is run again.
    ///
    /// # Safety
    /// - `target` is null, [`Target::NOP`], [`Target::IDENT`] or a function that
    ///   keeps to the op's ABI class and signature and does what the op is for;
    /// - it stays there for as long as the slot, or a site patched for it, can
    ///   be executed.
    pub unsafe fn set(&self, index: usize, target: Target) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        slot.set(target);
        true
    }

    /// Puts every native function back.
    pub fn reset(&self) {
        for (slot, op) in self.slots.iter().zip(self.ops) {
            slot.set(op.native());
        }
    }

    /// The index of the op whose slot is at this address.
    #[must_use]
    pub fn index_of_slot(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.slots.as_ptr().addr())?;
        let index = offset / size_of::<Slot>();
        (offset % size_of::<Slot>() == 0 && index < self.slots.len()).then_some(index)
    }

    /// What the sites of this op were last patched for; `None` if they were not.
    pub(crate) fn applied(&self, index: usize) -> Option<usize> {
        let address = self.applied.get(index)?.now.load(Ordering::Relaxed);
        (address != NEVER).then_some(address)
    }

    /// What they were patched for before that.
    pub(crate) fn before(&self, index: usize) -> Option<usize> {
        let address = self.applied.get(index)?.before.load(Ordering::Relaxed);
        (address != NEVER).then_some(address)
    }

    /// Keeps what the slots hold, for as long as the sites are written.
    #[inline(never)]
    pub(crate) fn keep(&self) {
        for (applied, slot) in self.applied.iter().zip(self.slots) {
            applied.next.store(slot.get().address(), Ordering::Relaxed);
        }
    }

    /// What the slot of this op held at the last [`keep`](Self::keep).
    pub(crate) fn kept(&self, index: usize) -> Option<usize> {
        Some(self.applied.get(index)?.next.load(Ordering::Relaxed))
    }

    /// Notes that all sites are patched for what was kept, or reverted.
    #[inline(never)]
    pub(crate) fn note(&self, patched: bool) {
        for applied in self.applied {
            let was = applied.now.load(Ordering::Relaxed);
            let is = if patched { applied.next.load(Ordering::Relaxed) } else { NEVER };
            if was != is {
                applied.before.store(was, Ordering::Relaxed);
                applied.now.store(is, Ordering::Relaxed);
            }
        }
    }
}
