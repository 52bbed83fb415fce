//! The front end of ops tables: what a record of a site of an op stands for.
//!
//! Unsafe code here implements the seam, [`Source`]; each duty is kept as said there.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::op::{Abi, Op};
use super::table::{Slot, Table};
use super::target::Target;
use crate::insn::{InsnBuffer, Kind, Replacement, Width};
use crate::patchlet::native;
use crate::site::Record;
use crate::text::{Emulation, Follow, Recipe, RecordFault, Source, Subject};

/// The target that one op's sites of one site set were last patched for. It has no meaning while
/// the set is not patched, see [`OpSource`].
#[derive(Debug)]
pub struct OpState {
    last_applied: AtomicPtr<()>,
    /// What the slot held when the batch began.
    slot_at_start: AtomicPtr<()>,
}

impl OpState {
    /// Makes the state of an op whose sites were never patched.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last_applied: AtomicPtr::new(core::ptr::null_mut()),
            slot_at_start: AtomicPtr::new(core::ptr::null_mut()),
        }
    }
}

impl Default for OpState {
    fn default() -> Self {
        Self::new()
    }
}

/// The front end of ops tables for one site set: the tables that the sites go through, and what
/// those sites were last patched for. [`site_set!`](crate::site_set) makes it.
#[derive(Debug)]
pub struct OpSource<'a> {
    tables: &'a [&'a Table],
    states: &'a [OpState],
    /// Whether the sites of the set were patched, and not reverted since.
    is_patched: AtomicBool,
}

/// An op, and what is known of its sites.
struct Entry<'a> {
    table: &'a Table,
    op: &'static Op,
    slot: &'a Slot,
    state: &'a OpState,
}

impl<'a> OpSource<'a> {
    /// Makes the front end of these tables. `states` has an element for each op of each table, in
    /// this order. An op that has none is unknown.
    ///
    /// # Safety
    /// - no other front end uses `states`: they say what the sites of one set were last patched for.
    #[must_use]
    pub const unsafe fn new(tables: &'a [&'a Table], states: &'a [OpState]) -> Self {
        Self { tables, states, is_patched: AtomicBool::new(false) }
    }

    /// Returns the tables.
    #[must_use]
    pub const fn tables(&self) -> &'a [&'a Table] {
        self.tables
    }

    /// Returns whether a slot of one of the tables is at this address.
    #[inline(never)]
    fn has_slot(&self, address: usize) -> bool {
        self.tables.iter().any(|table| table.index_of_slot(address).is_some())
    }

    /// Returns the op that a record belongs to.
    fn entry(&self, record: &Record) -> Option<Entry<'a>> {
        let number = usize::from(record.number());
        let mut first_state = 0;
        for &table in self.tables {
            if table.slot_address(number) == Some(record.subject()) {
                let op = table.ops().get(number)?;
                let slot = table.slot(number)?;
                let state = self.states.get(first_state + number)?;
                return Some(Entry { table, op, slot, state });
            }
            first_state += table.ops().len();
        }
        None
    }
}

impl Entry<'_> {
    /// Returns what the site of this record gets, which is of this kind, while the slot holds
    /// `target`; without one, the original.
    #[inline(never)]
    fn replacement(
        &self,
        record: &Record,
        kind: Kind,
        target: Option<Target>,
    ) -> Replacement<'static> {
        match target {
            Some(target) => {
                self.table.replacement_of(self.op, record.number().into(), target, kind)
            }
            None => Replacement::Indirect(kind, record.subject() as u64),
        }
    }

    /// Returns what the slot holds now.
    fn slot_now(&self) -> Target {
        self.slot.get()
    }

    fn slot_at_start(&self) -> Target {
        Target(self.state.slot_at_start.load(Ordering::Relaxed))
    }

    fn last_applied(&self) -> Target {
        Target(self.state.last_applied.load(Ordering::Relaxed))
    }
}

