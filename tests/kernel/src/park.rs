//! Stops the other CPUs in a known place, [`point`]. A CPU passes it when it has nothing to do, and
//! between two rounds of its job. An interrupt could not bring a CPU to a known place, because it
//! may find the CPU inside a site.

use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{cpu, smp, wait};

static WANTED: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// Waits with interrupts off while a call of [`with_others_parked`] wants this CPU parked.
/// Serializes this CPU before it returns from there.
pub fn point() {
    // The acquire loads here pair with the release stores in `with_others_parked`.
    if !WANTED.load(Ordering::Acquire) {
        return;
    }
    cpu::with_interrupts_off(|| {
        PARKED.fetch_add(1, Ordering::AcqRel);
        while WANTED.load(Ordering::Acquire) {
            hint::spin_loop();
        }
        cpu::serialize();
        PARKED.fetch_sub(1, Ordering::AcqRel);
    });
}

/// Calls `body` with interrupts off, while all other CPUs wait in [`point`]. Two CPUs must not call
/// this function at the same time.
pub fn with_others_parked<R>(body: impl FnOnce() -> R) -> R {
    WANTED.store(true, Ordering::SeqCst);
    // Interrupts stay as they are while this CPU waits: another CPU may need an answer of this one
    // before it reaches `point`.
    wait::until("every other CPU parks", || PARKED.load(Ordering::Acquire) == smp::count() - 1);
    let result = cpu::with_interrupts_off(body);
    WANTED.store(false, Ordering::Release);
    // Without this wait, a CPU that is slow to leave could be counted again by the next call.
    wait::until("every other CPU goes on", || PARKED.load(Ordering::Acquire) == 0);
    result
}
