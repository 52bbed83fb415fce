//! The 32-bit sites that are in `asm/own.S`, and entering ring 3 by a patchlet.

use core::arch::asm;

use crate::segments::{USER_CODE_32, USER_DATA};

unsafe extern "C" {
    fn asm_iret(frame: *const [u32; 5]) -> !;
    fn asm_changed_registers() -> usize;
}

/// Returns the stack frame that `iret` pops on its way to ring 3 (SDM vol. 2A, "IRET"). It has no
/// stack, and flags with interrupts off.
fn frame(address: usize) -> [u32; 5] {
    [address as u32, USER_CODE_32.into(), 2, 0, USER_DATA.into()]
}

/// Goes to ring 3 by a site of `iret`.
///
/// # Safety
/// - the call is within `traps::catch`, which is the only way back;
/// - `address` is that of code for ring 3.
pub unsafe fn site_to_ring_3(address: usize) -> ! {
    // SAFETY: the frame is that of ring 3; the rest is the caller's duty.
    unsafe { asm_iret(&frame(address)) }
}

/// Goes to ring 3 by a copy of the patchlet `iret`.
///
/// # Safety
/// - the call is within `traps::catch`, which is the only way back;
/// - `address` is that of code for ring 3;
/// - `code` is the address of an executable copy of the patchlet.
pub unsafe fn patchlet_to_ring_3(code: usize, address: usize) -> ! {
    // SAFETY: the frame is that of ring 3; the rest is the caller's duty.
    unsafe {
        asm!("mov esp, {}", "jmp {}", in(reg) &frame(address), in(reg) code, options(noreturn))
    }
}

/// Executes a callee-save site and returns a bit for each register that it changed.
pub fn changed_registers() -> usize {
    // SAFETY: the function in `asm/own.S` keeps to C's ABI, whatever the site changes.
    unsafe { asm_changed_registers() }
}
