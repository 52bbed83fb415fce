//! An ops table and its slots.
//!
//! Unsafe here is [`Table::set`]: sites will call whatever address it puts into a slot.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicPtr, Ordering};

use super::op::Op;
use super::target::Target;
use crate::text::{Change, Plan, Platform, Report};

/// One function pointer of an ops table; unpatched sites call through it.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(AtomicPtr<()>);

impl Slot {
    /// Makes a slot that holds `target`.
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
    /// The table's name. No code reads it. The reference ties the table's records in the
    /// section `patchlet_ops` to the slots: the linker keeps or drops them together
    /// (`src/ops/define/index.rs`).
    #[allow(dead_code)]
    name: &'static [u8; 0],
}

impl<const N: usize> Slots<N> {
    /// Makes the slots of a table: slot number `i` holds `native[i]`.
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

    /// Returns all slots, in the order of their ops.
    #[must_use]
    pub const fn all(&self) -> &[Slot] {
        &self.slots
    }
}

/// An ops table: one slot per op.
#[derive(Debug)]
pub struct Table {
    ops: &'static [Op],
    slots: &'static [Slot],
}

impl Table {
    /// Makes a table of its parts: element `i` of both belongs to the op of index `i`.
    ///
    /// # Panics
    /// At compile time, in `ops!`: if the lengths differ, or if there are more ops than the 16 bits
    /// of an index can number.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(ops: &'static [Op], slots: &'static [Slot]) -> Self {
        assert!(ops.len() == slots.len());
        assert!(ops.len() <= u16::MAX as usize);
        Self { ops, slots }
    }

    /// Returns the ops, in the order of their indices.
    #[must_use]
    pub const fn ops(&self) -> &'static [Op] {
        self.ops
    }

    /// Returns what the slot of the op of this index holds, or `None` if there is no such op.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Target> {
        Some(self.slots.get(index)?.get())
    }

    /// Puts a function into the slot of an op. Returns false, and does nothing, if there is no op
    /// of this index. Sites that are already patched keep their replacement until they are
    /// patched again.
    ///
    /// # Safety
    /// - `target` is null, [`Target::NOP`], [`Target::IDENT`] or a function that
    ///   keeps to the op's ABI class and signature and does what the op is for;
    /// - the function stays in memory for as long as the slot holds it, or a site that was
    ///   patched to call it can be executed.
    pub unsafe fn set(&self, index: usize, target: Target) -> bool {
        let Some(slot) = self.slots.get(index) else { return false };
        slot.set(target);
        true
    }

    /// Returns the change that puts a function into the slot of an op, or `None` if there is no op
    /// of this index. A writer makes it, and patches the sites: [`Patcher::change`],
    /// [`Int3::change`] or [`Rendezvous::change`].
    ///
    /// # Safety
    /// - as for [`set`](Self::set), from when the change is made until it is undone; the function
    ///   that the slot holds before stays in memory as well, for as long as the change can be
    ///   undone.
    ///
    /// [`Patcher::change`]: crate::Patcher::change
    /// [`Int3::change`]: crate::live::Int3::change
    /// [`Rendezvous::change`]: crate::live::Rendezvous::change
    #[must_use]
    pub unsafe fn change(&self, index: usize, target: Target) -> Option<Change<'_>> {
        Some(Change::of_address(&self.slots.get(index)?.0, target.0))
    }

    /// Puts the native function of every op back into its slot.
    pub fn reset(&self) {
        for (slot, op) in self.slots.iter().zip(self.ops) {
            slot.set(op.native());
        }
    }

    /// Returns the index of the op whose slot is at `address`, or `None` if no slot of this table
    /// starts there.
    #[must_use]
    pub fn index_of_slot(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.slots.as_ptr().addr())?;
        let index = offset / size_of::<Slot>();
        (offset % size_of::<Slot>() == 0 && index < self.slots.len()).then_some(index)
    }

    /// Returns each op, in the order of their indices, with the counts of its sites in a plan.
    /// Reads all sites once for each op.
    pub fn by_op<P: Platform>(
        &'static self,
        plan: &Plan<'_, P>,
    ) -> impl Iterator<Item = (&'static Op, Report)> {
        let slots = self.slots.iter().map(|slot| core::ptr::from_ref(slot).addr());
        self.ops.iter().zip(slots.map(|slot| plan.report_of(slot)))
    }

    /// Returns the address of the slot of the op of this index, or `None` if there is no such op.
    #[must_use]
    pub fn slot_address(&self, index: usize) -> Option<usize> {
        self.slots.get(index).map(|slot| core::ptr::from_ref(slot).addr())
    }
}
