//! The macro that defines a table: `ops!`. What an op does natively is in `native`, its
//! function in `call`, what the linked file says of it in `index`.

mod call;
mod index;
mod native;

/// Defines an ops table, its ops, and for each op an inline function that is a
/// patch site. The built-in table [`pv`](crate::pv) is its first user.
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
/// `as "symbol"` is the linker's name of the table's slots, for `.S` files. An op may be for
/// one width only: `#[cfg(…)]` before its name, after the docs. Otherwise each op is its name
/// and three things:
///
/// **The ABI class** says which registers the functions in its slot may change.
/// `callee_save`: those of the result, and the flags; the registers of the arguments are
/// preserved as well, for the compiler goes on using what is in them. `c`: what C may change.
/// `assembly`: the op has a contract of its own, and neither a function nor a signature.
///
/// **The signature** has arguments and a result that fit into registers: integers up to the
/// size of a register, `bool` and thin pointers. `unsafe fn` where the caller has duties.
///
/// | | arguments | result |
/// |---|---|---|
/// | 64 bit | RDI, RSI, RDX, RCX, R8, R9 | RAX; the high half of a `u128` or `i128` in RDX |
/// | 32 bit | EAX, EDX, ECX | EAX; the high half of a `u64` or `i64` in EDX |
///
/// An argument that is narrower than its register is extended to the whole register, by
/// zeros or by its sign. Of a narrow result only its own bits count. A `u128` or `i128`
/// (32 bit: `u64` or `i64`) takes the next two registers, the low half first; it must be
/// written under this name, since a macro cannot see through an alias. What a signature
/// cannot express (floats, structs, more arguments) is written as a
/// [`site_asm!`](crate::site_asm) with operands by hand.
///
/// **What it does natively** is what its slot holds at first:
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
/// The module holds the functions; `Id`, the ops by name; `slot`, their slots by name, for
/// `install`; `TABLE` for the patcher; `install` and `reset` for what is in the slots; and
/// `SLOTS` for [`site_asm!`](crate::site_asm).
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
                            // A result is `usize`, `*mut u8` or `my::Type`, token by token:
                            // as a whole type it could not be compared with `u64` later.
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

                /// The slots, for `patchlet::site_asm!`. Unpatched sites, in
                /// `.S` files too, call through them.
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

                /// The table, for the patcher.
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

            /// Puts functions into slots, all in one call: the hypervisor layer.
            /// Sites follow when the patcher is run.
            ///
            /// A pair of [`slot`] has a function of the right class and signature. A pair
            /// written by hand can hold anything: [`Target::NOP`]($crate::ops::Target::NOP),
            /// a function in assembly.
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
