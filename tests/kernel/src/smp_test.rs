//! Tests of the functions for several CPUs. They also pass with one CPU; `-append cpus=N` makes the
//! kernel fail if the machine has another number.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{
    apic, command_line, cpu, println, qemu, segments,
    segments::MAX_CPUS,
    self_test::{self, Test},
    smp, sync, wait,
};

pub const ALL: &[(&str, Test)] = &[
    ("every CPU starts", every_cpu_starts),
    ("every CPU passes the tests of one", every_cpu_passes_the_self_test),
    ("every CPU serializes when one asks", every_cpu_serializes),
    ("every CPU serializes when all ask", every_cpu_serializes_when_all_ask),
    ("the timer ticks on every CPU", the_timer_ticks),
    ("registers and flags survive interrupts", state_survives_interrupts),
];

/// The period of the timers in nanoseconds: a tenth of a millisecond.
const TIMER_PERIOD: u32 = 100_000;

// asm/state_*.S
unsafe extern "C" {
    fn state_survives(rounds: usize) -> usize;
}

fn every_cpu_starts() {
    // SAFETY: this test runs once, on the boot CPU.
    unsafe { smp::start() };
    println!("  {} of {}", smp::count(), qemu::cpu_count());
    assert_eq!(smp::count(), qemu::cpu_count());
    if let Some(cpus) = command_line::number("cpus") {
        assert_eq!(smp::count(), cpus, "-append cpus={cpus}");
    }
}

/// Runs the self-test on one CPU after the other. Two at once would write to the same scratch
/// buffer and to the same text.
fn every_cpu_passes_the_self_test() {
    static DONE_BY: AtomicUsize = AtomicUsize::new(0);

    for cpu in 1..smp::count() {
        let job = smp::run_on(cpu, || {
            for (_, test) in self_test::ALL {
                cpu::with_interrupts_off(test);
            }
            DONE_BY.store(segments::current_cpu(), Ordering::Relaxed);
        });
        job.wait();
        assert_eq!(DONE_BY.load(Ordering::Relaxed), cpu);
    }
}

fn every_cpu_serializes() {
    const CALLS: usize = 100;

    let before: [usize; MAX_CPUS] = core::array::from_fn(sync::interrupts);
    for _ in 0..CALLS {
        sync::all();
    }
    // The other CPUs had interrupts on and no job, so each request reached them by an interrupt.
    // The sender serializes itself without one.
    for (cpu, before) in before.iter().enumerate().take(smp::count()) {
        let expected = if cpu == segments::current_cpu() { 0 } else { CALLS };
        assert_eq!(sync::interrupts(cpu) - before, expected, "on CPU {cpu}");
    }
}

fn every_cpu_serializes_when_all_ask() {
    smp::run_on_all(|| {
        for _ in 0..100 {
            cpu::with_interrupts_off(sync::all);
            sync::all();
        }
    });
}

fn the_timer_ticks() {
    smp::run_on_all(|| {
        let ticks = || apic::ticks(segments::current_cpu());
        let before = ticks();
        apic::start_timer(TIMER_PERIOD);
        wait::until("the timer ticks 10 times", || ticks() - before >= 10);
        apic::stop_timer();
        cpu::with_interrupts_off(|| {
            let stopped = ticks();
            state(1000);
            assert_eq!(ticks(), stopped);
        });
    });
    for cpu in 0..smp::count() {
        println!("  {} on CPU {cpu}", apic::ticks(cpu));
    }
}

fn state_survives_interrupts() {
    /// The number of CPUs that have been interrupted often enough. They go on, because the other
    /// CPUs need interrupts from them.
    static CONTENT: AtomicUsize = AtomicUsize::new(0);

    smp::run_on_all(|| {
        let this = segments::current_cpu();
        // With one CPU there is no other to interrupt this one.
        let wanted_ipis = if smp::count() > 1 { 10 } else { 0 };
        let (mut ticks, mut ipis, mut content) = (0, 0, false);
        apic::start_timer(TIMER_PERIOD);
        wait::until("interrupts come while the state is watched", || {
            sync::all();
            let before = (apic::ticks(this), sync::interrupts(this));
            state(100);
            ticks += apic::ticks(this) - before.0;
            ipis += sync::interrupts(this) - before.1;
            if !content && ticks >= 10 && ipis >= wanted_ipis {
                content = true;
                CONTENT.fetch_add(1, Ordering::Relaxed);
            }
            CONTENT.load(Ordering::Relaxed) == smp::count()
        });
        apic::stop_timer();
    });
}

#[track_caller]
fn state(rounds: usize) {
    // SAFETY: the function follows the C ABI and has no other conditions.
    let failed = unsafe { state_survives(rounds) };
    assert_eq!(failed, 0, "registers or flags have changed");
}
