//! The handler of SIGTRAP, which takes the place of the #BP handler. The context of the signal
//! takes the place of the trap frame.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use patchlet::live::{Handled, TrapFrame};

use super::ProcessLive;

#[path = "../../../support/registers.rs"]
mod registers;

use registers::{Register, saved};

/// The number of traps at sites.
pub static TRAPS: AtomicUsize = AtomicUsize::new(0);

/// The context of a signal, which the system restores when the handler returns.
struct Context(*mut libc::c_void);

impl Context {
    fn register(&self, register: Register) -> usize {
        // SAFETY: the pointer is that of the system's context, which exists while the handler runs.
        unsafe { *saved(self.0, register) }
    }

    fn set_register(&mut self, register: Register, value: usize) {
        // SAFETY: as in `get`; no other reference to the context exists.
        unsafe { *saved(self.0, register) = value };
    }
}

// SAFETY: for a SIGTRAP by INT3, the context has the address behind the INT3, and the system
// restores registers from the context. The handler runs on a stack of its own, so it may write
// below the interrupted stack pointer. There is no red zone there: sites are in assembly, or in
// `asm!` without `nostack`.
unsafe impl TrapFrame for Context {
    fn ip(&self) -> usize {
        self.register(Register::InstructionPointer)
    }

    fn set_ip(&mut self, ip: usize) {
        self.set_register(Register::InstructionPointer, ip);
    }

    fn push(&mut self, value: usize) {
        let sp = self.register(Register::StackPointer).wrapping_sub(size_of::<usize>());
        // SAFETY: the call in the site would write to the same word.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(sp).write(value) };
        self.set_register(Register::StackPointer, sp);
    }
}

/// The hooks in the order in which they are asked: that of the current batch, and that of all
/// sites, for a late trap of an earlier batch.
static HOOKS: [AtomicPtr<ProcessLive>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Makes this hook the first that is asked.
pub fn ask_first(live: &'static ProcessLive) {
    HOOKS[0].store(ptr::from_ref(live).cast_mut(), Ordering::SeqCst);
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let mut context = Context(context);
    for hook in &HOOKS {
        // SAFETY: the pointer is null or that of a `&'static` reference.
        if let Some(live) = unsafe { hook.load(Ordering::SeqCst).as_ref() }
            && live.handle(&mut context) == Handled::Yes
        {
            TRAPS.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: the call ends the process. No hook knows the trap, and no debugger set a breakpoint.
    unsafe { libc::abort() };
}

/// Installs the signal handler, which gives the INT3s of all threads to this hook.
pub fn install(live: &'static ProcessLive) {
    HOOKS[1].store(ptr::from_ref(live).cast_mut(), Ordering::SeqCst);
    // SAFETY: zeros are a valid `sigaction`, and the handler has the signature that SA_SIGINFO
    // requires. It executes no site.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }
}

/// Runs `f` with a stack for the signal handler, as every thread with sites must.
pub fn with_signal_stack<R>(f: impl FnOnce() -> R) -> R {
    let mut stack = vec![0_u8; 64 << 10];
    let new = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: zeros are a valid `stack_t`. The old signal stack is put back before the new one is
    // freed.
    unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(&new, &mut old), 0);
        let result = f();
        assert_eq!(libc::sigaltstack(&old, ptr::null_mut()), 0);
        result
    }
}
