//! Making every CPU execute a serializing instruction: what must happen between a write to text and
//! relying on it (SDM vol. 3A section 8.1.3, "Handling Self- and Cross-Modifying Code").
//!
//! A request is a number, one higher than the last. Each CPU notes the highest request that it has
//! read *before* it serialized; so a CPU that has noted a number, or a higher one, has serialized
//! after that request was made, and one interrupt may answer several requests.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::{apic, cpu, segments, segments::MAX_CPUS, smp, traps, wait};

static REQUEST: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
/// Interrupts, for the tests.
static INTERRUPTS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// On return, every CPU that runs has executed a serializing instruction since the call began.
///
/// The others must have interrupts on sooner or later, or call this themselves: two CPUs may do so
/// at the same time, with interrupts off too, because each answers the other while it waits.
pub fn all() {
    // SeqCst: writes to text come before it; it pairs with the load in `answer`.
    let request = REQUEST.fetch_add(1, Ordering::SeqCst) + 1;
    apic::interrupt_others(traps::SYNC);
    for answered in ANSWERED.iter().take(smp::count()) {
        wait::until("a CPU serializes", || {
            answer();
            // Pairs with the fetch_max in `answer`.
            answered.load(Ordering::Acquire) >= request
        });
    }
}

/// The interrupt handler.
pub fn interrupt() {
    INTERRUPTS[segments::current_cpu()].fetch_add(1, Ordering::Relaxed);
    answer();
    apic::end_of_interrupt();
}

/// How many such interrupts `cpu` has had.
pub fn interrupts(cpu: usize) -> usize {
    INTERRUPTS[cpu].load(Ordering::Relaxed)
}

fn answer() {
    let answered = &ANSWERED[segments::current_cpu()];
    let request = REQUEST.load(Ordering::SeqCst);
    if answered.load(Ordering::Relaxed) < request {
        cpu::serialize();
        // The highest, because an interrupt may have answered a later one since the load.
        answered.fetch_max(request, Ordering::Release);
    }
}
