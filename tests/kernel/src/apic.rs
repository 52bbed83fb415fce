//! The local APIC of each CPU: interrupts to other CPUs, and a timer.

use core::{
    hint, ptr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::{cpu, paging, segments, segments::MAX_CPUS, traps};

// SDM vol. 3A table 10-1, "Local APIC Register Address Map".
const EOI: usize = 0xb0;
const SPURIOUS: usize = 0xf0;
const REQUESTS: usize = 0x200;
const COMMAND: usize = 0x300;
const LVT_TIMER: usize = 0x320;
const INITIAL_COUNT: usize = 0x380;
const DIVIDE: usize = 0x3e0;

const ENABLE: u32 = 1 << 8; // figure 10-23, "Spurious-Interrupt Vector Register (SVR)"
const PERIODIC: u32 = 1 << 17; // figure 10-8, "Local Vector Table (LVT)"
const DIVIDE_BY_1: u32 = 0b1011; // figure 10-10, "Divide Configuration Register"

// Figure 10-12, "Interrupt Command Register (ICR)".
const FIXED: u32 = 0 << 8;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const TO_SELF: u32 = 1 << 18;
const TO_ALL_OTHERS: u32 = 3 << 18;

/// Timer interrupts of each CPU.
static TICKS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Where each CPU was when the last of these came.
static TICKED_AT: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Lets this CPU have interrupts from others and from its timer.
///
/// # Safety
///
/// The paging of this kernel is active on this CPU, and its IDT is loaded.
pub unsafe fn enable() {
    write(SPURIOUS, ENABLE | u32::from(traps::SPURIOUS));
}

/// Makes the timer of this CPU interrupt it after `period` and ever again. QEMU's counts
/// nanoseconds.
pub fn start_timer(period: u32) {
    write(DIVIDE, DIVIDE_BY_1);
    write(LVT_TIMER, PERIODIC | u32::from(traps::TIMER));
    write(INITIAL_COUNT, period);
}

pub fn stop_timer() {
    write(INITIAL_COUNT, 0);
}

/// Returns where the timer last interrupted `cpu`: the address that it went on at.
pub fn ticked_at(cpu: usize) -> usize {
    TICKED_AT[cpu].load(Relaxed)
}

/// How often the timer of `cpu` has interrupted it.
pub fn ticks(cpu: usize) -> usize {
    TICKS[cpu].load(Relaxed)
}

/// Handles the timer's interrupt, which was taken before the instruction at `ip`. Its PAUSE gives
/// another CPU its turn (see `wait`) while this one is in the middle of something.
pub fn tick(ip: usize) {
    TICKED_AT[segments::current_cpu()].store(ip, Relaxed);
    TICKS[segments::current_cpu()].fetch_add(1, Relaxed);
    hint::spin_loop();
    end_of_interrupt();
}

/// Called at the end of an interrupt handler: the next interrupt may come.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Raises `vector` on every other CPU.
pub fn interrupt_others(vector: u8) {
    command(TO_ALL_OTHERS | ASSERT | FIXED | u32::from(vector));
}

/// Raises `vector` on this CPU; it stays pending while interrupts are off.
pub fn interrupt_self(vector: u8) {
    command(TO_SELF | ASSERT | FIXED | u32::from(vector));
}

/// Tells whether `vector` is pending on this CPU: SDM vol. 3A section 10.8.4, "Interrupt Acceptance
/// for Fixed Interrupts". The register has 32 vectors in each of its 8 parts, 16 bytes apart.
pub fn is_pending(vector: u8) -> bool {
    let (part, bit) = (usize::from(vector / 32), vector % 32);
    read(REQUESTS + 16 * part) >> bit & 1 == 1
}

/// Resets every other CPU: it waits for [`start_others`] then.
///
/// # Safety
///
/// What the others were doing need not go on.
pub unsafe fn reset_others() {
    command(TO_ALL_OTHERS | ASSERT | INIT);
}

/// Starts every other CPU at `address`, in real mode. Those that do not wait for it take no notice.
///
/// # Safety
///
/// `address` is that of a page below 1 MiB, and there is code for it.
pub unsafe fn start_others(address: usize) {
    command(TO_ALL_OTHERS | ASSERT | START_UP | (address / paging::PAGE_SIZE) as u32);
}

/// With interrupts off, for a handler must not get between.
fn command(value: u32) {
    cpu::with_interrupts_off(|| {
        write(COMMAND, value);
        while read(COMMAND) & PENDING != 0 {
            hint::spin_loop();
        }
    });
}

fn read(offset: usize) -> u32 {
    // SAFETY: mapped, and none of the registers here changes by being read.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: mapped; the functions above say what they change.
    unsafe { register(offset).write_volatile(value) };
}

fn register(offset: usize) -> *mut u32 {
    ptr::with_exposed_provenance_mut(paging::LOCAL_APIC + offset)
}
