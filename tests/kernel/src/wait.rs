//! Waits for another CPU. The loop has a PAUSE, on which QEMU's `thread=single` lets the next CPU
//! run.

use core::hint;

use crate::cpu;

/// The longest wait, in ticks of the time stamp counter; 5 to 20 seconds at usual rates. It is
/// longer than a loaded host keeps a CPU waiting, and shorter than the time after which `run.sh`
/// stops QEMU.
const PATIENCE: u64 = 1 << 34;

/// Waits until `condition` holds. If that takes too long, the kernel fails and prints `what` it
/// waited for.
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
