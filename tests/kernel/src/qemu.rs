//! Devices of QEMU: `isa-debug-exit`, which ends QEMU, and `fw_cfg`, which describes the machine
//! (QEMU, docs/specs/fw_cfg).

use crate::cpu;

const DEBUG_EXIT: u16 = 0xf4;

const CONFIG_KEY: u16 = 0x510;
const CONFIG_DATA: u16 = 0x511;
const KEY_CPU_COUNT: u16 = 5;

/// The outcome of the tests. QEMU's exit status is `value << 1 | 1`, which `run.sh` checks.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// All tests passed: status 33.
    Success = 0x10,
    /// A test failed: status 35.
    Failure = 0x11,
}

pub fn exit(outcome: Outcome) -> ! {
    loop {
        // SAFETY: the write ends QEMU. Without the device it has no effect, and `run.sh` stops QEMU
        // after a time.
        unsafe { cpu::out_32(DEBUG_EXIT, outcome as u32) };
    }
}

/// Returns the number of CPUs of the machine.
pub fn cpu_count() -> usize {
    // SAFETY: selecting an item of `fw_cfg` and reading it byte by byte has no other effect.
    let bytes = unsafe {
        cpu::out_16(CONFIG_KEY, KEY_CPU_COUNT);
        [cpu::in_8(CONFIG_DATA), cpu::in_8(CONFIG_DATA)]
    };
    u16::from_le_bytes(bytes).into()
}
