//! The front end of branches: what the record of a branch stands for.
//!
//! Unsafe code here implements the seam, [`Source`]; each duty is kept as said there. Tables that
//! did not come from the linker are taken on the caller's word, as a branch jumps where its record
//! says.
#![allow(unsafe_code)]

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use super::emit::NOP;
use super::key_table::{Keys, KnownKey};
use super::state::BranchState;
use crate::insn::{InsnBuffer, Replacement};
use crate::site::{Record, Sites};
use crate::text::{Emulation, Follow, Part, Recipe, RecordFault, SiteTable, Source, Subject};

/// The front end of branches for one site set: the records of these branches, the keys that decide
/// them, and what they were last patched for. [`site_set!`](crate::site_set) uses that of the
/// program; [`new`](Self::new) makes that of a module.
#[derive(Debug)]
pub struct BranchSource<'a> {
    branches: SiteTable<'a>,
    keys: KeyTables<'a>,
    /// Whether the branches of the set were patched, and not reverted since.
    is_patched: AtomicBool,
    /// Whether the records are sorted, once that was asked.
    order: AtomicU8,
}

/// Values of `order`: nobody has asked yet; the records are sorted; they are not.
const UNKNOWN: u8 = 0;
const SORTED: u8 = 1;
const MIXED: u8 = 2;

/// The keys that a front end knows, and where the state of each is.
#[derive(Clone, Copy, Debug)]
enum KeyTables<'a> {
    /// Those of the program; the state is in the key.
    Linked,
    /// Those of these objects, and a state for each.
    Given(&'a [Keys], &'a [BranchState]),
}

/// A key, and the state of its branches in this set.
struct KeyInSet<'a> {
    key: KnownKey,
    state: &'a BranchState,
}

/// The front end of all branches that the linker collected for this program.
static LINKED: BranchSource<'static> = BranchSource {
    branches: SiteTable::Linked(linked_branches),
    keys: KeyTables::Linked,
    is_patched: AtomicBool::new(false),
    order: AtomicU8::new(UNKNOWN),
};

/// Returns the part of all branches that the linker collected for this program.
#[must_use]
pub const fn linked() -> Part<'static> {
    LINKED.part()
}

/// Returns the table of every branch of the program: the records that the linker collected from all
/// crates and `.S` files into the section `patchlet_branches`.
#[inline(never)]
fn linked_branches() -> Sites<'static> {
    unsafe extern "C" {
        static __start_patchlet_branches: [u8; 0];
        static __stop_patchlet_branches: [u8; 0];
    }
    // An empty input section, so that the section and the symbols that bound it exist in a program
    // without a single branch. It has the flags of the records, and is tied to this function.
    // SAFETY: these are directives; not one instruction is executed.
    unsafe {
        core::arch::asm!(
            ".hidden __start_patchlet_branches, __stop_patchlet_branches",
            ".pushsection patchlet_branches, \"ao\", @progbits, {here}",
            ".balign 4",
            ".popsection",
            here = sym linked_branches,
            options(att_syntax, nomem, nostack, preserves_flags)
        );
    }
    // As in `Sites::linked`.
    let start = black_box(&raw const __start_patchlet_branches).expose_provenance();
    let stop = black_box(&raw const __stop_patchlet_branches).addr();
    let len = stop.wrapping_sub(start);
    // SAFETY: the linker itself or patchlet.ld defines the two symbols as the bounds of one output
    // section. That section is read-only and mapped for as long as the program runs, and each input
    // section is aligned to 4.
    unsafe { Sites::with_targets_between(core::ptr::with_exposed_provenance(start), len) }
}

impl<'a> BranchSource<'a> {
    /// Makes the front end of these branches, which are those of one loaded object. `keys` has the
    /// keys of each object whose keys they use, and `states` an element for each key of each of
    /// these, in this order. A key that has none is unknown.
    ///
    /// # Safety
    /// - `branches` is the whole section `patchlet_branches` of one linked object, relocated to
    ///   where the object is, in which only [`branch!`](crate::branch!) and `PATCHLET_BRANCH` put
    ///   something: each record has the address to which its branch jumps;
    /// - no other front end uses `states`.
    #[must_use]
    pub const unsafe fn new(
        branches: Sites<'a>,
        keys: &'a [Keys],
        states: &'a [BranchState],
    ) -> Self {
        Self {
            branches: SiteTable::Given(branches),
            keys: KeyTables::Given(keys, states),
            is_patched: AtomicBool::new(false),
            order: AtomicU8::new(UNKNOWN),
        }
    }

    /// Returns the part of a site set that has these branches.
    #[must_use]
    pub const fn part(&'a self) -> Part<'a> {
        Part::with_targets(self.branches, self)
    }

    /// Calls `act` with each key and its state, until it returns something, and returns that.
    fn find<T>(&self, mut act: impl FnMut(KeyInSet<'a>) -> Option<T>) -> Option<T> {
        match self.keys {
            KeyTables::Linked => {
                Keys::linked().all().find_map(|key| act(KeyInSet { key, state: &key.cell.linked }))
            }
            KeyTables::Given(tables, states) => {
                let keys = tables.iter().flat_map(|keys| keys.all());
                keys.zip(states).find_map(|(key, state)| act(KeyInSet { key, state }))
            }
        }
    }

    /// Returns whether a branch begins at this address. Asked for many addresses at which none does,
    /// so the records are searched from end to end only if they are not sorted.
    fn begins_at(&self, address: usize) -> bool {
        let branches = self.branches.sites();
        if self.order.load(Ordering::Relaxed) == UNKNOWN {
            let order = if branches.is_sorted() { SORTED } else { MIXED };
            self.order.store(order, Ordering::Relaxed);
        }
        match self.order.load(Ordering::Relaxed) {
            SORTED => branches.find_in_order(address).is_some(),
            _ => branches.find(address).is_some(),
        }
    }

    /// Returns the key that a record names.
    fn key(&self, record: &Record) -> Option<KeyInSet<'a>> {
        if record.number() == 0 { self.key_at(record.subject()) } else { None }
    }

    /// Returns the key at this address. The keys are searched from end to end, once for each class of
    /// branches: their records have the lengths of their names and stand in the order in which the
    /// linker met them, and there is no memory to sort them in.
    fn key_at(&self, address: usize) -> Option<KeyInSet<'a>> {
        self.find(|found| (core::ptr::from_ref(found.key.cell).addr() == address).then_some(found))
    }
}