// SAFETY:
// - What a slot holds keeps to the ABI class and signature of its op, by the contract of
//   `Table::set`, and each replacement does what a call of it does: the rules of `Choice`.
// - `slot_at_start` is written by `begin` only, and of an original all is constant but what the
//   slot holds, which is what the original does.
// - The emulation calls what the slot holds, as the original does, and the new replacement is
//   that function in a shorter form; the no-op function is skipped where the call would return.
// - An original of six bytes or more begins with `ff 15` or `ff 25` and names a slot of a table
//   of this source, or its record is refused; it is padded with single-byte NOPs.
// - Loads and stores of atomics, and arithmetic: no site.
unsafe impl Source for OpSource<'_> {
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        if usize::from(record.capacity()) < InsnBuffer::MIN {
            return Err(RecordFault::Capacity);
        }
        let kind = record.kind().map_err(|_| RecordFault::Kind)?;
        let entry = self.entry(record).ok_or(RecordFault::UnknownSubject)?;
        let new = match follow {
            Follow::Present => Some(entry.slot_now()),
            Follow::Batch => Some(entry.slot_at_start()),
            Follow::Original => None,
        };
        let is_patched = self.is_patched.load(Ordering::Relaxed);
        let last_applied = is_patched.then(|| entry.last_applied());
        Ok(Recipe {
            name: entry.op.name(),
            new: entry.replacement(record, kind, new),
            last_applied: entry.replacement(record, kind, last_applied),
            original: entry.replacement(record, kind, None),
            ahead_of_boot: entry.replacement(record, kind, Some(entry.op.native())),
            may_trap: entry.op.abi() != Abi::Assembly,
        })
    }

    fn emulation(&self, record: &Record, follow: Follow) -> Option<Emulation> {
        let entry = self.entry(record)?;
        let target = match follow {
            Follow::Batch => entry.slot_at_start(),
            Follow::Present | Follow::Original => entry.slot_now(),
        };
        // The trap is its native function, `ud2`; the return address that a call pushes tells
        // which site it was.
        let trap = Target::function(native::ud2.native() as *const ());
        let function = if target == Target::NULL { trap } else { target }.address();
        Some(match record.kind().ok()? {
            Kind::Call if target == Target::NOP => Emulation::Skip,
            Kind::Call => Emulation::Call(function),
            Kind::Jump => Emulation::Jump(function),
        })
    }

    fn may_begin_inside(&self, address: usize, capacity: u8, text: &[u8]) -> bool {
        (1..usize::from(capacity)).any(|at| {
            let Some([0xff, 0x15 | 0x25, operand @ ..]) = text.get(at..) else { return false };
            let Some(&operand) = operand.first_chunk() else { return true };
            let operand = i32::from_le_bytes(operand);
            let slot = match Width::NATIVE {
                Width::Bits64 => {
                    let end = address.wrapping_add(at + InsnBuffer::MIN);
                    end.wrapping_add_signed(operand as isize)
                }
                Width::Bits32 => operand.cast_unsigned() as usize,
            };
            self.has_slot(slot)
        })
    }

    fn may_have_another(&self, record: &Record, is_own: bool) -> bool {
        !is_own && self.entry(record).is_some()
    }

    fn follows(&self, subject: Subject) -> bool {
        matches!(subject, Subject::Slot { address, .. } if self.has_slot(address))
    }

    fn begin(&self) {
        let mut states = self.states.iter();
        for table in self.tables {
            // The slots come first: where they end, no state of the next table is taken.
            for (target, state) in table.targets().zip(&mut states) {
                state.slot_at_start.store(target.0.cast_mut(), Ordering::Relaxed);
            }
        }
    }

    fn finish(&self, follow: Follow) {
        let is_patched = follow == Follow::Batch;
        if is_patched {
            for state in self.states {
                let applied = state.slot_at_start.load(Ordering::Relaxed);
                state.last_applied.store(applied, Ordering::Relaxed);
            }
        }
        self.is_patched.store(is_patched, Ordering::Relaxed);
    }
}

/// Defines a static site set: every site of this program, and the ops tables that they go through.
///
/// ```no_run
/// # patchlet::patchlets! { mod own { invlpg, rdtsc } }
/// # patchlet::ops! {
/// #     /// Its own.
/// #     pub mod own_ops as "my_kernel_ops" {
/// #         tlb {
/// #             /// Forgets the translation of one page.
/// #             flush_page: callee_save unsafe fn(address: usize) = patchlet own::invlpg;
/// #         }
/// #     }
/// # }
/// use patchlet::pv;
///
/// patchlet::site_set! {
///     /// Every site of this kernel.
///     pub static KERNEL = [pv, own_ops];
/// }
/// # fn main() {}
/// ```
///
/// In brackets stand the modules that [`ops!`](crate::ops!) defined: those of all ops that have a
/// site. A program with static branches has `, branches` behind the bracket. A site of another one is refused when the set is patched
/// ([`Error::UnknownSubject`](crate::Error::UnknownSubject)).
#[macro_export]
macro_rules! site_set {
    ($(#[$meta:meta])* $vis:vis static $name:ident = [$($table:path),+ $(,)?];) => {
        $crate::site_set!(@ [$(#[$meta])* $vis] $name [$($table)+] []);
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident = [$($table:path),+ $(,)?], branches;) => {
        $crate::site_set!(@ [$(#[$meta])* $vis] $name [$($table)+] [$crate::branch::linked()]);
    };
    (@ [$(#[$meta:meta])* $vis:vis] $name:ident [$($table:path)+] [$($branches:expr)?]) => {
        $(#[$meta])*
        #[allow(unsafe_code)]
        $vis static $name: $crate::SiteSet<'static> = {
            use $crate::ops::{OpSource, OpState, Table};
            static TABLES: &[&Table] = &[$({ use $table as table; &table::TABLE }),+];
            const OPS: usize = 0 $(+ { use $table as table; table::COUNT })+;
            static STATES: [OpState; OPS] = [const { OpState::new() }; OPS];
            // SAFETY: the states stand in this block, and so does their only use.
            static OP_SOURCE: OpSource<'static> = unsafe { OpSource::new(TABLES, &STATES) };
            static PARTS: &[$crate::text::Part<'static>] =
                &[$crate::text::Part::linked(&OP_SOURCE) $(, $branches)?];
            $crate::SiteSet::new(PARTS)
        };
    };
}
