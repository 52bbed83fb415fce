//! The 64-bit sites that are in `asm/own.S`, and entering ring 3 by a patchlet.

use core::arch::asm;

unsafe extern "C" {
    fn asm_swapgs();
    fn asm_sysret(address: usize) -> !;
    fn asm_changed_registers() -> usize;
}

/// A site of `swapgs`.
pub fn swapgs() {
    // SAFETY: exchanges the GS bases, which this kernel does not use.
    unsafe { asm_swapgs() }
}

/// To ring 3 by a site of `usergs_sysret64`.
///
/// # Safety
///
/// Within `traps::catch`, for nothing else comes back; the address is that of code
/// for ring 3.
pub unsafe fn site_to_ring_3(address: usize) -> ! {
    // SAFETY: the caller's duty; STAR is set.
    unsafe { asm_sysret(address) }
}

/// To ring 3 by a copy of the patchlet `usergs_sysret64`.
///
/// # Safety
///
/// As [`site_to_ring_3`]; `code` is the copy.
pub unsafe fn patchlet_to_ring_3(code: usize, address: usize) -> ! {
    // SAFETY: RCX is the address, R11 the flags (SDM vol. 2B, "SYSRET").
    unsafe { asm!("jmp {}", in(reg) code, in("rcx") address, in("r11") 2, options(noreturn)) }
}

/// A bit for each register that a callee-save site changed.
pub fn changed_registers() -> usize {
    // SAFETY: keeps to C's ABI, whatever the site does.
    unsafe { asm_changed_registers() }
}
