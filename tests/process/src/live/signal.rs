//! SIGTRAP as #BP: the frame is the signal's context.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use patchlet::live::{Handled, TrapFrame};

use super::ProcessLive;

#[path = "../../../support/registers.rs"]
mod registers;

use registers::{Register, saved};

/// How often a site trapped.
pub static TRAPS: AtomicUsize = AtomicUsize::new(0);

/// The context of a signal, which the system restores when the handler returns.
struct Context(*mut libc::c_void);

impl Context {
    fn register(&self, register: Register) -> usize {
        // SAFETY: the system's context, which is there while the handler runs.
        unsafe { *saved(self.0, register) }
    }

    fn set_register(&mut self, register: Register, value: usize) {
        // SAFETY: as above; nobody else refers to it.
        unsafe { *saved(self.0, register) = value };
    }
}

// SAFETY: a SIGTRAP of an INT3 has the address behind it in its context, and the
// context is what is restored. The handler runs on a stack of its own, so that the
// interrupted one can be pushed to; sites are in `asm!` without `nostack`, and in
// assembly, so that no red zone lies there.
unsafe impl TrapFrame for Context {
    fn ip(&self) -> usize {
        self.register(Register::InstructionPointer)
    }

    fn set_ip(&mut self, ip: usize) {
        self.set_register(Register::InstructionPointer, ip);
    }

    fn push(&mut self, value: usize) {
        let sp = self.register(Register::StackPointer).wrapping_sub(size_of::<usize>());
        // SAFETY: the word that the site's own call would write.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(sp).write(value) };
        self.set_register(Register::StackPointer, sp);
    }
}

/// Who is asked: first that of the batch at present, then that of all sites, for
/// late traps of another one.
static HOOKS: [AtomicPtr<ProcessLive>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Asks this one first from here on.
pub fn ask_first(live: &'static ProcessLive) {
    HOOKS[0].store(ptr::from_ref(live).cast_mut(), Ordering::SeqCst);
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let mut context = Context(context);
    for hook in &HOOKS {
        // SAFETY: null, or a reference that is for ever.
        if let Some(live) = unsafe { hook.load(Ordering::SeqCst).as_ref() }
            && live.handle(&mut context) == Handled::Yes
        {
            TRAPS.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: ends the process; nobody else's breakpoints are in it.
    unsafe { libc::abort() };
}

/// Sends the INT3s of all threads to this one.
pub fn install(live: &'static ProcessLive) {
    HOOKS[1].store(ptr::from_ref(live).cast_mut(), Ordering::SeqCst);
    // SAFETY: zeros are a valid value, and the handler has the signature that
    // SA_SIGINFO asks for. It executes no site.
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
    // SAFETY: zeros are a valid value; the stack is put back before it is freed.
    unsafe {
        let mut old: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(&new, &mut old), 0);
        let result = f();
        assert_eq!(libc::sigaltstack(&old, ptr::null_mut()), 0);
        result
    }
}
