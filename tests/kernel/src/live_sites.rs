//! The sites that are switched while other CPUs run them, and what a CPU that runs one may see.
//!
//! A switch has a number, from 0 on, and takes all sites from [`Kind::at`] the number to that at the
//! next one. [`PROGRESS`] says how far it is; so a CPU that looks there before and after it has run
//! a site knows exactly which kinds it may have met.

use core::{
    ops::RangeInclusive,
    sync::atomic::{
        AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use patchlet::ops::Target;

use crate::{
    cpu, live_broken,
    own::ops::{self, Id},
    segments,
    segments::MAX_CPUS,
};

/// What a site can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The op's patchlet.
    Native,
    /// A direct call of the first made-up hypervisor's function.
    A,
    /// Of the second one's.
    B,
    /// NOPs.
    Nops,
    /// The identity patchlet; in 32-bit code NOPs.
    Identity,
    /// The indirect call, of a third function.
    Indirect,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Native, Self::A, Self::B, Self::Nops, Self::Identity, Self::Indirect];

    /// Switches until each kind has become each other kind, once.
    pub const ROUND: usize = Self::ALL.len() * (Self::ALL.len() - 1);

    /// What all sites are before switch `number`.
    pub fn at(number: usize) -> Self {
        Self::SEQUENCE[number % Self::ROUND]
    }

    /// 0 1 0 2 … 0 5 1 2 1 3 … 4 5, and from the start: every pair, in both orders, once.
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

    fn target(self, op: Id) -> Target {
        match self {
            Self::Native => ops::TABLE.ops()[op as usize].native(),
            Self::A => A,
            Self::B => Target::function(live_b as *const ()),
            Self::Nops => Target::NOP,
            Self::Identity => Target::IDENT,
            Self::Indirect => Target::function(live_c as *const ()),
        }
    }

    /// Puts the functions of this kind into the slots.
    pub fn select(self) {
        // SAFETY: the functions are of the callee-save class and part of the kernel. What they
        // return is for `is_right` to judge.
        unsafe { ops::install(&OPS.map(|op| (op, self.target(op)))) };
    }
}

/// The first hypervisor's function for either op.
pub const A: Target = Target::function(live_a as *const ());

const OPS: [Id; 2] = [Id::zero, Id::flags];
/// `asm/live.S` has these numbers as well.
const _: () = assert!(Id::zero as usize == 2 && Id::flags as usize == 3);

// The same, and what is returned.
const UNCHANGED: u32 = 0x0d0d_0d0d;
const ARGUMENT: u32 = 0x1d1d_1d1d;
const RETURNED_BY_A: u32 = 0xa0a0_a0a0;
const RETURNED_BY_B: u32 = 0xb0b0_b0b0;
const RETURNED_BY_C: u32 = 0xc0c0_c0c0;

/// As `asm/live.S` lays it out.
#[repr(C)]
struct Entry {
    run: extern "C" fn() -> u32,
    op: usize,
}

// asm/live.S
unsafe extern "C" {
    static live_sites: [Entry; 0];
    static live_sites_end: [Entry; 0];
    fn live_a();
    fn live_b();
    fn live_c();
}

/// Beside those of the assembly two that Rust code has.
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
    // SAFETY: the labels are the ends of a read-only array.
    unsafe { core::slice::from_raw_parts(start.cast(), length) }
}

/// How many there are.
pub fn count() -> usize {
    in_assembly().len() + IN_RUST.len()
}

/// Whether a slot is that of a site here.
pub fn has_slot(address: usize) -> bool {
    ops::TABLE
        .index_of_slot(address)
        .is_some_and(|index| OPS.iter().any(|&op| op as usize == index))
}

/// Twice the number of the last switch that was made; and one more while one is being made.
static PROGRESS: AtomicUsize = AtomicUsize::new(0);

/// What each CPU has run.
static EXECUTIONS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// How many sites `cpu` has run; every result was right.
pub fn executions(cpu: usize) -> usize {
    EXECUTIONS[cpu].load(Relaxed)
}

/// Makes switch `number` by `switch`.
pub fn announce<R>(number: usize, switch: impl FnOnce() -> R) -> R {
    PROGRESS.store(2 * number + 1, SeqCst);
    let result = switch();
    PROGRESS.store(2 * number + 2, SeqCst);
    result
}

/// Runs every site, with interrupts on, and checks what it returns.
pub fn run_all() {
    let nops = if cfg!(target_arch = "x86_64") { UNCHANGED } else { ARGUMENT };
    for entry in in_assembly() {
        run(entry, |result| result == nops);
    }
    for entry in &IN_RUST {
        // What the register held before is the compiler's choice.
        run(entry, |_| true);
    }
    EXECUTIONS[segments::current_cpu()].fetch_add(count(), Relaxed);
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

/// A site that was begun at `before` and had ended at `after` is of the kind before the last switch
/// that had ended, or of any later one up to the kind behind the last switch that had begun.
fn kinds(before: usize, after: usize) -> RangeInclusive<usize> {
    before / 2..=after.div_ceil(2)
}

fn is_right_natively(op: usize, result: u32) -> bool {
    const STATUS: usize = 0x8d5; // OF, SF, ZF, AF, PF, CF
    const ALWAYS: usize = 1 << 1;
    if op == Id::zero as usize {
        result == 0
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
