//! Broken writers, chosen by `-append break=NAME`. They prove that the test notices a writer that
//! breaks the protocol.
//!
//! | name | what is wrong |
//! |---|---|
//! | `plain-copy` | the new bytes are just copied, with the other CPUs running |
//! | `tail-first` | the tail is written before the first byte keeps CPUs out |
//! | `no-first-sync` | nobody waits between the INT3s and the tails |
//! | `no-middle-sync` | nobody waits between the tails and the first bytes |
//! | `inside` | the INT3 protocol where somebody is inside, against its rule |
//!
//! Such a run passes if a reader gets a wrong result, or traps. With `no-middle-sync` no reader
//! does in QEMU: that writer endangers a CPU that has fetched the old tail ahead and then executes
//! it behind the new first byte, and QEMU's CPUs do not fetch ahead.

use core::{
    fmt, hint,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use patchlet::{Goal, OneCpu, Patcher};

use crate::{
    command_line, finish,
    live::{self, AllText, Int3Writer, Interrupts, Shared},
    paging, println, sync,
};

/// Whether a broken writer is at work.
static AT_WORK: AtomicBool = AtomicBool::new(false);
static SWITCHES: AtomicUsize = AtomicUsize::new(0);

fn name() -> &'static str {
    command_line::value("break").unwrap_or_default()
}

/// Learns of each failure. If a broken writer is at work, the failure was to be shown, and the
/// kernel ends with success.
pub fn expected(what: fmt::Arguments<'_>) {
    if AT_WORK.load(Relaxed) {
        println!("caught break={} in switch {}: {what}", name(), SWITCHES.load(Relaxed));
        finish();
    }
}

type PlainPatcher = Patcher<'static, AllText>;

/// A writer that is broken.
pub enum Broken {
    /// A writer that copies bytes while other CPUs run. The function returns the two ranges of a
    /// site's bytes in the order in which they are copied.
    Copy(PlainPatcher, fn(usize) -> [Range<usize>; 2]),
    /// A writer by the INT3 protocol with too few synchronizations, or against its rule.
    Int3(Int3Writer),
}

impl Broken {
    /// Makes the broken writer that the command line names, if it names one.
    pub fn named(live: &'static Shared) -> Option<Self> {
        let copy = |order| Self::Copy(Patcher::new(live.sets()[0], live::platform()), order);
        let int3 = |interrupts| Self::Int3(live::int3_outside_by(live, interrupts));
        let broken = match command_line::value("break")? {
            "plain-copy" => copy(|length| [0..length, length..length]),
            "tail-first" => copy(|length| [1..length, 0..1]),
            "no-first-sync" => int3(Interrupts::too_few(true, Some(0))),
            "no-middle-sync" => int3(Interrupts::too_few(true, Some(1))),
            "inside" => int3(Interrupts::too_few(false, None)),
            name => panic!("unknown: -append break={name}"),
        };
        AT_WORK.store(true, Relaxed);
        Some(broken)
    }

    /// Switches every site to what its slot holds, or back to its indirect call.
    pub fn switch(&mut self, goal: Goal) {
        SWITCHES.fetch_add(1, Relaxed);
        match self {
            Self::Copy(patcher, order) => copy(patcher, *order, goal),
            Self::Int3(int3) => {
                let result = if goal == Goal::Patched { int3.apply() } else { int3.revert() };
                result.unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    /// Ends the kernel when no reader has noticed the broken writer.
    pub fn not_caught(&self) -> ! {
        AT_WORK.store(false, Relaxed);
        panic!("break={}: not caught in {} switches", name(), SWITCHES.load(Relaxed));
    }
}

fn copy(patcher: &mut PlainPatcher, order: fn(usize) -> [Range<usize>; 2], goal: Goal) {
    let plan = patcher.plan(goal).unwrap_or_else(|error| panic!("{error}"));
    for site in plan.outcomes() {
        for part in order(site.new_bytes.bytes().len()) {
            for at in part {
                // SAFETY: the address is the alias of a byte of a site. Other CPUs execute the site
                // meanwhile; that is the mistake that this writer makes on purpose.
                unsafe {
                    paging::alias(site.address + at).write_volatile(site.new_bytes.bytes()[at])
                };
                for _ in 0..20 {
                    hint::spin_loop();
                }
            }
            sync::all();
        }
    }
    // The bytes are already those that the patcher would write. It runs so that it knows the state
    // of the sites.
    // SAFETY: other CPUs run; that is the mistake that this writer makes on purpose.
    let result = unsafe {
        OneCpu::assume(|cpu| match goal {
            Goal::Patched => patcher.apply(cpu),
            Goal::Original => patcher.revert(cpu),
        })
    };
    let report = result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.changed, 0);
}
