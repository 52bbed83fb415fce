//! The macro that defines a table: `ops!`.

/// A result of an op, from the result register.
pub trait FromRegister {
    /// The result that is in it.
    fn from_register(register: usize) -> Self;
}

impl FromRegister for usize {
    fn from_register(register: usize) -> Self {
        register
    }
}

impl FromRegister for bool {
    /// C and Rust return a bool in AL and say nothing of the bits above.
    fn from_register(register: usize) -> Self {
        register as u8 != 0
    }
}

#[cfg(target_pointer_width = "64")]
impl FromRegister for u64 {
    fn from_register(register: usize) -> Self {
        register as u64
    }
}

/// Defines an ops table, its ops, and for each op an inline function that is a
/// patch site. The built-in table [`pv`](crate::pv) is its first user.
///
/// ```no_run
/// # patchlet::patchlets! { mod own { invlpg, rdtsc } }
/// # unsafe extern "C" fn yield_natively() {}
/// patchlet::ops! {
///     /// What this kernel lets a hypervisor replace beside the built-in ops.
///     pub mod own_ops as "my_kernel_ops" {
///         tlb {
///             /// Forgets the translation of one page.
///             flush_page: callee_save unsafe fn(address: usize) = patchlet own::invlpg;
///         }
///         time {
///             /// Lets the other virtual CPUs run. It has no patchlet: a native
///             /// function that is too long for a site is called directly.
///             yield_cpu: c fn() = function yield_natively;
///         }
///     }
/// }
/// # fn main() {}
/// ```
///
/// - `as "symbol"` is the linker's name of the table's slots, for `.S` files.
/// - Each op: its name; its ABI class, `callee_save`, `c`, or `assembly` (then it
///   has no function and no signature); the signature, with at most one argument
///   and one result of the size of a register (`u64` to `u64` on 32-bit, too);
///   and what it does natively, a `patchlet` or a `function` without one.
/// - An op may be for one width only: `#[cfg(…)]` before its name, after the docs.
///
/// The module holds the functions, `Id` (the ops by name), `TABLE` for the
/// patcher, `install` and `reset` for what is in the slots, and `SLOTS` for
/// [`site_asm!`](crate::site_asm).
#[macro_export]
macro_rules! ops {
    (
        $(#[doc = $table_doc:literal])*
        $vis:vis mod $table:ident as $symbol:literal {
            $(
                $group:ident {
                    $(
                        $(#[doc = $doc:literal])*
                        $(#[cfg($($cfg:tt)*)])?
                        $name:ident : $($word:ident)+ $(($($arg:tt)*) $(-> $ret:tt)?)? = $how:ident $what:path;
                    )*
                }
            )*
        }
    ) => {
        $(#[doc = $table_doc])*
        $vis mod $table {
            #[allow(unused_imports)]
            use super::*;

            /// The ops of this table, by name. The number is the op's index.
            #[allow(non_camel_case_types)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            #[repr(u16)]
            #[non_exhaustive]
            pub enum Id {
                $($(
                    $(#[cfg($($cfg)*)])?
                    $(#[doc = $doc])*
                    $name,
                )*)*
            }

            /// Apart from the functions below, whose names could otherwise hide
            /// the native functions that the table is made of.
            mod table {
                #[allow(unused_imports)]
                use super::super::*;

                /// The number of ops in this table.
                pub const COUNT: usize = [$($($(#[cfg($($cfg)*)])? super::Id::$name,)*)*].len();

                /// The slots, for `patchlet::site_asm!`. Unpatched sites, in
                /// `.S` files too, call through them.
                #[allow(unsafe_code)]
                #[unsafe(export_name = $symbol)]
                pub static SLOTS: [$crate::ops::__private::Slot; COUNT] = [
                    $($($(#[cfg($($cfg)*)])? $crate::ops::__private::Slot::new($crate::__op_native!($how $what)),)*)*
                ];

                /// The table, for the patcher.
                pub static TABLE: $crate::ops::Table = {
                    static OPS: [$crate::ops::Op; COUNT] = [
                        $($($(#[cfg($($cfg)*)])? $crate::ops::Op::new(
                            ::core::stringify!($group),
                            ::core::stringify!($name),
                            $crate::__op_abi!($($word)+),
                            $crate::__op_native!($how $what),
                            $crate::__op_patchlet!($how $what),
                        ),)*)*
                    ];
                    $crate::ops::Table::new(&OPS, &SLOTS)
                };
            }
            #[allow(unused_imports)]
            pub use table::{COUNT, SLOTS, TABLE};

            /// Puts functions into slots, all in one call: the hypervisor layer.
            /// Sites follow when the patcher is run.
            ///
            /// # Safety
            /// - each function keeps to the ABI class and signature of its op, and
            ///   does what the op is for;
            /// - each stays there for as long as its slot, or a site patched for
            ///   it, can be executed.
            #[allow(unsafe_code, dead_code)]
            pub unsafe fn install(layer: &[(Id, $crate::ops::Target)]) {
                for &(id, target) in layer {
                    // SAFETY: the caller answers for every pair of the layer.
                    unsafe { TABLE.set(id as usize, target) };
                }
            }

            /// Puts every native function back into its slot.
            #[allow(dead_code)]
            pub fn reset() {
                TABLE.reset();
            }

            $($(
                $(#[cfg($($cfg)*)])?
                $crate::__op_fn! { [$($word)+] $(#[doc = $doc])* $name $(($($arg)*) $(-> $ret)?)? }
            )*)*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_native {
    (patchlet $patchlet:path) => {
        $crate::ops::Target::function($patchlet.native() as *const ())
    };
    (function $function:path) => {
        $crate::ops::Target::function($function as *const ())
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_patchlet {
    (patchlet $patchlet:path) => {
        ::core::option::Option::Some(&$patchlet)
    };
    (function $function:path) => {
        ::core::option::Option::None
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_abi {
    (callee_save $($rest:tt)*) => {
        $crate::ops::Abi::CalleeSave
    };
    (c $($rest:tt)*) => {
        $crate::ops::Abi::C
    };
    (assembly) => {
        $crate::ops::Abi::Assembly
    };
}

/// The function of an op: the safety and the signature, around `__op_asm!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_fn {
    ([assembly] $($rest:tt)*) => {};
    ([$abi:ident fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ $abi [] $($rest)* }
    };
    ([$abi:ident unsafe fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ $abi [unsafe] $($rest)* }
    };
    (@ $abi:ident [$($unsafe:tt)?] $(#[doc = $doc:literal])* $name:ident ($($arg:ident : $($ty:tt)+)?) $(-> $ret:tt)?) => {
        $(#[doc = $doc])*
        #[inline(always)]
        #[allow(unsafe_code, clippy::missing_safety_doc)]
        pub $($unsafe)? fn $name($($arg: $($ty)+)?) $(-> $ret)? {
            // SAFETY: the index is this op's, and the operands are those of its
            // ABI class; whatever is in the slot keeps to it, by the contract of
            // `install`. What the op does to the machine is the caller's matter.
            unsafe { $crate::__op_asm!($abi, $name, ($($arg : $($ty)+)?) $(-> $ret)?) }
        }
    };
}

/// The site of an op with the operands of its ABI class.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __op_asm {
    ($abi:ident, $name:ident, ()) => {
        $crate::__op_site!($abi, $name,)
    };
    ($abi:ident, $name:ident, () -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, lateout("rax") result,);
        <$ret as $crate::ops::__private::FromRegister>::from_register(result)
    }};
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty)) => {
        $crate::__op_site!($abi, $name, in("rdi") $arg,)
    };
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty) -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, in("rdi") $arg, lateout("rax") result,);
        <$ret as $crate::ops::__private::FromRegister>::from_register(result)
    }};
}

/// The site of an op with the operands of its ABI class.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __op_asm {
    ($abi:ident, $name:ident, ()) => {
        $crate::__op_site!($abi, $name,)
    };
    ($abi:ident, $name:ident, () -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, lateout("eax") result,);
        <$ret as $crate::ops::__private::FromRegister>::from_register(result)
    }};
    ($abi:ident, $name:ident, ($arg:ident : u64) -> u64) => {{
        let (low, high): (u32, u32);
        $crate::__op_site!(
            $abi, $name,
            inlateout("eax") $arg as u32 => low,
            inlateout("edx") ($arg >> 32) as u32 => high,
        );
        u64::from(high) << 32 | u64::from(low)
    }};
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty)) => {
        $crate::__op_site!($abi, $name, in("eax") $arg,)
    };
    ($abi:ident, $name:ident, ($arg:ident : $ty:ty) -> $ret:ty) => {{
        let result: usize;
        $crate::__op_site!($abi, $name, inlateout("eax") $arg => result,);
        <$ret as $crate::ops::__private::FromRegister>::from_register(result)
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __op_site {
    (callee_save, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = 6, $($operand)*)
    };
    (c, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = 6, $($operand)* clobber_abi("C"),)
    };
}
