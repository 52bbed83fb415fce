//! The 32-bit sites that are in `asm/own.S`, and entering ring 3 by a patchlet.

use core::arch::asm;

use crate::segments::{USER_CODE_32, USER_DATA};

unsafe extern "C" {
    fn asm_iret(frame: *const [u32; 5]) -> !;
    fn asm_changed_registers() -> usize;
}

/// What `iret` pops on its way to ring 3 (SDM vol. 2A, "IRET"): no stack, and
/// flags with interrupts off.
fn frame(address: usize) -> [u32; 5] {
    [address as u32, USER_CODE_32.into(), 2, 0, USER_DATA.into()]
}

/// To ring 3 by a site of `iret`.
///
/// # Safety
///
/// Within `traps::catch`, for nothing else comes back; the address is that of code
/// for ring 3.
pub unsafe fn site_to_ring_3(address: usize) -> ! {
    // SAFETY: the frame is that of ring 3; the rest is the caller's duty.
    unsafe { asm_iret(&frame(address)) }
}

/// To ring 3 by a copy of the patchlet `iret`.
///
/// # Safety
///
/// As [`site_to_ring_3`]; `code` is the copy.
pub unsafe fn patchlet_to_ring_3(code: usize, address: usize) -> ! {
    // SAFETY: the frame is that of ring 3; the rest is the caller's duty.
    unsafe {
        asm!("mov esp, {}", "jmp {}", in(reg) &frame(address), in(reg) code, options(noreturn))
    }
}

/// A bit for each register that a callee-save site changed.
pub fn changed_registers() -> usize {
    // SAFETY: keeps to C's ABI, whatever the site does.
    unsafe { asm_changed_registers() }
}
