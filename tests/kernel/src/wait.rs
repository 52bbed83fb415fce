//! Waiting for another CPU.
//!
//! With PAUSE in the loop: QEMU's `thread=single` gives the next CPU its turn on it.

use core::hint;

use crate::cpu;

/// Cycles of the time stamp counter, 5 to 20 seconds of the usual ones: longer than a loaded host
/// keeps a CPU waiting, shorter than `run.sh` waits.
const PATIENCE: u64 = 1 << 34;

/// Waits until `condition` holds. If it never does, the kernel fails and says `what` it waited for.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_in_time(condition), "waited too long: {what}");
}

fn holds_in_time(mut condition: impl FnMut() -> bool) -> bool {
    let start = cpu::time_stamp();
    while !condition() {
        if cpu::time_stamp().wrapping_sub(start) > PATIENCE {
            return false;
        }
        hint::spin_loop();
    }
    true
}
