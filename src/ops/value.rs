//! What goes in and out of an op: the types that fit into registers, the signatures made
//! of them, and the two ABI classes as types, so that the compiler compares them.

use core::marker::PhantomData;

use super::op::Abi;
use super::target::Target;
use crate::insn::Nops;

/// The width of a register, and how many registers carry arguments: RDI, RSI, RDX, RCX, R8
/// and R9 on 64 bit, EAX, EDX and ECX on 32 bit.
const ARGUMENT_REGISTERS: usize = if cfg!(target_arch = "x86_64") { 6 } else { 3 };

/// An argument or result of an op, by the number of registers it takes.
///
/// Implemented for `bool`, integers and pointers, and for `()` as the result of an op that
/// has none.
#[diagnostic::on_unimplemented(
    message = "an op cannot take or return `{Self}`: it is not a value of one or two registers",
    label = "not an integer, a `bool` or a thin pointer",
    note = "integers of up to one register, `bool` and pointers fit anywhere; one integer twice \
            as wide (`u128`, on 32 bit `u64`) fits under its own name, not under an alias",
    note = "for anything else write the site with `site_asm!` and its operands by hand"
)]
pub trait Value: Copy {
    /// How many registers it takes.
    const REGISTERS: usize;
}

/// A value of one register.
#[diagnostic::on_unimplemented(
    message = "an op cannot take or return `{Self}`: it is not a value of one register",
    label = "not an integer of up to one register, a `bool` or a thin pointer",
    note = "one integer twice as wide as a register (`u128`, on 32 bit `u64`) fits under its own \
            name, not under an alias, and in the two registers that come next",
    note = "for anything else write the site with `site_asm!` and its operands by hand"
)]
pub trait Register: Value {
    /// Returns what the register holds: the value, extended to the whole register by its
    /// sign or by zeros. The SysV ABI leaves the upper bits of a narrow argument open, but
    /// compilers (LLVM) rely on the caller's extension to 32 bits.
    fn into_register(self) -> usize;

    /// Returns the value in the low bits of the register. What lies above them is nobody's:
    /// C and Rust return a `bool` in AL.
    fn from_register(register: usize) -> Self;
}

macro_rules! integers {
    ($($one:ident)*; $($two:ident)*) => {
        $(
            impl Value for $one {
                const REGISTERS: usize = 1;
            }
            impl Register for $one {
                #[inline(always)]
                fn into_register(self) -> usize {
                    self as usize
                }
                #[inline(always)]
                fn from_register(register: usize) -> Self {
                    register as Self
                }
            }
        )*
        $(impl Value for $two {
            const REGISTERS: usize = 2;
        })*
    };
}

#[cfg(target_arch = "x86_64")]
integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize; u128 i128);
#[cfg(target_arch = "x86")]
integers!(u8 u16 u32 usize i8 i16 i32 isize; u64 i64);

impl Value for bool {
    const REGISTERS: usize = 1;
}

impl Register for bool {
    #[inline(always)]
    fn into_register(self) -> usize {
        usize::from(self)
    }

    #[inline(always)]
    fn from_register(register: usize) -> Self {
        register as u8 != 0
    }
}

macro_rules! pointers {
    ($($pointer:ty, $with_provenance:ident;)*) => {
        $(
            impl<T> Value for $pointer {
                const REGISTERS: usize = 1;
            }
            impl<T> Register for $pointer {
                #[inline(always)]
                fn into_register(self) -> usize {
                    self.expose_provenance()
                }
                #[inline(always)]
                fn from_register(register: usize) -> Self {
                    core::ptr::$with_provenance(register)
                }
            }
        )*
    };
}

pointers! {
    *const T, with_exposed_provenance;
    *mut T, with_exposed_provenance_mut;
}

impl Value for () {
    const REGISTERS: usize = 0;
}

/// The signature of an op, `fn(usize, *mut u8) -> bool`: how many registers it takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the signature of an op",
    note = "an op has at most six arguments (three on 32 bit), integers, `bool` or thin pointers",
    note = "for anything else write the site with `site_asm!` and its operands by hand"
)]
pub trait Signature {
    /// Of all arguments.
    const ARGUMENTS: usize;
    /// Of the result.
    const RESULTS: usize;
}

