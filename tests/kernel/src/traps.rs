//! The IDT, and what happens on a trap: an interrupt has its handler, an expected trap is recorded,
//! any other ends the kernel.
//!
//! A handler for more is a `match` arm in [`trap_dispatch`]: every vector has its stub and gate, and
//! a handler may change the frame, [`TrapFrame::sp`] included, and write below that, 8 bytes at most.

use core::{
    cell::{Cell, UnsafeCell},
    mem::ManuallyDrop,
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed},
};

use crate::{
    apic, arch, cpu, live, live_broken, println, qemu,
    segments::{self, KERNEL_CODE, KERNEL_DATA, MAX_CPUS},
    sync,
};

pub const BREAKPOINT: u8 = 3;
pub const INVALID_OPCODE: u8 = 6;
pub const PAGE_FAULT: u8 = 14;
/// Interrupts of the local APIC. It sends the spurious one when it has nothing to say after all, and
/// wants no answer (SDM vol. 3A section 10.9, "Spurious Interrupt").
pub const TIMER: u8 = 0x40;
pub const SYNC: u8 = 0x41;
pub const SPURIOUS: u8 = 0xff;
/// The one vector that ring 3 may raise by INT.
pub const USER_RETURN: u8 = 0x80;

/// Bytes per stub in `asm/trap_stubs.h`.
const STUB_SIZE: usize = 16;

/// What the CPU did when the trap came. `asm/traps_*.S` pushes and pops it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TrapFrame {
    /// In the order of [`arch::REGISTER_NAMES`].
    registers: [usize; arch::REGISTER_NAMES.len()],
    pub vector: usize,
    /// 0 for vectors without one.
    pub error_code: usize,
    pub ip: usize,
    pub cs: usize,
    pub flags: usize,
    pub sp: usize,
    pub ss: usize,
}

/// An expected trap that came.
#[derive(Clone, Copy)]
pub struct Trap {
    pub frame: TrapFrame,
    /// CR2: the address, if it was a page fault.
    pub fault_address: usize,
}

/// An expected trap, on the stack of the [`catch`] that expects it.
struct Expected {
    vector: u8,
    /// Written by `trap_catch`.
    resume_sp: UnsafeCell<usize>,
    caught: Cell<Option<Trap>>,
}

/// What each CPU expects, or null.
static EXPECTED: [AtomicPtr<Expected>; MAX_CPUS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

static mut IDT: [arch::Gate; 256] = [arch::NO_GATE; 256];

// asm/traps_*.S
unsafe extern "C" {
    static trap_stubs: [u8; 0];
    static trap_resume: [u8; 0];
    fn trap_catch(resume_sp: *mut usize, run: extern "C" fn(*mut u8), argument: *mut u8);
}

/// Fills the IDT: interrupt gates, so interrupts are off in handlers.
///
/// # Safety
/// - called once, by one CPU, before any CPU loads it.
pub unsafe fn build() {
    let idt = &raw mut IDT;
    // SAFETY: no other reference to it is made, and no CPU uses it yet.
    let idt = unsafe { &mut *idt };
    let stubs = (&raw const trap_stubs).addr();
    for (vector, gate) in idt.iter_mut().enumerate() {
        let ring = if vector == usize::from(USER_RETURN) { 3 } else { 0 };
        *gate = arch::interrupt_gate(stubs + vector * STUB_SIZE, ring);
    }
}

/// Makes this CPU use the IDT.
///
/// # Safety
/// - [`build`] was called, and this CPU has done [`segments::load`].
pub unsafe fn load() {
    // SAFETY: every gate leads to a stub, with a selector that the GDT has; the TSS has the stack.
    unsafe { cpu::load_idt(&raw const IDT) };
}

/// Runs `body` until it ends (`None`) or until `vector` comes, in ring 0 or 3, by fault, INT or
/// interrupt.
///
/// Any other trap ends the kernel. Flags and callee-saved registers are afterwards as they were
/// before. May be nested; the innermost one counts.
///
/// # Safety
/// - if the trap comes, the frames of `body` just go away: none of them has anything that must be
///   dropped, and no state that others rely on may be half changed then.
pub unsafe fn catch<F: FnOnce()>(vector: u8, body: F) -> Option<Trap> {
    extern "C" fn run<F: FnOnce()>(body: *mut u8) {
        // SAFETY: `catch` passes its `body`, which it does not use otherwise, and this is called
        // once.
        let body = unsafe { body.cast::<F>().read() };
        body();
    }

    let mut body = ManuallyDrop::new(body);
    let expected = Expected { vector, resume_sp: UnsafeCell::new(0), caught: Cell::new(None) };
    let slot = &EXPECTED[segments::current_cpu()];
    let outer = slot.swap((&raw const expected).cast_mut(), Relaxed);
    // SAFETY: it calls `run` with what `run` wants. That leaving `run` in the middle is all right
    // is the caller's duty.
    unsafe { trap_catch(expected.resume_sp.get(), run::<F>, (&raw mut body).cast()) };
    slot.store(outer, Relaxed);
    expected.caught.get()
}

/// Called by `asm/traps_*.S` on every trap, on the trap stack of this CPU or, in 32-bit ring 0, on
/// the interrupted one.
#[unsafe(no_mangle)]
extern "C" fn trap_dispatch(frame: &mut TrapFrame) {
    match frame.vector as u8 {
        TIMER => return apic::tick(frame.ip),
        SYNC => return sync::interrupt(),
        SPURIOUS => return,
        BREAKPOINT if live::breakpoint(frame) => return,
        _ => {}
    }

    let fault_address = cpu::read_cr2();
    let expected = EXPECTED[segments::current_cpu()].load(Relaxed);
    // SAFETY: null, or set by a `catch` of this CPU that has not returned.
    if let Some(expected) = unsafe { expected.as_ref() }
        && usize::from(expected.vector) == frame.vector
    {
        expected.caught.set(Some(Trap { frame: *frame, fault_address }));
        frame.ip = (&raw const trap_resume).addr();
        frame.cs = KERNEL_CODE.into();
        frame.flags = 1 << 1; // the bit that is always 1; trap_catch restores the flags
        // SAFETY: written by trap_catch before it called what trapped.
        frame.sp = unsafe { *expected.resume_sp.get() };
        frame.ss = KERNEL_DATA.into();
        return;
    }

    unexpected(frame, fault_address)
}

fn unexpected(frame: &TrapFrame, fault_address: usize) -> ! {
    static ENDING: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
    let cpu = segments::current_cpu();
    live_broken::expected(format_args!("trap {} at {:#x} on CPU {cpu}", frame.vector, frame.ip));
    // A trap while one is being printed would go on like this until the time is up.
    if !ENDING[cpu].swap(true, Relaxed) {
        println!("unexpected trap {} at {:#x} on CPU {cpu}", frame.vector, frame.ip);
        println!("  error code {:#x}, cr2 {fault_address:#x}", frame.error_code);
        println!(
            "  cs {:#x}, flags {:#x}, ss:sp {:#x}:{:#x}",
            frame.cs, frame.flags, frame.ss, frame.sp
        );
        for (name, value) in arch::REGISTER_NAMES.iter().zip(frame.registers) {
            println!("  {name} {value:#x}");
        }
    }
    qemu::exit(qemu::Outcome::Failure)
}
