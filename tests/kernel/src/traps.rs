//! The IDT, and the handling of traps. An interrupt has a handler, an expected trap is recorded,
//! and any other trap ends the kernel.
//!
//! To add a handler, add a `match` arm in [`trap_dispatch`]: every vector has a stub and a gate. A
//! handler may change the frame, [`TrapFrame::sp`] included, and may write at most 8 bytes below
//! the interrupted stack pointer.

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
// Vectors of the local APIC. It sends the spurious interrupt if another one was withdrawn, and
// expects no end-of-interrupt for it (SDM vol. 3A section 10.9, "Spurious Interrupt").
pub const TIMER: u8 = 0x40;
pub const SYNC: u8 = 0x41;
pub const SPURIOUS: u8 = 0xff;
/// The only vector that ring 3 may raise by INT.
pub const USER_RETURN: u8 = 0x80;

/// The size of a stub in `asm/trap_stubs.h`, in bytes.
const STUB_SIZE: usize = 16;

/// The state of the interrupted code. `asm/traps_*.S` pushes and pops it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TrapFrame {
    /// The registers, in the order of [`arch::REGISTER_NAMES`].
    registers: [usize; arch::REGISTER_NAMES.len()],
    pub vector: usize,
    /// The error code; 0 for vectors without one.
    pub error_code: usize,
    pub ip: usize,
    pub cs: usize,
    pub flags: usize,
    pub sp: usize,
    pub ss: usize,
}

impl TrapFrame {
    /// Returns the register of this letter: EAX or RAX for `a`.
    pub fn register(&self, letter: u8) -> usize {
        let mut named = arch::REGISTER_NAMES.iter().zip(self.registers);
        let found = named.find(|(name, _)| name.as_bytes()[1..] == [letter, b'x']);
        found.map_or(0, |(_, value)| value)
    }

    /// Returns RAX, or EAX.
    pub fn accumulator(&self) -> usize {
        self.registers[arch::REGISTER_NAMES.len() - 1]
    }
}

/// An expected trap that came.
#[derive(Clone, Copy)]
pub struct Trap {
    pub frame: TrapFrame,
    /// The value of CR2: for a page fault, its address.
    pub fault_address: usize,
}

/// The record of an expected trap, on the stack of the [`catch`] that expects it.
struct Expected {
    vector: u8,
    /// The stack pointer to go back to. `trap_catch` writes it.
    resume_sp: UnsafeCell<usize>,
    caught: Cell<Option<Trap>>,
}

/// The innermost trap that each CPU expects, or null.
static EXPECTED: [AtomicPtr<Expected>; MAX_CPUS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; MAX_CPUS];

static mut IDT: [arch::Gate; 256] = [arch::NO_GATE; 256];

// asm/traps_*.S
unsafe extern "C" {
    static trap_stubs: [u8; 0];
    static trap_resume: [u8; 0];
    fn trap_catch(resume_sp: *mut usize, run: extern "C" fn(*mut u8), argument: *mut u8);
}

/// Fills the IDT with interrupt gates, so that interrupts are off in handlers.
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
    // SAFETY: `build` has made every gate lead to a stub, with a selector of the GDT, and
    // `segments::load` has set the stack for traps in the TSS.
    unsafe { cpu::load_idt(&raw const IDT) };
}

/// Runs `body` until it ends, and then returns `None`; or until `vector` comes, in ring 0 or 3, by
/// fault, INT or interrupt, and then returns the trap.
///
/// Any other trap ends the kernel. Afterwards, flags and callee-saved registers are as they were
/// before. Calls can be nested; the innermost expects its trap.
///
/// # Safety
/// - if the trap comes, the frames of `body` just go away: none of them has anything that must be
///   dropped, and no state that others rely on may be half changed then.
pub unsafe fn catch<F: FnOnce()>(vector: u8, body: F) -> Option<Trap> {
    extern "C" fn run<F: FnOnce()>(body: *mut u8) {
        // SAFETY: `catch` passes the address of its `body`, does not use `body` otherwise, and
        // makes `trap_catch` call this function once.
        let body = unsafe { body.cast::<F>().read() };
        body();
    }

    let mut body = ManuallyDrop::new(body);
    let expected = Expected { vector, resume_sp: UnsafeCell::new(0), caught: Cell::new(None) };
    let slot = &EXPECTED[segments::current_cpu()];
    let outer = slot.swap((&raw const expected).cast_mut(), Relaxed);
    // SAFETY: `trap_catch` calls `run` with the third argument, the address of `body`. The caller
    // answers for leaving `run` in the middle.
    unsafe { trap_catch(expected.resume_sp.get(), run::<F>, (&raw mut body).cast()) };
    slot.store(outer, Relaxed);
    expected.caught.get()
}

/// Handles a trap. `asm/traps_*.S` calls it on every trap, on the trap stack of this CPU or, in
/// 32-bit ring 0, on the interrupted stack.
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
    // SAFETY: the pointer is null, or a `catch` of this CPU that has not returned has set it.
    if let Some(expected) = unsafe { expected.as_ref() }
        && usize::from(expected.vector) == frame.vector
    {
        expected.caught.set(Some(Trap { frame: *frame, fault_address }));
        frame.ip = (&raw const trap_resume).addr();
        frame.cs = KERNEL_CODE.into();
        frame.flags = 1 << 1; // the bit that is always 1; trap_catch restores the flags
        // SAFETY: `trap_catch` has written the value before it called the code that trapped.
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
    // A trap while another trap is being printed is not printed: it could trap again, without end.
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