macro_rules! signatures {
    ($($argument:ident)*) => {
        impl<$($argument: Value,)* R: Value> Signature for fn($($argument),*) -> R {
            const ARGUMENTS: usize = {
                let registers = 0 $(+ $argument::REGISTERS)*;
                assert!(
                    registers <= ARGUMENT_REGISTERS,
                    "the arguments of an op do not fit into its registers (six on 64 bit, three \
                     on 32 bit): write its site with `site_asm!`, and operands by hand"
                );
                registers
            };
            const RESULTS: usize = R::REGISTERS;
        }
    };
}

signatures!();
signatures!(A);
signatures!(A B);
signatures!(A B C);
signatures!(A B C D);
signatures!(A B C D E);
signatures!(A B C D E F);

/// An ABI class as a type, under the word that `ops!` and `slot_fn!` have for it.
pub trait Class {
    /// The class.
    const ABI: Abi;
}

/// The classes that functions in slots can have.
pub mod class {
    use super::{Abi, Class};

    /// [`Abi::CalleeSave`] as a type.
    #[allow(non_camel_case_types)]
    #[derive(Debug)]
    pub enum callee_save {}

    /// [`Abi::C`] as a type.
    #[allow(non_camel_case_types)]
    #[derive(Debug)]
    pub enum c {}

    impl Class for callee_save {
        const ABI: Abi = Abi::CalleeSave;
    }

    impl Class for c {
        const ABI: Abi = Abi::C;
    }
}

/// A function for the slots of one ABI class and one signature; made by
/// [`slot_fn!`](crate::slot_fn) only.
pub struct SlotFn<C, S> {
    target: Target,
    of: PhantomData<(fn() -> C, S)>,
}

impl<C, S> SlotFn<C, S> {
    /// Wraps a function.
    ///
    /// # Safety
    /// - the function keeps to the class `C` and has the signature `S`.
    #[allow(unsafe_code)]
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(target: Target) -> Self {
        Self { target, of: PhantomData }
    }

    /// Returns the function without its class and signature, for whoever answers for these.
    #[must_use]
    pub const fn target(self) -> Target {
        self.target
    }
}

impl<C, S> Clone for SlotFn<C, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C, S> Copy for SlotFn<C, S> {}

impl<C, S> core::fmt::Debug for SlotFn<C, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SlotFn").field(&self.target).finish()
    }
}

/// The slot of one op, with the ABI class and the signature that its functions have. The
/// module of an ops table has one for each op, in `slot`.
pub struct OpSlot<I, C, S> {
    id: I,
    of: PhantomData<(fn() -> C, S)>,
}

impl<I: Copy, C, S> OpSlot<I, C, S> {
    /// Names the slot of an op.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(id: I) -> Self {
        Self { id, of: PhantomData }
    }

    /// Returns the pair that puts this function into the slot, for `install`. A function of
    /// another class or signature does not compile.
    #[must_use]
    pub const fn holds(&self, function: SlotFn<C, S>) -> (I, Target) {
        (self.id, function.target())
    }
}

impl<I: core::fmt::Debug, C, S> core::fmt::Debug for OpSlot<I, C, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("OpSlot").field(&self.id).finish()
    }
}

/// Returns how many registers the arguments of a signature take; asking is what makes the
/// compiler check the signature.
#[must_use]
pub const fn argument_registers<S: Signature>() -> u8 {
    S::ARGUMENTS as u8
}

/// Returns how many registers the result of a signature takes.
#[must_use]
pub const fn result_registers<S: Signature>() -> u8 {
    S::RESULTS as u8
}

/// Returns the number of the class in the index of the linked file, with the mark of code for
/// CPUs that need not have NOPL.
#[must_use]
pub const fn class_number(abi: Abi) -> u8 {
    let class = match abi {
        Abi::CalleeSave => 0,
        Abi::C => 1,
        Abi::Assembly => 2,
    };
    match Nops::of_target() {
        Nops::Lea => class | WITHOUT_NOPL,
        Nops::Long => class,
    }
}

/// The mark beside the class in the index of the linked file: [`Nops::of_target`] is
/// [`Nops::Lea`]. The tool patches the file with these NOPs then, as the kernel itself does.
const WITHOUT_NOPL: u8 = 0x80;
