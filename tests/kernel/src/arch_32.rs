//! The parts of the kernel that differ by width, for 32 bit.

use core::{arch::asm, mem::offset_of};

use crate::{
    segments::{KERNEL_CODE, KERNEL_DATA, Tss, USER_CODE_32, USER_DATA},
    traps::TrapFrame,
    user::UserEntry,
};

/// The distance of the second mapping. It is above the largest image and below the local APIC.
pub const DIRECT_MAP_OFFSET: usize = 0x4000_0000;

pub const PAGE_LEVELS: usize = 3;
/// The bits of a root entry: present. Root entries of PAE paging have no access rights (SDM vol. 3A
/// table 4-8).
pub const ROOT_ENTRY: u64 = 0b001;

/// The registers in a trap frame, in the order in which `asm/traps_32.S` pushes them.
pub const REGISTER_NAMES: [&str; 10] =
    ["es", "ds", "edi", "esi", "ebp", "(esp of pushal)", "ebx", "edx", "ecx", "eax"];

/// Asserts the offsets that `asm/traps_32.S` uses.
const _: () = assert!(
    offset_of!(TrapFrame, ip) == 48
        && offset_of!(TrapFrame, cs) == 52
        && offset_of!(TrapFrame, flags) == 56
        && offset_of!(TrapFrame, sp) == 60
);

/// A gate of the IDT (SDM vol. 3A section 6.11, "IDT Descriptors").
pub type Gate = [u64; 1];
pub const NO_GATE: Gate = [0; 1];

pub fn interrupt_gate(address: usize, ring: u64) -> Gate {
    let address = address as u64;
    let kind = 0x8e | ring << 5;
    [address & 0xffff | u64::from(KERNEL_CODE) << 16 | kind << 40 | (address >> 16) << 48]
}

/// Sets the stack for traps in ring 3, SS0:ESP0 (SDM vol. 3A section 7.2.1, "Task-State Segment
/// (TSS)").
pub fn set_trap_stack(tss: &mut Tss, top: usize) {
    tss[1] = top as u32;
    tss[2] = KERNEL_DATA.into();
}

/// Loads the segment registers.
///
/// # Safety
/// - the GDT that this CPU has loaded is that of [`crate::segments`].
pub unsafe fn load_segments() {
    // SAFETY: the selectors are those of flat ring 0 segments in the GDT, which the caller has
    // loaded. FS and GS are not used and become null.
    unsafe {
        asm!(
            "push {code}",
            "lea {scratch}, [2f]",
            "push {scratch}",
            "retf",
            "2:",
            "mov ss, {data:x}",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov fs, {null:x}",
            "mov gs, {null:x}",
            code = in(reg) u32::from(KERNEL_CODE),
            data = in(reg) KERNEL_DATA,
            null = in(reg) 0u16,
            scratch = out(reg) _,
            options(preserves_flags)
        );
    }
}

pub const USER_ENTRIES: &[UserEntry] =
    &[UserEntry { name: "iret", code: USER_CODE_32, enter: iret }];

unsafe fn iret(address: usize) -> ! {
    // SAFETY: the frame has ring 3 selectors, no stack, and flags with interrupts off; the caller
    // answers for the address.
    unsafe {
        asm!(
            "push {data}",
            "push 0",
            "push 2",
            "push {code}",
            "push {address}",
            "iretd",
            data = in(reg) u32::from(USER_DATA),
            code = in(reg) u32::from(USER_CODE_32),
            address = in(reg) address,
            options(noreturn)
        )
    }
}