impl KeyInSet<'_> {
    /// Returns whether the key is on at the moment that counts.
    fn is_on(&self, follow: Follow) -> bool {
        match follow {
            Follow::Present => self.key.cell.is_on(),
            Follow::Batch => self.state.at_start.load(Ordering::Relaxed),
            Follow::Original => self.key.starts_on,
        }
    }
}

/// Returns whether the branch of this record jumps when its key is on; `None` if the record has a
/// number there that no branch has.
fn jumps_when_on(record: &Record) -> Option<bool> {
    match record.kind_number() {
        0 => Some(true),
        1 => Some(false),
        _ => None,
    }
}

// SAFETY:
// - A branch goes on behind itself or at its target, and the code on either side is written for
//   that; the record of a branch is written beside the branch, with its target.
// - `at_start` is written by `begin` only, and the state in which a key starts is constant.
// - The emulation jumps or goes on as the new bytes do.
// - Where an original can begin, and whether a site is there twice, is asked of the table of records.
// - All originals have five bytes.
// - The replacements of a class differ in the target only, which is that of the record.
// - Loads and stores of atomics, and arithmetic: no site.
unsafe impl Source for BranchSource<'_> {
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        if usize::from(record.capacity()) != InsnBuffer::JUMP {
            return Err(RecordFault::Capacity);
        }
        let jumps_when_on = jumps_when_on(record).ok_or(RecordFault::Kind)?;
        // Records of other parts are asked about as well.
        let target = self.branches.sites().target(record).ok_or(RecordFault::UnknownSubject)?;
        let found = self.key(record).ok_or(RecordFault::UnknownSubject)?;
        let direction = |is_on: bool| {
            if is_on == jumps_when_on {
                Replacement::Jump(target as u64)
            } else {
                Replacement::Nop(&NOP)
            }
        };
        let starts_on = found.key.starts_on;
        let is_patched = self.is_patched.load(Ordering::Relaxed);
        let last_applied =
            if is_patched { found.state.last_applied.load(Ordering::Relaxed) } else { starts_on };
        Ok(Recipe {
            name: found.key.name,
            new: direction(found.is_on(follow)),
            last_applied: direction(last_applied),
            original: direction(starts_on),
            // A tool may have set keys.
            ahead_of_boot: direction(!starts_on),
            may_trap: true,
        })
    }

    fn emulation(&self, record: &Record, follow: Follow) -> Option<Emulation> {
        let target = self.branches.sites().target(record)?;
        let found = self.key(record)?;
        // Text goes back to what the assembler wrote, whatever the key says.
        let jumps = found.is_on(follow) == jumps_when_on(record)?;
        Some(if jumps { Emulation::Jump(target) } else { Emulation::Skip })
    }

    fn target(&self, record: &Record) -> usize {
        self.branches.sites().target(record).unwrap_or(0)
    }

    fn may_begin_inside(&self, address: usize, capacity: u8, text: &[u8]) -> bool {
        let pairs = text.windows(2).zip(0..usize::from(capacity)).skip(1);
        pairs
            .filter(|(bytes, _)| matches!(**bytes, [0xe9, _]) || NOP.starts_with(bytes))
            .any(|(_, at)| self.begins_at(address.wrapping_add(at)))
    }

    fn may_have_another(&self, record: &Record, is_own: bool) -> bool {
        // No site of an op is searched for here, since each search for one would go through all
        // records in vain. What one of them shares with a branch is not the original of both.
        if usize::from(record.capacity()) != InsnBuffer::JUMP {
            return false;
        }
        // One and the same record is found for all that name the site. The NOP there does not tell
        // to which key it belongs.
        let found = self.branches.sites().find(record.site());
        found.is_some_and(|found| !is_own || !core::ptr::eq(found, record))
    }

    fn is_same(&self, one: &Record, other: &Record) -> bool {
        one.is_same(other) && self.target(one) == self.target(other)
    }

    fn follows(&self, subject: Subject) -> bool {
        match subject {
            // A key is known by its branches. One that has none, here or elsewhere, changes in
            // memory only, and that is all there is to change.
            Subject::Key { address, has_patched_branches } => {
                !has_patched_branches || self.key_at(address).is_some()
            }
            Subject::Slot { .. } => false,
        }
    }

    fn begin(&self) {
        self.find(|KeyInSet { key, state }| {
            state.at_start.store(key.cell.is_on(), Ordering::Relaxed);
            None::<()>
        });
    }

    fn finish(&self, follow: Follow) {
        let is_patched = follow == Follow::Batch;
        if is_patched {
            self.find(|KeyInSet { key, state }| {
                key.cell.has_patched_branches.store(true, Ordering::Relaxed);
                let applied = state.at_start.load(Ordering::Relaxed);
                state.last_applied.store(applied, Ordering::Relaxed);
                None::<()>
            });
        }
        self.is_patched.store(is_patched, Ordering::Relaxed);
    }
}
