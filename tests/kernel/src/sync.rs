//! Makes every CPU execute a serializing instruction. That must happen between a write to text and
//! code that relies on it (SDM vol. 3A section 8.1.3, "Handling Self- and Cross-Modifying Code").
//! If a module was unloaded, it also forgets the translations of the pages.
//!
//! Requests are numbered upwards. A CPU reads the highest request, then serializes, then records
//! the number that it has read. A CPU that has recorded a number has therefore serialized after
//! that request and all before it were made, and one interrupt may answer several requests.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{apic, cpu, paging, segments, segments::MAX_CPUS, smp, traps, wait};

static REQUEST: AtomicUsize = AtomicUsize::new(0);
static ANSWERED: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
/// The number of such interrupts of each CPU, for the tests.
static INTERRUPTS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Waits until every CPU that runs has executed a serializing instruction since the call began.
///
/// Each other CPU must at some time have interrupts on or call this function itself. Two CPUs may
/// call it at the same time, even with interrupts off, because each answers the other while it
/// waits.
pub fn all() {
    // SeqCst orders the writes to text before the request. It pairs with the load in `answer`.
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

/// Whether CPUs forget translations, too.
static FORGET: AtomicBool = AtomicBool::new(false);

/// Waits until every CPU that runs has forgotten all translations since the call began. The rest is
/// as for [`all`].
pub fn all_forget_translations() {
    FORGET.store(true, Ordering::SeqCst);
    all();
    FORGET.store(false, Ordering::SeqCst);
}

/// Handles the interrupt of a request.
pub fn interrupt() {
    INTERRUPTS[segments::current_cpu()].fetch_add(1, Ordering::Relaxed);
    answer();
    apic::end_of_interrupt();
}

/// Returns how many such interrupts `cpu` has had.
pub fn interrupts(cpu: usize) -> usize {
    INTERRUPTS[cpu].load(Ordering::Relaxed)
}

fn answer() {
    let answered = &ANSWERED[segments::current_cpu()];
    let request = REQUEST.load(Ordering::SeqCst);
    if answered.load(Ordering::Relaxed) < request {
        if FORGET.load(Ordering::SeqCst) {
            paging::forget_translations();
        }
        cpu::serialize();
        // `fetch_max`, because an interrupt may have answered a later request since the load.
        answered.fetch_max(request, Ordering::Release);
    }
}
