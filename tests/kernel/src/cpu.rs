//! Single instructions.

use core::arch::asm;

/// The interrupt flag in [`flags`].
pub const FLAGS_IF: usize = 1 << 9;

/// # Safety
///
/// What the device does on the read is all right.
pub unsafe fn in_8(port: u16) -> u8 {
    let value;
    // SAFETY: the instruction touches no memory; the device is the caller's duty.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// # Safety
///
/// What the device does on the write is all right.
pub unsafe fn out_8(port: u16, value: u8) {
    // SAFETY: the caller's duty. No `nomem`: a device may well look at memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// # Safety
///
/// What the device does on the write is all right.
pub unsafe fn out_16(port: u16, value: u16) {
    // SAFETY: the caller's duty. No `nomem`: a device may well look at memory.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// # Safety
///
/// What the device does on the write is all right.
pub unsafe fn out_32(port: u16, value: u32) {
    // SAFETY: the caller's duty. No `nomem`: a device may well look at memory.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// # Safety
///
/// The CPU has this register, else #GP.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; that the register exists is the caller's duty.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// # Safety
///
/// The CPU has this register and takes this value, else #GP; what the value changes is all right.
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the caller's duty.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

pub fn read_cr0() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
///
/// The caller's code, data and stack stay mapped, and the bits are valid together.
pub unsafe fn write_cr0(value: usize) {
    // SAFETY: the caller's duty.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// The address of the last page fault.
pub fn read_cr2() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// What the next page fault will write over.
pub fn write_cr2(value: usize) {
    // SAFETY: the value of CR2 has no effect, and this is ring 0.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nostack, preserves_flags)) };
}

pub fn read_cr3() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
///
/// The address is that of a root table that maps the caller's code, data and stack.
pub unsafe fn write_cr3(value: usize) {
    // SAFETY: the caller's duty.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

pub fn read_cr4() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// # Safety
///
/// The CPU has these features, and having them on is all right.
pub unsafe fn write_cr4(value: usize) {
    // SAFETY: the caller's duty.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// EFLAGS, RFLAGS.
pub fn flags() -> usize {
    let value;
    // SAFETY: pushes one word and pops it.
    unsafe { asm!("pushf", "pop {}", out(reg) value, options(preserves_flags, att_syntax)) };
    value
}

/// Runs `body` with interrupts on; afterwards they are as they were before.
pub fn with_interrupts_on<R>(body: impl FnOnce() -> R) -> R {
    let before = flags();
    enable_interrupts();
    let result = body();
    if before & FLAGS_IF == 0 {
        disable_interrupts();
    }
    result
}

/// Runs `body` with interrupts off; afterwards they are as they were before.
pub fn with_interrupts_off<R>(body: impl FnOnce() -> R) -> R {
    let before = flags();
    disable_interrupts();
    let result = body();
    if before & FLAGS_IF != 0 {
        enable_interrupts();
    }
    result
}

/// The time stamp counter, in cycles of a constant rate.
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; CR4.TSD is clear.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Makes this CPU drop what it has already fetched or decoded: SDM vol. 3A section 8.3,
/// "Serializing Instructions", has MOV to a control register. CR2 is the one whose value has no
/// effect; it keeps it nevertheless, for an interrupt handler that serializes.
pub fn serialize() {
    // SAFETY: as said. No `nomem`: writes before this stay before it.
    unsafe { asm!("mov cr2, {}", in(reg) read_cr2(), options(nostack, preserves_flags)) };
}

/// The operand of LGDT and LIDT: SDM vol. 3A figure 2-6.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: usize,
}

/// # Safety
///
/// `table` is a GDT, stays where it is, and describes the segments in use.
pub unsafe fn load_gdt<T>(table: *const T) {
    let pointer = TablePointer { limit: (size_of::<T>() - 1) as u16, base: table.addr() };
    // SAFETY: reads the pointer; the table is the caller's duty.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// # Safety
///
/// `table` is an IDT and stays where it is.
pub unsafe fn load_idt<T>(table: *const T) {
    let pointer = TablePointer { limit: (size_of::<T>() - 1) as u16, base: table.addr() };
    // SAFETY: reads the pointer; the table is the caller's duty.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// # Safety
///
/// The selector is that of an available TSS in the GDT.
pub unsafe fn load_task_register(selector: u16) {
    // SAFETY: the caller's duty. The CPU marks the TSS busy, in the GDT.
    unsafe { asm!("ltr {:x}", in(reg) selector, options(nostack, preserves_flags)) };
}

pub fn task_register() -> u16 {
    let selector;
    // SAFETY: reading changes nothing.
    unsafe { asm!("str {:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector
}

/// STI and a NOP, behind which it takes effect.
pub fn enable_interrupts() {
    // SAFETY: every vector has a handler.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

pub fn disable_interrupts() {
    // SAFETY: holding interrupts off is always all right.
    unsafe { asm!("cli", options(nostack)) };
}

#[cfg(target_arch = "x86_64")]
const MSR_GS_BASE: u32 = 0xc000_0101;
#[cfg(target_arch = "x86_64")]
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// IA32_GS_BASE and IA32_KERNEL_GS_BASE, which SWAPGS exchanges.
#[cfg(target_arch = "x86_64")]
pub fn gs_bases() -> (u64, u64) {
    // SAFETY: every 64-bit CPU has them.
    unsafe { (read_msr(MSR_GS_BASE), read_msr(MSR_KERNEL_GS_BASE)) }
}

#[cfg(target_arch = "x86_64")]
pub fn write_gs_bases((base, kernel_base): (u64, u64)) {
    // SAFETY: every 64-bit CPU has them; the callers' values are canonical, and
    // nothing here uses GS.
    unsafe {
        write_msr(MSR_GS_BASE, base);
        write_msr(MSR_KERNEL_GS_BASE, kernel_base);
    }
}
