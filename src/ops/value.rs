//! The types of an op's arguments and result, the signatures made of them, and the two ABI
//! classes as types. Signature and class are parts of the types of functions and slots, so the
//! compiler refuses a function in the slot of an op with another class or signature.

use core::marker::PhantomData;

use super::op::Abi;
use super::target::Target;
use crate::insn::Nops;

/// The number of registers that carry arguments: RDI, RSI, RDX, RCX, R8 and R9 on 64 bit, EAX,
/// EDX and ECX on 32 bit.
const ARGUMENT_REGISTERS: usize = if cfg!(target_arch = "x86_64") { 6 } else { 3 };

/// A type that can be an argument or the result of an op.
///
/// It is implemented for `bool`, integers and thin pointers, and for `()`, the result of an op
/// that returns nothing.
#[diagnostic::on_unimplemented(
    message = "an op cannot take or return `{Self}`: it is not a value of one or two registers",
    label = "not an integer, a `bool` or a thin pointer",
    note = "integers of up to one register, `bool` and pointers fit anywhere; one integer twice \
            as wide (`u128`, on 32 bit `u64`) fits under its own name, not under an alias",
    note = "for anything else make it an op of class `extern_c`"
)]
pub trait Value: Copy {
    /// Number of registers that a value takes: 0, 1 or 2.
    const REGISTERS: usize;
}

/// A value of one register.
#[diagnostic::on_unimplemented(
    message = "an op cannot take or return `{Self}`: it is not a value of one register",
    label = "not an integer of up to one register, a `bool` or a thin pointer",
    note = "one integer twice as wide as a register (`u128`, on 32 bit `u64`) fits under its own \
            name, not under an alias, and in the two registers that come next",
    note = "for anything else make it an op of class `extern_c`"
)]
pub trait Register: Value {
    /// Returns the value as its register holds it: extended to the whole register, by its
    /// sign or by zeros. The System V ABI leaves the upper bits of a narrow argument open, but
    /// LLVM compiles functions that rely on the caller's extension to 32 bits.
    fn into_register(self) -> usize;

    /// Returns the value in the low bits of the register. The upper bits are ignored, because
    /// functions leave them undefined: C and Rust return a `bool` in AL.
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

/// The signature of an op as a function type, such as `fn(usize, *mut u8) -> bool`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the signature of an op",
    note = "an op has at most six arguments (three on 32 bit), integers, `bool` or thin pointers",
    note = "for anything else make it an op of class `extern_c`, whose functions stand in slots as \
            they are"
)]
pub trait Signature {
    /// Number of registers that all arguments take together.
    const ARGUMENTS: usize;
    /// Number of registers that the result takes.
    const RESULTS: usize;
    /// The first argument; `()` if there is none.
    type First;
    /// The result.
    type Result;
}

macro_rules! signatures {
    ($first:ty; $($argument:ident)*) => {
        impl<$($argument: Value,)* R: Value> Signature for fn($($argument),*) -> R {
            type First = $first;
            type Result = R;
            const ARGUMENTS: usize = {
                let registers = 0 $(+ $argument::REGISTERS)*;
                assert!(
                    registers <= ARGUMENT_REGISTERS,
                    "the arguments of an op do not fit into its registers (six on 64 bit, three \
                     on 32 bit): make it an op of class `extern_c`"
                );
                registers
            };
            const RESULTS: usize = R::REGISTERS;
        }
    };
}

signatures!((););
signatures!(A; A);
signatures!(A; A B);
signatures!(A; A B C);
signatures!(A; A B C D);
signatures!(A; A B C D E);
signatures!(A; A B C D E F);

/// An ABI class as a type. Its name is the word for the class in `ops!` and `slot_fn!`.
pub trait AbiType {
    /// The class as a value.
    const ABI: Abi;
}

/// The ABI classes of functions that `slot_fn!` can make.
pub mod class {
    use super::{Abi, AbiType};

    /// [`Abi::CalleeSave`] as a type.
    #[allow(non_camel_case_types)]
    #[derive(Debug)]
    pub enum callee_save {}

    /// [`Abi::C`] as a type.
    #[allow(non_camel_case_types)]
    #[derive(Debug)]
    pub enum c {}

    impl AbiType for callee_save {
        const ABI: Abi = Abi::CalleeSave;
    }

    impl AbiType for c {
        const ABI: Abi = Abi::C;
    }
}

/// A function for the slots of ops of the class `C` and the signature `S`. Only
/// [`slot_fn!`](crate::slot_fn) makes values of this type.
pub struct SlotFn<C, S> {
    target: Target,
    of: PhantomData<(fn() -> C, S)>,
}

impl<C, S> SlotFn<C, S> {
    /// Wraps a function.
    ///
    /// # Safety
    /// - `target` is a function that keeps to the class `C` and has the signature `S`.
    #[allow(unsafe_code)]
    #[doc(hidden)]
    #[must_use]
    pub const unsafe fn new(target: Target) -> Self {
        Self { target, of: PhantomData }
    }

    /// Returns the function without its class and signature, which the caller of
    /// [`Table::set`](super::Table::set) then answers for.
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

/// The slot of one op, typed by the ABI class `C` and the signature `S` of its functions. The
/// module that `ops!` makes has a constant of this type for each op, in its module `slot`. `I`
/// is the table's `Id`.
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

    /// Returns the pair for `install` that puts `function` into this slot. A function of another
    /// class or signature does not compile.
    #[must_use]
    pub const fn holds(&self, function: SlotFn<C, S>) -> (I, Target) {
        (self.id, function.target())
    }
}

impl<I: Copy, C, S: Signature<Result = ()>> OpSlot<I, C, S> {
    /// Returns the pair for `install` that makes the op do nothing: its sites become NOPs. An op
    /// with a result has no such pair.
    #[must_use]
    pub const fn nop(&self) -> (I, Target) {
        (self.id, Target::NOP)
    }
}

impl<I: Copy, C, S: Signature<Result: Register>> OpSlot<I, C, S> {
    /// Returns the pair for `install` that makes the op return 0, which is also false and the null
    /// pointer. Only an op whose result takes one register has such a pair.
    #[must_use]
    pub const fn zero(&self) -> (I, Target) {
        (self.id, Target::ZERO)
    }
}

impl<I: Copy, C, S> OpSlot<I, C, S>
where
    S: Signature<First = <S as Signature>::Result, Result: Register>,
{
    /// Returns the pair for `install` that makes the op return its first argument, which has the
    /// type of the result.
    #[must_use]
    pub const fn ident(&self) -> (I, Target) {
        (self.id, Target::IDENT)
    }
}

impl<I: core::fmt::Debug, C, S> core::fmt::Debug for OpSlot<I, C, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("OpSlot").field(&self.id).finish()
    }
}

/// Returns how many registers the arguments of a signature take. Evaluating this in a constant
/// makes the compiler check that there are enough of them, by the `assert!` in
/// [`Signature::ARGUMENTS`].
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
        Abi::ExternC => 3,
    };
    match Nops::of_target() {
        Nops::Lea => class | WITHOUT_NOPL,
        Nops::Long => class,
    }
}

/// The mark beside the class in the index of the linked file: [`Nops::of_target`] is
/// [`Nops::Lea`]. The tool patches the file with these NOPs then, as the kernel itself does.
const WITHOUT_NOPL: u8 = 0x80;
