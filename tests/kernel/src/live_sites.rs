//! The sites that are switched while other CPUs run them, and the results that a CPU may get.
//!
//! Switches are numbered from 0. Switch `n` changes all sites from the kind [`Kind::at`]`(n)` to
//! the kind at `n + 1`. [`PROGRESS`] says which switches have begun and ended. A CPU that reads it
//! before and after it has run a site therefore knows which kinds of replacement it may have met.

use core::{
    ops::RangeInclusive,
    ptr,
    sync::atomic::{
        AtomicPtr, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use interface::{ANSWER, ANSWERED, Entry, Interface};
use patchlet::ops::{Table, Target};

use crate::{
    cpu, live_broken,
    own::ops::{self, Id},
    segments,
    segments::MAX_CPUS,
};

/// A kind of bytes that a site can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The op's patchlet.
    Native,
    /// A direct call of the first made-up hypervisor's function.
    A,
    /// A direct call of the second made-up hypervisor's function.
    B,
    /// NOPs.
    Nops,
    /// The identity patchlet; NOPs on 32 bit.
    Identity,
    /// The indirect call; the slot holds a third function.
    Indirect,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Native, Self::A, Self::B, Self::Nops, Self::Identity, Self::Indirect];

    /// The number of switches after which each kind has become each other kind once.
    pub const ROUND: usize = Self::ALL.len() * (Self::ALL.len() - 1);

    /// Returns the kind of all sites before switch `number`.
    pub fn at(number: usize) -> Self {
        Self::SEQUENCE[number % Self::ROUND]
    }

    /// The kinds in the order 0 1 0 2 … 0 5 1 2 1 3 … 4 5. Repeated, it has every pair of
    /// kinds in both orders, each once.
    const SEQUENCE: [Self; Self::ROUND] = {
        let mut sequence = [Self::Native; Self::ROUND];
        let mut length = 0;
        let mut low = 0;
        while low < Self::ALL.len() {
            let mut high = low + 1;
            while high < Self::ALL.len() {
                sequence[length] = Self::ALL[low];
                sequence[length + 1] = Self::ALL[high];
                length += 2;
                high += 1;
            }
            low += 1;
        }
        sequence
    };

    fn target(self, table: &Table, op: usize) -> Target {
        match self {
            Self::Native => table.ops()[op].native(),
            Self::A => A,
            Self::B => Target::function(live_b as *const ()),
            Self::Nops => Target::NOP,
            Self::Identity => Target::IDENT,
            Self::Indirect => Target::function(live_c as *const ()),
        }
    }

    /// Puts the functions of this kind into the slots, also into that of the module if one is
    /// loaded.
    pub fn select(self) {
        for op in OPS {
            self.put(&ops::TABLE, op as usize);
        }
        if let Some(module) = module() {
            self.select_of(module);
        }
    }

    /// Puts the function of this kind into the slot of the module's op.
    pub fn select_of(self, module: &Interface) {
        self.put(module.table, ANSWER - FIRST_OF_MODULE);
    }

    fn put(self, table: &Table, op: usize) {
        // SAFETY: the functions are of the callee-save class and stay as long as the slot. They
        // return other values than the ops are for, and only `is_right` uses these.
        assert!(unsafe { table.set(op, self.target(table, op)) });
    }
}

/// The first hypervisor's function, for both ops.
pub const A: Target = Target::function(live_a as *const ());

const OPS: [Id; 2] = [Id::zero, Id::flags];
/// The number of the module's first op in the list of its sites.
const FIRST_OF_MODULE: usize = 4;
/// Asserts the numbers of the ops that `asm/live.S` uses.
const _: () = assert!(Id::zero as usize == 2 && Id::flags as usize == 3);

// The values of registers before a site, and the results. `asm/live.S` has the same numbers.
const UNCHANGED: u32 = 0x0d0d_0d0d;
const ARGUMENT: u32 = 0x1d1d_1d1d;
const RETURNED_BY_A: u32 = 0xa0a0_a0a0;
const RETURNED_BY_B: u32 = 0xb0b0_b0b0;
const RETURNED_BY_C: u32 = 0xc0c0_c0c0;

// asm/live.S
unsafe extern "C" {
    static live_sites: [Entry; 0];
    static live_sites_end: [Entry; 0];
    fn live_a();
    fn live_b();
    fn live_c();
}

/// The entries of the two sites that are in Rust code.
static IN_RUST: [Entry; 2] = [
    Entry { run: zero_in_rust, op: Id::zero as usize },
    Entry { run: flags_in_rust, op: Id::flags as usize },
];

#[inline(never)]
#[unsafe(link_section = ".text.live")]
extern "C" fn zero_in_rust() -> u32 {
    ops::zero(ARGUMENT as usize) as u32
}

#[inline(never)]
#[unsafe(link_section = ".text.live")]
extern "C" fn flags_in_rust() -> u32 {
    ops::flags(ARGUMENT as usize) as u32
}

fn in_assembly() -> &'static [Entry] {
    let (start, end) = (&raw const live_sites, &raw const live_sites_end);
    let length = (end.addr() - start.addr()) / size_of::<Entry>();
    // SAFETY: the labels are the bounds of a read-only array of entries in `asm/live.S`.
    unsafe { core::slice::from_raw_parts(start.cast(), length) }
}

