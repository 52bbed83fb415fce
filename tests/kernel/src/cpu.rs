//! Functions of one privileged or system instruction each.

use core::arch::asm;

/// The interrupt flag, IF, as a bit of [`flags`].
pub const FLAGS_IF: usize = 1 << 9;

/// Reads a byte from an I/O port.
///
/// # Safety
/// - the effect of the read on the device breaks nothing that others rely on.
pub unsafe fn in_8(port: u16) -> u8 {
    let value;
    // SAFETY: the instruction accesses no memory; the caller answers for the device.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    };
    value
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// - the effect of the write, on the device and on memory, breaks nothing that others rely on.
pub unsafe fn out_8(port: u16, value: u8) {
    // SAFETY: the caller answers for the effect. Not `nomem`: the device may read or write memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Writes two bytes to an I/O port.
///
/// # Safety
/// - the effect of the write, on the device and on memory, breaks nothing that others rely on.
pub unsafe fn out_16(port: u16, value: u16) {
    // SAFETY: the caller answers for the effect. Not `nomem`: the device may read or write memory.
    unsafe { asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack, preserves_flags)) };
}

/// Writes four bytes to an I/O port.
///
/// # Safety
/// - the effect of the write, on the device and on memory, breaks nothing that others rely on.
pub unsafe fn out_32(port: u16, value: u32) {
    // SAFETY: the caller answers for the effect. Not `nomem`: the device may read or write memory.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags))
    };
}

/// Reads a model-specific register.
///
/// # Safety
/// - the CPU has this register; otherwise it raises #GP.
pub unsafe fn read_msr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; the caller answers for the register's existence.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// - the CPU has this register and accepts this value; otherwise it raises #GP;
/// - what the value changes breaks nothing that others rely on.
pub unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the caller answers for all effects of the value.
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

/// Writes CR0.
///
/// # Safety
/// - the caller's code, data and stack stay mapped;
/// - the combination of bits is valid; otherwise the CPU raises #GP.
pub unsafe fn write_cr0(value: usize) {
    // SAFETY: the caller answers for all effects of the value.
    unsafe { asm!("mov cr0, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Reads CR2, the address of the last page fault.
pub fn read_cr2() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes CR2. The next page fault overwrites the value.
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

/// Writes CR3, and so changes to other page tables.
///
/// # Safety
/// - `value` is the physical address of a root page table that maps the caller's code, data and
///   stack.
pub unsafe fn write_cr3(value: usize) {
    // SAFETY: the caller answers for all effects of the value.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

pub fn read_cr4() -> usize {
    let value;
    // SAFETY: reading changes nothing, and this is ring 0.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes CR4.
///
/// # Safety
/// - the CPU has the features of these bits; otherwise it raises #GP;
/// - no code relies on a feature that becomes enabled being disabled, or the reverse.
pub unsafe fn write_cr4(value: usize) {
    // SAFETY: the caller answers for all effects of the value.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Reads EFLAGS (RFLAGS).
pub fn flags() -> usize {
    let value;
    // SAFETY: pushes one word and pops it.
    unsafe { asm!("pushf", "pop {}", out(reg) value, options(preserves_flags, att_syntax)) };
    value
}

/// Runs `body` with interrupts on. Afterwards the interrupt flag is as it was before.
pub fn with_interrupts_on<R>(body: impl FnOnce() -> R) -> R {
    let before = flags();
    enable_interrupts();
    let result = body();
    if before & FLAGS_IF == 0 {
        disable_interrupts();
    }
    result
}

/// Runs `body` with interrupts off. Afterwards the interrupt flag is as it was before.
pub fn with_interrupts_off<R>(body: impl FnOnce() -> R) -> R {
    let before = flags();
    disable_interrupts();
    let result = body();
    if before & FLAGS_IF != 0 {
        enable_interrupts();
    }
    result
}

/// Reads the time stamp counter, which counts at a constant rate.
pub fn time_stamp() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading changes nothing; CR4.TSD is clear.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Executes a serializing instruction, so that this CPU drops what it has already fetched or
/// decoded. MOV to a control register is one (SDM vol. 3A section 8.3, "Serializing
/// Instructions"), and CR2 is the control register whose value has no effect. The value is kept,
/// because an interrupt handler that serializes may interrupt a page-fault handler.
pub fn serialize() {
    // SAFETY: the value of CR2 has no effect, and it is kept. Not `nomem`: the compiler must not
    // move writes to text behind this instruction.
    unsafe { asm!("mov cr2, {}", in(reg) read_cr2(), options(nostack, preserves_flags)) };
}

/// The operand of LGDT and LIDT (SDM vol. 3A figure 2-6).
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: usize,
}

/// Loads the address of the GDT.
///
/// # Safety
/// - `table` points to a GDT that describes the segments in use;
/// - it stays there for as long as this CPU uses it.
pub unsafe fn load_gdt<T>(table: *const T) {
    let pointer = TablePointer { limit: (size_of::<T>() - 1) as u16, base: table.addr() };
    // SAFETY: the instruction reads `pointer`, which is alive; the caller answers for the table.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// Loads the address of the IDT.
///
/// # Safety
/// - `table` points to an IDT;
/// - it stays there for as long as this CPU uses it.
pub unsafe fn load_idt<T>(table: *const T) {
    let pointer = TablePointer { limit: (size_of::<T>() - 1) as u16, base: table.addr() };
    // SAFETY: the instruction reads `pointer`, which is alive; the caller answers for the table.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// Loads the task register.
///
/// # Safety
/// - `selector` selects an available TSS in the GDT; otherwise the CPU raises #GP.
pub unsafe fn load_task_register(selector: u16) {
    // SAFETY: the caller answers for the selector. Not `nomem`: the CPU marks the TSS as busy in
    // the GDT.
    unsafe { asm!("ltr {:x}", in(reg) selector, options(nostack, preserves_flags)) };
}

pub fn task_register() -> u16 {
    let selector;
    // SAFETY: reading changes nothing.
    unsafe { asm!("str {:x}", out(reg) selector, options(nomem, nostack, preserves_flags)) };
    selector
}

/// Enables interrupts. They are taken from the instruction behind the NOP on: STI holds them off
/// for one instruction.
pub fn enable_interrupts() {
    // SAFETY: every vector of the IDT has a handler.
    unsafe { asm!("sti", "nop", options(nostack)) };
}

pub fn disable_interrupts() {
    // SAFETY: no code relies on interrupts being on without enabling them itself.
    unsafe { asm!("cli", options(nostack)) };
}

#[cfg(target_arch = "x86_64")]
const MSR_GS_BASE: u32 = 0xc000_0101;
#[cfg(target_arch = "x86_64")]
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Reads IA32_GS_BASE and IA32_KERNEL_GS_BASE, which SWAPGS exchanges.
#[cfg(target_arch = "x86_64")]
pub fn gs_bases() -> (u64, u64) {
    // SAFETY: every 64-bit CPU has these two registers.
    unsafe { (read_msr(MSR_GS_BASE), read_msr(MSR_KERNEL_GS_BASE)) }
}

#[cfg(target_arch = "x86_64")]
pub fn write_gs_bases((base, kernel_base): (u64, u64)) {
    // SAFETY: every 64-bit CPU has these two registers; all callers pass canonical addresses; and
    // this kernel does not use GS.
    unsafe {
        write_msr(MSR_GS_BASE, base);
        write_msr(MSR_KERNEL_GS_BASE, kernel_base);
    }
}
