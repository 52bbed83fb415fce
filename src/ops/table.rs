//! An ops table and its slots.
//!
//! Unsafe here are [`Table::set`], since sites will call whatever address it puts into a slot,
//! [`Table::select`], since they will do what only some CPUs can, and what makes a table, since both
//! take its word for what ops do.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicPtr, Ordering};

use super::op::Op;
use super::target::Target;
use super::variant::Variant;
use crate::choose::Choice;
use crate::cpu::Features;
use crate::insn::{Kind, Replacement};
use crate::patchlet::{Patchlet, native};
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

    pub(super) fn get(&self) -> Target {
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
    /// The variants of all ops, those of one op together and in their order.
    variants: &'static [Variant],
}

impl Table {
    /// Makes a table of its parts: element `i` of both belongs to the op of index `i`. Only
    /// [`ops!`](crate::ops!) and the crate's tests call this.
    ///
    /// It is unsafe, because [`reset`](Self::reset) is not, and because sites get the patchlets of
    /// their ops:
    ///
    /// ```compile_fail,E0133
    /// use patchlet::ops::{Abi, Op, Table, Target};
    /// use patchlet::pv;
    ///
    /// static OPS: [Op; pv::COUNT] =
    ///     [const { Op::new("my", "op", Abi::C, Target::function(8 as *const ()), None) }; pv::COUNT];
    /// static TABLE: Table = Table::new(&OPS, pv::SLOTS.all());
    /// // TABLE.reset(), and the next `pv::irq_disable()` calls address 8.
    /// ```
    ///
    /// # Safety
    /// - `slots` are those of no other table;
    /// - the native function of each op keeps to its class and to the signature with which code uses
    ///   it, and its patchlet has the same instructions.
    ///
    /// # Panics
    /// At compile time, in `ops!`: if the lengths differ, or if there are more ops than the 16 bits
    /// of an index can number.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(ops: &'static [Op], slots: &'static [Slot]) -> Self {
        assert!(ops.len() == slots.len());
        assert!(ops.len() <= u16::MAX as usize);
        Self { ops, slots, variants: &[] }
    }

    /// Returns this table with variants: those of one op together, and in their order.
    ///
    /// # Safety
    /// - the target of each variant keeps to class and signature of its op, and its patchlet has the
    ///   same instructions.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn with_variants(mut self, variants: &'static [Variant]) -> Self {
        self.variants = variants;
        self
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

    /// Returns the slot of the op of this index, or `None` if there is no such op.
    pub(super) fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index)
    }

    /// Returns what each slot holds, in the order of the ops.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        self.slots.iter().map(Slot::get)
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

    /// Returns the variants of all ops: those of one op together, in the order in which they stand
    /// there.
    #[must_use]
    pub const fn variants(&self) -> &'static [Variant] {
        self.variants
    }

    /// Puts into the slot of each op that has variants the last one that is eligible for CPUs
    /// with these features, or the native function if none is. Slots of other ops stay as they are.
    ///
    /// Sites that are already patched keep their replacement until they are patched again. A slot
    /// that held a function of a hypervisor's layer holds it no longer: a layer is installed after
    /// this.
    ///
    /// # Safety
    /// - every CPU that executes a site of this table has the features by which a variant is
    ///   selected, and has none that its condition forbids. For CPUs that differ,
    ///   [`Features::intersection`] has what they have in common; what one of them may not have is
    ///   no part of a condition that forbids it;
    /// - what conditions require of the operating system (CR4, XCR0, a flag of the kernel's own) is
    ///   so for as long as the slot holds the variant, or a site that was patched for it can be
    ///   executed.
    pub unsafe fn select(&self, features: &Features) {
        for of_one_op in self.variants.chunk_by(|one, other| one.op() == other.op()) {
            let eligible = of_one_op.iter().rfind(|variant| variant.is_eligible(features));
            let op = of_one_op.first().map_or(usize::MAX, Variant::op);
            let (Some(slot), Some(native)) = (self.slots.get(op), self.ops.get(op)) else {
                continue;
            };
            slot.set(eligible.map_or(native.native(), Variant::target));
        }
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
        let (slot, op) = (self.slots.get(index)?, self.ops.get(index)?);
        Some(Change::of_address(&slot.0, target.0, op.name()))
    }

    /// Puts the native function of every op back into its slot.
    pub fn reset(&self) {
        for (slot, op) in self.slots.iter().zip(self.ops) {
            slot.set(op.native());
        }
    }

    /// Returns what a site of this kind of the op of this index gets while the op's slot holds
    /// `target`, or `None` if there is no such op.
    #[must_use]
    pub fn replacement(
        &self,
        index: usize,
        target: Target,
        kind: Kind,
    ) -> Option<Replacement<'static>> {
        Some(self.replacement_of(self.ops.get(index)?, index, target, kind))
    }

    /// Returns the same for an op of this table, whose index is known to the caller.
    pub(super) fn replacement_of(
        &self,
        op: &Op,
        index: usize,
        target: Target,
        kind: Kind,
    ) -> Replacement<'static> {
        let choice = Choice {
            nop: Target::NOP.address() as u64,
            ident: Target::IDENT.address() as u64,
            #[cfg(target_arch = "x86_64")]
            ident_patchlet: native::ident_64.bytes(),
            #[cfg(target_arch = "x86")]
            ident_patchlet: &[],
            zero: Target::ZERO.address() as u64,
            // An op of the native set that returns false natively: `xorl %eax, %eax`.
            zero_patchlet: native::vcpu_is_preempted.bytes(),
            trap: native::ud2.bytes(),
        };
        let own = |_| {
            let is_chosen =
                |variant: &&Variant| variant.op() == index && variant.target() == target;
            let patchlet = match target == op.native() {
                true => op.patchlet(),
                false => self.variants.iter().find(is_chosen)?.patchlet(),
            };
            patchlet.map(Patchlet::bytes)
        };
        choice.replacement(target.address() as u64, kind, own)
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
