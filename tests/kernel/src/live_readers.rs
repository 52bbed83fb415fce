//! The readers: CPUs that run the sites in rounds while another CPU switches them. Their interrupts
//! are on and their timers run.

use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{
    apic, live_sites, park, segments,
    segments::MAX_CPUS,
    smp::{self, Job},
    wait,
};

/// The period of the timers in nanoseconds: a twentieth of a millisecond.
const TIMER_PERIOD: u32 = 50_000;

static STOP: AtomicBool = AtomicBool::new(false);
static READING: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// The number of rounds that each CPU has started. At the start of a round the CPU is outside every
/// site, and so is all code that it has interrupted.
static ROUNDS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Runs `body` while all other CPUs are readers. The timer of this CPU runs as well.
pub fn while_reading(body: impl FnOnce()) {
    STOP.store(false, Ordering::Relaxed);
    let mut jobs: [Option<Job>; MAX_CPUS] = [const { None }; MAX_CPUS];
    for cpu in 1..smp::count() {
        READING[cpu].store(true, Ordering::Relaxed);
        jobs[cpu] = Some(smp::run_on(cpu, read));
    }
    apic::start_timer(TIMER_PERIOD);
    body();
    apic::stop_timer();
    STOP.store(true, Ordering::Relaxed);
    jobs.into_iter().flatten().for_each(Job::wait);
}

fn read() {
    let this = segments::current_cpu();
    apic::start_timer(TIMER_PERIOD);
    while !STOP.load(Ordering::Relaxed) {
        // Release pairs with the acquire loads in `wait_until_outside`: the sites that were
        // executed before are done when a writer sees this round.
        ROUNDS[this].fetch_add(1, Ordering::Release);
        park::point();
        hint::spin_loop();
        live_sites::run_all();
    }
    apic::stop_timer();
    READING[this].store(false, Ordering::Release);
}

/// Waits until each reader has been outside every site at least once since the call began.
pub fn wait_until_outside() {
    let before: [usize; MAX_CPUS] = core::array::from_fn(|cpu| ROUNDS[cpu].load(Ordering::Relaxed));
    for cpu in 1..smp::count() {
        wait::until("a reader begins a round", || {
            ROUNDS[cpu].load(Ordering::Acquire) != before[cpu]
                || !READING[cpu].load(Ordering::Acquire)
        });
    }
}
