//! The values that a slot can hold, and the functions that any op may have in its slot: the no-op,
//! the identity, and the one that returns 0.
//!
//! Unsafe code here defines these functions in assembly (`naked`, under exported names) and
//! makes an address `Send` and `Sync`.
#![allow(unsafe_code)]

/// A value that a slot can hold: the address of a function, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(pub(super) *const ());

// SAFETY: a `Target` is used as a number only. Nothing here dereferences or calls it; sites do,
// and `Table::set` has the caller answer for what they call.
unsafe impl Send for Target {}
// SAFETY: as for `Send`; a shared reference gives no access but reading the address.
unsafe impl Sync for Target {}

impl Target {
    /// Null: the op must not be used any more. Its sites become traps (`ud2`), which raise #UD.
    pub const NULL: Self = Self(core::ptr::null());

    /// The no-op function. Sites become NOPs. An op that has a result returns whatever the result
    /// register holds.
    pub const NOP: Self = Self::function(nop as *const ());

    /// The identity function, which returns its argument: it copies RDI to RAX.
    #[cfg(target_arch = "x86_64")]
    pub const IDENT: Self = Self::function(patchlet_native_ident_64 as *const ());
    /// The identity function, which returns its argument. Both are in the same registers, so it
    /// only returns.
    #[cfg(target_arch = "x86")]
    pub const IDENT: Self = Self::function(ident as *const ());

    /// The function that returns 0, which is also false and the null pointer. It is for ops whose
    /// result takes one register; sites become `xorl %eax, %eax`.
    pub const ZERO: Self = Self::function(zero as *const ());

    /// Wraps the address of a function. It must be of the ABI class of the op whose slot will hold
    /// it; [`slot_fn!`](crate::slot_fn) makes such a function of Rust code.
    #[must_use]
    pub const fn function(function: *const ()) -> Self {
        Self(function)
    }

    /// Returns the address of the function; 0 for [`NULL`](Self::NULL).
    #[must_use]
    pub fn address(self) -> usize {
        self.0.addr()
    }
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    fn patchlet_native_ident_64();
}

/// Returns at once. The tool finds this function in a linked file by its exported name. The symbol
/// is hidden, as those of native functions are: each shared object has a copy, which the slots of
/// its tables hold.
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_nop")]
extern "C" fn nop() {
    core::arch::naked_asm!(".hidden patchlet_nop", crate::__endbr!(), "ret")
}

/// Returns 0. The tool finds this function in a linked file by its exported name.
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_zero")]
extern "C" fn zero() {
    core::arch::naked_asm!(
        ".hidden patchlet_zero",
        crate::__endbr!(),
        "xorl %eax, %eax",
        "ret",
        options(att_syntax)
    )
}

/// Returns its argument, whose registers are also those of the result. The tool finds this
/// function in a linked file by its exported name.
#[cfg(target_arch = "x86")]
#[unsafe(naked)]
#[unsafe(export_name = "patchlet_ident")]
pub(super) extern "C" fn ident() {
    core::arch::naked_asm!(".hidden patchlet_ident", crate::__endbr!(), "ret")
}
