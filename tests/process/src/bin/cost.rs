//! Prints a line for each op that user mode may run: its name, and the nanoseconds per call before
//! and after patching, on this machine.
//!
//! The two are measured in turns, round after round. The best round counts, because other work of
//! the machine can only add time.

use std::hint::black_box;
use std::time::Instant;

use patchlet::{OneCpu, Patcher, pv};
use patchlet_process::{PROCESS, own_ops, remap};

/// The number of calls per round.
const CALLS: u32 = 1_000_000;
/// The number of rounds in each state.
const ROUNDS: usize = 15;

/// The name of an op, and a function that measures it in a loop of its own.
type Loop = (&'static str, fn() -> f64);

const LOOPS: [Loop; 5] = [
    ("irq.save_fl", || time(|| black_box(pv::save_fl()))),
    ("mmu.ident", || time(|| black_box(pv::ident(black_box(5))))),
    ("lock.queued_spin_unlock", || {
        let mut lock = 1;
        let byte = &raw mut lock;
        // SAFETY: the byte is a local variable.
        time(|| unsafe { pv::queued_spin_unlock(byte) })
    }),
    ("lock.vcpu_is_preempted", || time(|| black_box(pv::vcpu_is_preempted(black_box(1))))),
    ("own.swap_bytes", || time(|| black_box(own_ops::swap_bytes(black_box(5))))),
];

#[inline(always)]
fn time<R>(call: impl Fn() -> R) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
}

fn main() {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    let mut patcher = Patcher::new(&PROCESS, platform);
    let mut best = [[f64::INFINITY; 2]; LOOPS.len()];
    for _ in 0..ROUNDS {
        for (state, patched) in [false, true].into_iter().enumerate() {
            // SAFETY: this is the only thread, and no signal handler has a site.
            let report = unsafe {
                OneCpu::assume(|cpu| if patched { patcher.apply(cpu) } else { patcher.revert(cpu) })
            };
            report.expect("every site can be patched");
            for ((_, run), best) in LOOPS.iter().zip(&mut best) {
                best[state] = best[state].min(run());
            }
        }
    }
    for ((op, _), [before, after]) in LOOPS.iter().zip(best) {
        println!("{op} {before:.2} {after:.2}");
    }
}
