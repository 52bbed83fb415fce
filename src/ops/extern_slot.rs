//! The slots of ops of any signature, whose functions are those of C as they are.
//!
//! Unsafe code here makes an address of a function pointer whose type is a parameter.
#![allow(unsafe_code)]

use core::marker::PhantomData;

use super::target::Target;
use super::value::Register;

/// The slot of one op of class `extern_c`, typed by `F`, the type of its functions as function
/// pointers, and `R`, the type of its result. The module that `ops!` makes has a constant of this
/// type for each such op, in its module `slot`. `I` is the table's `Id`.
pub struct ExternSlot<I, F, R> {
    id: I,
    of: PhantomData<(F, fn() -> R)>,
}

impl<I: Copy, F: Copy, R> ExternSlot<I, F, R> {
    /// Names the slot of an op.
    ///
    /// # Safety
    /// - `F` is a type of function pointers.
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(id: I) -> Self {
        Self { id, of: PhantomData }
    }

    /// Returns the pair for `install` that puts `function` into this slot. A function of another
    /// type does not compile. If the op is an `unsafe fn`, so may the function be.
    #[must_use]
    pub const fn holds(&self, function: F) -> (I, Target) {
        const { assert!(size_of::<F>() == size_of::<*const ()>()) };
        // SAFETY: by the contract of `new`, `F` is a type of function pointers, which are addresses
        // of this size.
        let address = unsafe { core::mem::transmute_copy::<F, *const ()>(&function) };
        (self.id, Target::function(address))
    }
}

impl<I: Copy, F> ExternSlot<I, F, ()> {
    /// Returns the pair for `install` that makes the op do nothing: its site becomes NOPs. An op
    /// with a result has no such pair.
    #[must_use]
    pub const fn nop(&self) -> (I, Target) {
        (self.id, Target::NOP)
    }
}

impl<I: Copy, F, R: Register> ExternSlot<I, F, R> {
    /// Returns the pair for `install` that makes the op return 0, which is also false and the null
    /// pointer. Only an op whose result takes one register has such a pair.
    #[must_use]
    pub const fn zero(&self) -> (I, Target) {
        (self.id, Target::ZERO)
    }
}

impl<I: core::fmt::Debug, F, R> core::fmt::Debug for ExternSlot<I, F, R> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("ExternSlot").field(&self.id).finish()
    }
}
