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

/// The slots of a table of `N` ops.
#[derive(Debug)]
#[repr(C)]
pub struct Slots<const N: usize> {
    slots: [Slot; N],
    /// The table's name: nobody reads it here, but the linker drops the index of the table
    /// with it (`src/ops/define/index.rs`).
    #[allow(dead_code)]
    name: &'static [u8; 0],
}

impl<const N: usize> Slots<N> {
    /// Slots that hold these functions.
    #[must_use]
    pub const fn new(native: &[Target; N], name: &'static [u8; 0]) -> Self {
        let mut slots = [const { Slot::new(Target::NULL) }; N];
        let mut index = 0;
        while index < N {
            slots[index] = Slot::new(native[index]);
            index += 1;
        }
        Self { slots, name }
    }

    /// All slots, in the order of their ops.
    #[must_use]
    pub const fn all(&self) -> &[Slot] {
        &self.slots
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

/// Stands for the indirect call or jump, where otherwise the address of a function
/// stands: no function is at address 1.
pub(crate) const INDIRECT: usize = 1;

impl Applied {
    /// Not patched: the sites hold their indirect calls and jumps.
    #[must_use]
    pub const fn never() -> Self {
        Self {
            now: AtomicUsize::new(INDIRECT),
            before: AtomicUsize::new(INDIRECT),
            next: AtomicUsize::new(INDIRECT),
        }
    }

    #[inline(never)] // Or it is there once for each op of a table.
    fn note(&self, patched: bool) {
        let was = self.now.load(Ordering::Relaxed);
        let is = if patched { self.next.load(Ordering::Relaxed) } else { INDIRECT };
        if was != is {
            self.before.store(was, Ordering::Relaxed);
            self.now.store(is, Ordering::Relaxed);
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

    /// All there is of the op of this index, if its slot is at this address.
    pub(crate) fn row(&self, index: usize, slot: usize) -> Option<Row> {
        let (op, own) = (self.ops.get(index)?, self.slots.get(index)?);
        let applied = self.applied.get(index)?;
        (core::ptr::from_ref(own).addr() == slot).then_some(Row { op, slot: own, applied })
    }

    /// Keeps what the slots hold, for as long as the sites are written.
    #[inline(never)]
    pub(crate) fn keep(&self) {
        for (applied, slot) in self.applied.iter().zip(self.slots) {
            applied.next.store(slot.get().address(), Ordering::Relaxed);
        }
    }

    /// Notes that all sites are patched for what was kept, or reverted.
    #[inline(never)]
    pub(crate) fn note(&self, patched: bool) {
        for applied in self.applied {
            applied.note(patched);
        }
    }
}

/// One op of a table. Each of the functions below is its address, or [`INDIRECT`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) op: &'static Op,
    slot: &'static Slot,
    applied: &'static Applied,
}

impl Row {
    /// Address of the slot.
    pub(crate) fn slot(self) -> usize {
        core::ptr::from_ref(self.slot).addr()
    }

    /// What the slot holds.
    pub(crate) fn held(self) -> usize {
        self.slot.get().address()
    }

    /// What the slot held at the last [`Table::keep`].
    pub(crate) fn kept(self) -> usize {
        self.applied.next.load(Ordering::Relaxed)
    }

    /// What the sites were last patched for.
    pub(crate) fn applied(self) -> usize {
        self.applied.now.load(Ordering::Relaxed)
    }

    /// What they were patched for before that.
    pub(crate) fn before(self) -> usize {
        self.applied.before.load(Ordering::Relaxed)
    }
}
