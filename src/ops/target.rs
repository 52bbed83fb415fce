//! What a slot can hold, and the two functions that are known to every op.
//!
//! Unsafe code here declares functions of one instruction whose ABI is not C's.
#![allow(unsafe_code)]

/// What a slot can hold: the address of a function, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(pub(super) *const ());

// SAFETY: an address; whoever calls it answers for that.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Nothing: the op must never be used. Its sites become traps (`ud2`).
    pub const NULL: Self = Self(core::ptr::null());

    /// The no-op function: its sites become NOPs, and a result is undefined.
    pub const NOP: Self = Self::function(nop as *const ());

    /// The identity function: the result is the argument.
    #[cfg(target_arch = "x86_64")]
    pub const IDENT: Self = Self::function(patchlet_native_ident_64 as *const ());
    /// The identity function: argument and result are the same registers.
    #[cfg(target_arch = "x86")]
    pub const IDENT: Self = Self::function(ident as *const ());

    /// A function of the op's ABI class; [`slot_fn!`](crate::slot_fn) makes one
    /// of a Rust function.
    #[must_use]
    pub const fn function(function: *const ()) -> Self {
        Self(function)
    }

    /// Its address; 0 is null.
    #[must_use]
    pub fn address(self) -> usize {
        self.0.addr()
    }
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn patchlet_native_ident_64();
}

/// Under a name of its own, so that a program that reads the binary knows it. Hidden, as the native
/// functions are: each shared object has its own, and its table holds that one.
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_nop")]
extern "C" fn nop() {
    core::arch::naked_asm!(".hidden patchlet_nop", crate::__endbr!(), "ret")
}

#[cfg(target_arch = "x86")]
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_ident")]
pub(super) extern "C" fn ident() {
    core::arch::naked_asm!(".hidden patchlet_ident", crate::__endbr!(), "ret")
}
