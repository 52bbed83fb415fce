//! Stops in a state, so that somebody can look at the memory: `-append stop=STATE,…`. The kernel
//! prints `stopped: STATE` and goes on when it gets a byte on COM1. A state inside a batch by INT3 is
//! `N/STEP`: the number of the batch, from 1, and the last step that was done.
//!
//! `tests/running_kernel.rs` dumps the memory of each state.

use core::{
    hint,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use patchlet::live::BatchStep;

use crate::{command_line, println, serial};

/// The number of batches by INT3 that have begun.
static BATCHES: AtomicUsize = AtomicUsize::new(0);

/// One bit for each state of the command line in which the kernel has stopped.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// Returns whether the command line wants a stop here, for the first time.
fn is_wanted(is_here: impl Fn(&str) -> bool) -> bool {
    let states = command_line::value("stop").unwrap_or_default();
    let Some(number) = states.split(',').position(is_here) else { return false };
    assert!(number < usize::BITS as usize, "too many states");
    let bit = 1 << number;
    STOPPED.fetch_or(bit, Relaxed) & bit == 0
}

/// Stops if the command line wants a stop in this state.
pub fn at(state: &str) {
    if is_wanted(|wanted| wanted == state) {
        println!("stopped: {state}");
        wait();
    }
}

/// Stops if the command line wants a stop after this step of this batch.
pub fn in_batch(step: BatchStep) {
    if step == BatchStep::Published {
        BATCHES.fetch_add(1, Relaxed);
    }
    let batch = BATCHES.load(Relaxed);
    let name = match step {
        BatchStep::Published => "published",
        BatchStep::Int3Written => "int3-written",
        BatchStep::Int3Synced => "int3-synced",
        BatchStep::TailsWritten => "tails-written",
        BatchStep::TailsSynced => "tails-synced",
        BatchStep::FirstWritten => "first-written",
        BatchStep::FirstSynced => "first-synced",
        _ => "unknown",
    };
    let is_this = |wanted: &str| {
        wanted
            .split_once('/')
            .is_some_and(|(number, step)| step == name && number.parse() == Ok(batch))
    };
    if is_wanted(is_this) {
        println!("stopped: {batch}/{name}");
        wait();
    }
}

fn wait() {
    while serial::read().is_none() {
        hint::spin_loop();
    }
}
