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

/// The number of timer interrupts of each CPU.
static TICKS: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// The address at which the last timer interrupt found each CPU.
static TICKED_AT: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];

/// Enables the local APIC of this CPU, so that it takes interrupts from other CPUs and its timer.
///
/// # Safety
/// - the page tables of this kernel are active on this CPU: they map the local APIC;
/// - the IDT of this kernel is loaded on this CPU.
pub unsafe fn enable() {
    write(SPURIOUS, ENABLE | u32::from(traps::SPURIOUS));
}

/// Makes the timer of this CPU interrupt it every `period` ticks. In QEMU a tick is a nanosecond.
pub fn start_timer(period: u32) {
    write(DIVIDE, DIVIDE_BY_1);
    write(LVT_TIMER, PERIODIC | u32::from(traps::TIMER));
    write(INITIAL_COUNT, period);
}

pub fn stop_timer() {
    write(INITIAL_COUNT, 0);
}

/// Returns the address at which the timer last interrupted `cpu`: that of the next instruction.
pub fn ticked_at(cpu: usize) -> usize {
    TICKED_AT[cpu].load(Relaxed)
}

/// Returns how often the timer of `cpu` has interrupted it.
pub fn ticks(cpu: usize) -> usize {
    TICKS[cpu].load(Relaxed)
}

/// Handles the timer's interrupt, which was taken before the instruction at `ip`. The PAUSE makes
/// QEMU run another CPU (see `wait`), so that others run while this one is inside a site.
pub fn tick(ip: usize) {
    TICKED_AT[segments::current_cpu()].store(ip, Relaxed);
    TICKS[segments::current_cpu()].fetch_add(1, Relaxed);
    hint::spin_loop();
    end_of_interrupt();
}

/// Tells the local APIC that the interrupt handler ends, so that the next interrupt can come.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Raises `vector` on every other CPU.
pub fn interrupt_others(vector: u8) {
    command(TO_ALL_OTHERS | ASSERT | FIXED | u32::from(vector));
}

/// Raises `vector` on this CPU. It stays pending while interrupts are off.
pub fn interrupt_self(vector: u8) {
    command(TO_SELF | ASSERT | FIXED | u32::from(vector));
}

/// Returns whether `vector` is pending on this CPU (SDM vol. 3A section 10.8.4, "Interrupt
/// Acceptance for Fixed Interrupts"). The register has 8 parts of 32 vectors, 16 bytes apart.
pub fn is_pending(vector: u8) -> bool {
    let (part, bit) = (usize::from(vector / 32), vector % 32);
    read(REQUESTS + 16 * part) >> bit & 1 == 1
}

/// Resets every other CPU. Each then waits for [`start_others`].
///
/// # Safety
/// - nothing relies on code that the other CPUs execute at this time.
pub unsafe fn reset_others() {
    command(TO_ALL_OTHERS | ASSERT | INIT);
}

/// Starts every other CPU at `address`, in real mode. CPUs that do not wait for a start ignore it.
///
/// # Safety
/// - `address` is the start of a page below 1 MiB;
/// - that page holds real-mode code for the other CPUs.
pub unsafe fn start_others(address: usize) {
    command(TO_ALL_OTHERS | ASSERT | START_UP | (address / paging::PAGE_SIZE) as u32);
}

/// Writes the interrupt command register and waits until the interrupt is sent. Interrupts are off
/// meanwhile, because a handler that writes the register must not do so before that.
fn command(value: u32) {
    cpu::with_interrupts_off(|| {
        write(COMMAND, value);
        while read(COMMAND) & PENDING != 0 {
            hint::spin_loop();
        }
    });
}

fn read(offset: usize) -> u32 {
    // SAFETY: `enable` requires that the local APIC is mapped. Reading the registers that are used
    // here has no effect.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: `enable` requires that the local APIC is mapped. The functions above say what the
    // write changes.
    unsafe { register(offset).write_volatile(value) };
}

fn register(offset: usize) -> *mut u32 {
    ptr::with_exposed_provenance_mut(paging::LOCAL_APIC + offset)
}
