//! The macro `ops!`, which defines an ops table. Its helper macros are in three files: `native`
//! makes the native function of an op, `call` its inline function, and `index` its record in
//! the linked file.

mod call;
mod index;
mod native;

/// Defines an ops table, its ops, and for each op an inline function that is a
/// patch site. The built-in table [`pv`](crate::pv) is made by this macro, too.
///
/// ```no_run
/// # patchlet::patchlets! { mod own { invlpg, rdtsc } }
/// extern "C" fn yield_natively() {}
///
/// patchlet::slot_fn! {
///     const SET_ENTRY = callee_save fn(entry: *mut u64, value: usize) {
///         // SAFETY: the contract of `own_ops::set_entry`.
///         unsafe { entry.write_volatile(value as u64) }
///     };
/// }
///
/// patchlet::ops! {
///     /// What this kernel lets a hypervisor replace beside the built-in ops.
///     pub mod own_ops as "my_kernel_ops" {
///         tlb {
///             /// Forgets the translation of one page.
///             flush_page: callee_save fn(address: usize) = patchlet own::invlpg;
///         }
///         mmu {
///             /// Writes one entry of a page table.
///             ///
///             /// # Safety
///             /// - `entry` points to an entry of a page table.
///             set_entry: callee_save unsafe fn(entry: *mut u64, value: usize) = slot_fn SET_ENTRY;
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
/// `as "symbol"` gives the symbol of the table's slots, which `.S` files use. An op that exists on
/// one width only has `#[cfg(…)]` before its name, behind its docs. An op consists of its name
/// and three parts:
///
/// **The ABI class** says which registers the functions in the op's slot may change.
/// - `callee_save`: the registers of the result, and the flags. The registers of the arguments
///   are preserved, and the compiler goes on using the values in them.
/// - `c`: what a C function may change.
/// - `assembly`: what the op's own contract says. Such an op has no signature and gets no
///   function.
///
/// **The signature** has arguments and a result that fit into registers: integers up to the
/// size of a register, `bool` and thin pointers. It is an `unsafe fn` if the caller has duties.
///
/// | | arguments | result |
/// |---|---|---|
/// | 64 bit | RDI, RSI, RDX, RCX, R8, R9 | RAX; the high half of a `u128` or `i128` in RDX |
/// | 32 bit | EAX, EDX, ECX | EAX; the high half of a `u64` or `i64` in EDX |
///
/// An argument that is narrower than its register is extended to the whole register, by
/// zeros or by its sign. The upper bits of a narrow result are ignored. A `u128` or `i128`
/// (32 bit: `u64` or `i64`) takes the next two registers, the low half first. It must be
/// written under this name, since a macro cannot see through an alias. For an op that a
/// signature cannot express (floats, structs, more arguments), write
/// [`site_asm!`](crate::site_asm) with operands by hand.
///
/// **The native function** is what the op's slot holds at first:
///
/// | | class | what the compiler checks |
/// |---|---|---|
/// | `patchlet set::name` | all | nothing of the bytes: `patchlet verify --contracts` compares what the bytes use with class and signature |
/// | `slot_fn NAME`, a constant of [`slot_fn!`](crate::slot_fn) | `callee_save`, `c` | class and signature |
/// | `function path`, an `extern "C"` function; it is `unsafe` if and only if the op is | `c` | the signature |
/// | `assembly "symbol"`, a function in a `.S` file | all | nothing: whoever writes the symbol keeps to the class |
///
/// Names and paths are looked up where `ops!` stands, not inside the module that it makes.
///
/// The module that `ops!` makes has these items:
/// - the function of each op;
/// - `Id`, an enum with a variant for each op;
/// - `slot`, a module with the typed slot of each op;
/// - `install` and `reset`, which change what the slots hold;
/// - `TABLE`, the table for a site set;
/// - `SLOTS`, the slots for [`site_asm!`](crate::site_asm);
/// - `COUNT`, the number of ops.
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
                        $name:ident : $($word:ident)+
                            // A result is matched token by token (`usize`, `*mut u8`,
                            // `my::Type`), not as a `ty`: a macro cannot look into a `ty`,
                            // and `__op_operands!` must tell `u128` from other results.
                            $(($($arg:tt)*) $(-> $ret:tt $($ret_word:ident)* $(:: $ret_path:ident)*)?)?
                            = $how:ident $what:expr;
                    )*
                }
            )*
        }
    ) => {
        $(#[doc = $table_doc])*
        $vis mod $table {
            #[allow(unused_imports)]
            use super::*;

            /// An op of this table. The number of a variant is the op's index.
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

            /// The table. It stands in a module without the functions of the ops, because the
            /// name of such a function would hide a native function of the same name.
            #[allow(unsafe_code)]
            mod table {
                #[allow(unused_imports)]
                use super::super::*;

                /// The number of ops in this table.
                pub const COUNT: usize = [$($($(#[cfg($($cfg)*)])? super::Id::$name,)*)*].len();

                const NATIVE: [$crate::ops::Target; COUNT] = [
                    $($($(#[cfg($($cfg)*)])? $crate::__op_native!(
                        [$($word)+] [$(($($arg)*) [$(-> $ret $($ret_word)* $(:: $ret_path)*)?])?]
                        $how $what
                    ),)*)*
                ];

                /// The slots, for `patchlet::site_asm!`. Unpatched sites, also those in
                /// `.S` files, call through them.
                #[unsafe(export_name = $symbol)]
                pub static SLOTS: $crate::ops::__private::Slots<COUNT> =
                    $crate::ops::__private::Slots::new(&NATIVE, $crate::__ops_in_index!($symbol));

                $($(
                    $(#[cfg($($cfg)*)])?
                    $crate::__op_in_index! {
                        $symbol $group $name [$($word)+]
                        [$(($($arg)*) [$(-> $ret $($ret_word)* $(:: $ret_path)*)?])?]
                    }
                )*)*

                /// The table, for a site set.
                pub static TABLE: $crate::ops::Table = {
                    static OPS: [$crate::ops::Op; COUNT] = [
                        $($($(#[cfg($($cfg)*)])? $crate::ops::Op::new(
                            ::core::stringify!($group),
                            ::core::stringify!($name),
                            $crate::__op_abi!($($word)+),
                            NATIVE[super::Id::$name as usize],
                            $crate::__op_patchlet!($how $what),
                        ),)*)*
                    ];
                    $crate::ops::Table::new(&OPS, SLOTS.all())
                };
            }
            #[allow(unused_imports)]
            pub use table::{COUNT, SLOTS, TABLE};

            /// The slot of each op, typed by ABI class and signature: `slot::name.holds(…)`
            /// is what [`install`] takes, and a function that does not fit does not compile.
            #[allow(non_upper_case_globals, unused_imports, dead_code)]
            pub mod slot {
                use super::*;

                $($(
                    $(#[cfg($($cfg)*)])?
                    $crate::__op_slot! {
                        [$($word)+] $name
                        [$(($($arg)*) [$(-> $ret $($ret_word)* $(:: $ret_path)*)?])?]
                    }
                )*)*
            }

            /// Puts the functions of a layer, of a hypervisor's say, into their slots. Patched
            /// sites change when they are patched again.
            ///
            /// A pair that [`slot`] makes has a function of the right class and signature. A pair
            /// that is written by hand can hold any [`Target`]($crate::ops::Target): the no-op,
            /// or a function in assembly.
            ///
            /// # Safety
            /// - each function keeps to the ABI class and signature of its op, and
            ///   does what the op is for;
            /// - each function stays in memory for as long as its slot holds it, or a site that
            ///   was patched to call it can be executed.
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
                $crate::__op_fn! {
                    [$($word)+] [$(#[doc = $doc])*] $name
                    $(($($arg)*) [$(-> $ret $($ret_word)* $(:: $ret_path)*)?])?
                }
            )*)*
        }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "this is not a table of ops: `mod name as \"symbol\" { group { op: class \
             fn(argument: type) -> type = patchlet set::name; } }`. A result is one name or a \
             pointer to one (`usize`, `*mut Page`); what an op cannot return is written with \
             `site_asm!`"
        );
    };
}
