//! The registers of the code that a signal interrupted, as Linux lays them out for the handler.
//! The `libc` crate names them for glibc only, and the 32-bit tests are built for musl.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "each test uses some of the registers")]

use std::ffi::c_void;

/// A register, by its place in the array `gregs` of the context
/// (Linux, `arch/x86/include/uapi/asm/sigcontext.h`).
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Register {
    /// RSP or ESP.
    StackPointer = if cfg!(target_arch = "x86_64") { 15 } else { 7 },
    /// RIP or EIP.
    InstructionPointer = if cfg!(target_arch = "x86_64") { 16 } else { 14 },
    /// RFLAGS or EFLAGS.
    Flags = if cfg!(target_arch = "x86_64") { 17 } else { 16 },
}

/// Where the array begins in the context: behind the flags, a pointer to another context, and
/// the signal stack (a pointer, an `int` and a size), each in a word of its own.
const GREGS: usize = 5 * size_of::<usize>();

/// Returns where the context has this register; the kernel loads it from there when the handler
/// returns. `context` is a signal handler's third argument.
pub fn saved(context: *mut c_void, register: Register) -> *mut usize {
    context.wrapping_byte_add(GREGS).cast::<usize>().wrapping_add(register as usize)
}

// Where `libc` names them, it must agree.
#[cfg(target_env = "gnu")]
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(libc::ucontext_t, uc_mcontext) == GREGS);
    #[cfg(target_arch = "x86_64")]
    let names = [libc::REG_RSP, libc::REG_RIP, libc::REG_EFL];
    #[cfg(target_arch = "x86")]
    let names = [libc::REG_ESP, libc::REG_EIP, libc::REG_EFL];
    assert!(names[0] as usize == Register::StackPointer as usize);
    assert!(names[1] as usize == Register::InstructionPointer as usize);
    assert!(names[2] as usize == Register::Flags as usize);
};