/// The module that is loaded, or null.
static MODULE: AtomicPtr<Interface> = AtomicPtr::new(ptr::null_mut());

/// Has the sites of this module run, too; or only those of the kernel. A reader may run those of the
/// module until it has been outside every site.
pub fn set_module(module: Option<&'static Interface>) {
    let module = module.map_or(ptr::null(), ptr::from_ref);
    MODULE.store(module.cast_mut(), SeqCst);
}

fn module() -> Option<&'static Interface> {
    // SAFETY: `set_module` got a reference, and whoever unloads a module first takes it away and
    // waits until readers have been outside.
    unsafe { MODULE.load(SeqCst).as_ref() }
}

/// Returns the number of the kernel's sites.
pub fn count() -> usize {
    in_assembly().len() + IN_RUST.len()
}

/// Returns the module's sites in assembly.
pub fn in_module(module: &Interface) -> &'static [Entry] {
    let [start, end] = module.sites;
    let length = (end.addr() - start.addr()) / size_of::<Entry>();
    // SAFETY: the module has a read-only array of entries there.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// Returns whether the slot at `address` is that of a site in this module.
pub fn has_slot(address: usize) -> bool {
    ops::TABLE
        .index_of_slot(address)
        .is_some_and(|index| OPS.iter().any(|&op| op as usize == index))
}

/// Twice the number of switches that have ended, plus one while a switch is being made.
static PROGRESS: AtomicUsize = AtomicUsize::new(0);

/// The number of sites that each CPU has run.
static EXECUTIONS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Returns how many sites `cpu` has run. Every result was right, or the kernel would have ended.
pub fn executions(cpu: usize) -> usize {
    EXECUTIONS[cpu].load(Relaxed)
}

/// Calls `switch`, which makes switch `number`, and records its begin and end.
pub fn announce<R>(number: usize, switch: impl FnOnce() -> R) -> R {
    PROGRESS.store(2 * number + 1, SeqCst);
    let result = switch();
    PROGRESS.store(2 * number + 2, SeqCst);
    result
}

/// Runs every site, with interrupts on, and checks the results.
pub fn run_all() {
    let nops = if cfg!(target_arch = "x86_64") { UNCHANGED } else { ARGUMENT };
    for entry in in_assembly() {
        run(entry, |result| result == nops);
    }
    for entry in &IN_RUST {
        // A site of NOPs returns what the result register held before. In Rust code the compiler
        // chooses that, so any value is accepted.
        run(entry, |_| true);
    }
    let mut executions = count();
    if let Some(module) = module() {
        executions += run_of(module, nops);
    }
    EXECUTIONS[segments::current_cpu()].fetch_add(executions, Relaxed);
}

/// Runs the sites of a module, and returns how many those are.
fn run_of(module: &Interface, nops: u32) -> usize {
    let entries = in_module(module);
    for entry in entries {
        run(entry, |result| result == nops);
    }
    // Whether the keys are on changes at any time; what the branches must not do is anything else.
    (module.by_kernels_key)();
    (module.by_own_key)();
    let number = entries.len();
    assert_eq!((module.work)(number), interface::worked(number));
    entries.len() + 3
}

fn run(entry: &Entry, is_right_for_nops: impl Fn(u32) -> bool) {
    let before = PROGRESS.load(SeqCst);
    let result = (entry.run)();
    let after = PROGRESS.load(SeqCst);

    let mut kinds = kinds(before, after);
    if !kinds.any(|number| match Kind::at(number) {
        Kind::Native => is_right_natively(entry.op, result),
        Kind::A => result == RETURNED_BY_A,
        Kind::B => result == RETURNED_BY_B,
        Kind::Nops => is_right_for_nops(result),
        Kind::Identity => result == ARGUMENT,
        Kind::Indirect => result == RETURNED_BY_C,
    }) {
        wrong(entry, result, before, after);
    }
}

/// Returns the numbers of the kinds that a site may have had, if `PROGRESS` was `before` when a CPU
/// began to run it and `after` when the CPU had ended. They reach from the kind before the last
/// switch that had ended to the kind behind the last switch that had begun.
fn kinds(before: usize, after: usize) -> RangeInclusive<usize> {
    before / 2..=after.div_ceil(2)
}

fn is_right_natively(op: usize, result: u32) -> bool {
    const STATUS: usize = 0x8d5; // OF, SF, ZF, AF, PF, CF
    const ALWAYS: usize = 1 << 1;
    if op == Id::zero as usize {
        result == 0
    } else if op == ANSWER {
        result == ANSWERED
    } else {
        result as usize & !STATUS == cpu::FLAGS_IF | ALWAYS
    }
}

#[cold]
fn wrong(entry: &Entry, result: u32, before: usize, after: usize) -> ! {
    let site = entry.run as *const () as usize;
    let cpu = segments::current_cpu();
    let (from, to) = kinds(before, after).into_inner();
    let (first, last) = (Kind::at(from), Kind::at(to));
    live_broken::expected(format_args!("{site:#x} returned {result:#x} on CPU {cpu}"));
    panic!(
        "the site in {site:#x} returned {result:#x} on CPU {cpu}, \
         in switch {from} ({first:?}) to {to} ({last:?})"
    );
}
