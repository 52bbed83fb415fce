//! The parts of the kernel that differ by width, for 64 bit.

use core::arch::asm;

use crate::{
    cpu,
    segments::{KERNEL_CODE, KERNEL_DATA, Tss, USER_CODE_32, USER_CODE_64, USER_DATA},
    user::UserEntry,
};

/// The distance of the second mapping: the start of the upper half of the address space.
pub const DIRECT_MAP_OFFSET: usize = 0xffff_8000_0000_0000;

pub const PAGE_LEVELS: usize = 4;
/// The bits of a root entry: present, writable and user, as in the tables of the levels below.
pub const ROOT_ENTRY: u64 = 0b111;

/// The registers in a trap frame, in the order in which `asm/traps_64.S` pushes them.
pub const REGISTER_NAMES: [&str; 15] = [
    "r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx",
    "rax",
];

/// A gate of the IDT (SDM vol. 3A section 6.14.1, "64-Bit Mode IDT").
pub type Gate = [u64; 2];
pub const NO_GATE: Gate = [0; 2];

/// The number of the interrupt stack. Every trap changes to it, so a handler may write below the
/// interrupted stack pointer.
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

/// Sets the stack for traps, IST 1 (SDM vol. 3A section 7.7, "Task Management in 64-Bit Mode").
pub fn set_trap_stack(tss: &mut Tss, top: usize) {
    tss[9] = top as u32;
    tss[10] = (top >> 32) as u32;
}

/// Loads the segment registers, and the selectors that SYSRET loads into them.
///
/// # Safety
/// - the GDT that this CPU has loaded is that of [`crate::segments`].
pub unsafe fn load_segments() {
    const MSR_EFER: u32 = 0xc000_0080;
    const MSR_STAR: u32 = 0xc000_0081;
    const EFER_SCE: u64 = 1 << 0;

    // SAFETY: the selectors are those of flat ring 0 segments in the GDT, which the caller has
    // loaded. FS and GS are not used and become null. Every 64-bit CPU has SYSRET. No code in ring
    // 3 executes SYSCALL, so LSTAR can stay 0.
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
    // SAFETY: the frame has ring 3 selectors, no stack, and flags with interrupts off; the caller
    // answers for the address.
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

/// Goes to `address` in ring 3 by SYSRET, which takes the address from RCX and the flags from R11
/// (SDM vol. 2B, "SYSRET").
unsafe fn sysretq(address: usize) -> ! {
    // SAFETY: `load_segments` has set STAR; the flags have interrupts off; the caller answers for
    // the address.
    unsafe { asm!("sysretq", in("rcx") address, in("r11") 2, options(noreturn)) }
}
