//! The 64-bit sites that are in `asm/own.S`, and entering ring 3 by a patchlet.

use core::arch::asm;

unsafe extern "C" {
    fn asm_swapgs();
    fn asm_sysret(address: usize) -> !;
    fn asm_changed_registers() -> usize;
}

/// Executes a site of `swapgs`.
pub fn swapgs() {
    // SAFETY: the site exchanges the GS bases, which this kernel does not use.
    unsafe { asm_swapgs() }
}

/// Goes to ring 3 by a site of `usergs_sysret64`.
///
/// # Safety
/// - the call is within `traps::catch`, which is the only way back;
/// - `address` is that of code for ring 3.
pub unsafe fn site_to_ring_3(address: usize) -> ! {
    // SAFETY: `arch::load_segments` has set STAR; the caller answers for the address.
    unsafe { asm_sysret(address) }
}

/// Goes to ring 3 by a copy of the patchlet `usergs_sysret64`.
///
/// # Safety
/// - the call is within `traps::catch`, which is the only way back;
/// - `address` is that of code for ring 3;
/// - `code` is the address of an executable copy of the patchlet.
pub unsafe fn patchlet_to_ring_3(code: usize, address: usize) -> ! {
    // SAFETY: RCX is the address, R11 the flags (SDM vol. 2B, "SYSRET").
    unsafe { asm!("jmp {}", in(reg) code, in("rcx") address, in("r11") 2, options(noreturn)) }
}

/// Executes a callee-save site and returns a bit for each register that it changed.
pub fn changed_registers() -> usize {
    // SAFETY: the function in `asm/own.S` keeps to C's ABI, whatever the site changes.
    unsafe { asm_changed_registers() }
}
