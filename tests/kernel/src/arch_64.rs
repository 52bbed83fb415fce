//! What 64-bit has otherwise.

use core::arch::asm;

use crate::{
    cpu,
    segments::{KERNEL_CODE, KERNEL_DATA, Tss, USER_CODE_32, USER_CODE_64, USER_DATA},
    user::UserEntry,
};

/// The start of the upper half.
pub const DIRECT_MAP_OFFSET: usize = 0xffff_8000_0000_0000;

pub const PAGE_LEVELS: usize = 4;
/// Present, writable, user, like the levels below.
pub const ROOT_ENTRY: u64 = 0b111;

/// As `asm/traps_64.S` pushes them.
pub const REGISTER_NAMES: [&str; 15] = [
    "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx",
    "rax",
];

/// SDM vol. 3A section 6.14.1, "64-Bit Mode IDT".
pub type Gate = [u64; 2];
pub const NO_GATE: Gate = [0; 2];

/// Every trap changes to the trap stack of its CPU, so a handler may push onto the interrupted one.
const IST: u64 = 1;

pub fn interrupt_gate(address: usize, ring: u64) -> Gate {
    let address = address as u64;
    let kind = 0x8e | ring << 5;
    [
        address & 0xffff
            | u64::from(KERNEL_CODE) << 16
            | IST << 32
            | kind << 40
            | (address >> 16 & 0xffff) << 48,
        address >> 32,
    ]
}

/// IST 1: SDM vol. 3A section 7.7, "Task Management in 64-Bit Mode".
pub fn set_trap_stack(tss: &mut Tss, top: usize) {
    tss[9] = top as u32;
    tss[10] = (top >> 32) as u32;
}

/// Loads the segment registers, and what SYSRET loads them with.
///
/// # Safety
///
/// The GDT that this CPU has loaded is that of [`crate::segments`].
pub unsafe fn load_segments() {
    const MSR_EFER: u32 = 0xc000_0080;
    const MSR_STAR: u32 = 0xc000_0081;
    const EFER_SCE: u64 = 1 << 0;

    // SAFETY: the selectors are those of flat ring 0 segments. FS and GS have no use and become
    // null. Every 64-bit CPU has SYSRET. Nothing in ring 3 executes SYSCALL, so LSTAR stays 0.
    unsafe {
        asm!(
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:x}",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov fs, {null:x}",
            "mov gs, {null:x}",
            code = in(reg) u64::from(KERNEL_CODE),
            data = in(reg) KERNEL_DATA,
            null = in(reg) 0u16,
            scratch = out(reg) _,
            options(preserves_flags)
        );
        cpu::write_msr(MSR_STAR, u64::from(USER_CODE_32) << 48 | u64::from(KERNEL_CODE) << 32);
        cpu::write_msr(MSR_EFER, cpu::read_msr(MSR_EFER) | EFER_SCE);
    }
}

pub const USER_ENTRIES: &[UserEntry] = &[
    UserEntry { name: "iretq, 64-bit code", code: USER_CODE_64, enter: iretq::<USER_CODE_64> },
    UserEntry { name: "iretq, 32-bit code", code: USER_CODE_32, enter: iretq::<USER_CODE_32> },
    UserEntry { name: "sysretq", code: USER_CODE_64, enter: sysretq },
];

unsafe fn iretq<const CODE: u16>(address: usize) -> ! {
    // SAFETY: the frame has ring 3 selectors, no stack, and flags with interrupts off; the address
    // is the caller's duty.
    unsafe {
        asm!(
            "push {data}",
            "push 0",
            "push 2",
            "push {code}",
            "push {address}",
            "iretq",
            data = in(reg) u64::from(USER_DATA),
            code = in(reg) u64::from(CODE),
            address = in(reg) address,
            options(noreturn)
        )
    }
}

/// RCX is the address, R11 the flags: SDM vol. 2B, "SYSRET".
unsafe fn sysretq(address: usize) -> ! {
    // SAFETY: `load_segments` has set STAR; the flags have interrupts off; the address is the
    // caller's duty.
    unsafe { asm!("sysretq", in("rcx") address, in("r11") 2, options(noreturn)) }
}
