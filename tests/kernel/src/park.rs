//! Stopping the other CPUs in a known place: [`point`], which a CPU passes when it has nothing to
//! do, and between two rounds of what it does. It takes no interrupt to bring a CPU there, and none
//! could: where an interrupt finds it may be the middle of anything.

use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{cpu, smp, wait};

static WANTED: AtomicBool = AtomicBool::new(false);
static PARKED: AtomicUsize = AtomicUsize::new(0);

/// Waits here, with interrupts off, as long as [`with_others_parked`] wants it; has serialized this
/// CPU then.
pub fn point() {
    // Pairs with the stores in `with_others_parked`, as below.
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

/// Calls `body` with interrupts off, while all other CPUs are in [`point`]. Two CPUs must not call
/// this at the same time.
pub fn with_others_parked<R>(body: impl FnOnce() -> R) -> R {
    WANTED.store(true, Ordering::SeqCst);
    // With interrupts as they are: a CPU may want this one to answer before it gets there.
    wait::until("every other CPU parks", || PARKED.load(Ordering::Acquire) == smp::count() - 1);
    let result = cpu::with_interrupts_off(body);
    WANTED.store(false, Ordering::Release);
    // So that none of them is counted twice the next time.
    wait::until("every other CPU goes on", || PARKED.load(Ordering::Acquire) == 0);
    result
}
