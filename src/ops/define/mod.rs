//! The macro `ops!`, which defines an ops table. Its helper macros are in five files: `native`
//! makes the native function of an op, `call` its inline function, `trampoline` the function and
//! the trampoline of an op of any signature, `variant` its variants, and `index` its record in the
//! linked file.

mod call;
mod index;
mod native;
mod trampoline;
mod variant;

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
/// one width only has `#[cfg(…)]` before its name, behind its docs; behind that stands
/// `#[capacity(16)]` if its sites are to have another size than six bytes, up to 32. An op consists
/// of its name and three parts, and of variants if it has any:
///
/// **The ABI class** says which registers the functions in the op's slot may change.
/// - `callee_save`: the registers of the result, and the flags. The registers of the arguments
///   are preserved, and the compiler goes on using the values in them.
/// - `c`: what a C function may change.
/// - `extern_c`: what a C function may change, and the signature is any that a function of C can
///   have: [`guide::signatures`](crate::guide::signatures).
/// - `assembly`: what the op's own contract says. Such an op has no signature and gets no
///   function.
///
/// **The signature** has arguments and a result that fit into registers (but for `extern_c`):
/// integers up to the size of a register, `bool` and thin pointers. It is an `unsafe fn` if the
/// caller has duties.
///
/// | | arguments | result |
/// |---|---|---|
/// | 64 bit | RDI, RSI, RDX, RCX, R8, R9 | RAX; the high half of a `u128` or `i128` in RDX |
/// | 32 bit | EAX, EDX, ECX | EAX; the high half of a `u64` or `i64` in EDX |
///
/// An argument that is narrower than its register is extended to the whole register, by
/// zeros or by its sign. The upper bits of a narrow result are ignored. A `u128` or `i128`
/// (32 bit: `u64` or `i64`) takes the next two registers, the low half first. It must be
/// written under this name, since a macro cannot see through an alias. An op with floats,
/// structs, references or more arguments is one of class `extern_c`.
///
/// **The native function** is what the op's slot holds at first:
///
/// | | class | what the compiler checks |
/// |---|---|---|
/// | `patchlet set::name` | all | nothing of the bytes: `patchlet verify --contracts` compares what the bytes use with class and signature |
/// | `slot_fn NAME`, a constant of [`slot_fn!`](crate::slot_fn) | `callee_save`, `c` | class and signature |
/// | `function path`, an `extern "C"` function; it is `unsafe` if and only if the op is | `c`, `extern_c` | the signature |
/// | `assembly "symbol"`, a function in a `.S` file | all | nothing: whoever writes the symbol keeps to the class |
/// | `nothing`, the no-op function | all, without a result | that there is no result |
///
/// **Variants** stand behind it, each a condition and one way to do the op:
/// `, if [ERMS, !own::BROKEN] => patchlet own::copy_rep`. They are checked like the native
/// function, and `select` puts the last eligible one into the slot:
/// [`guide::variants`](crate::guide::variants).
///
/// Names and paths are looked up where `ops!` stands, not inside the module that it makes.
///
/// The module that `ops!` makes has these items:
/// - the function of each op;
/// - `Id`, an enum with a variant for each op;
/// - `slot`, a module with the typed slot of each op;
/// - `install`, `select` and `reset`, which change what the slots hold, and `change`, for a
///   change that is one transaction with patching;
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
                        $(#[capacity($capacity:literal)])?
                        $name:ident : $($word:ident)+
                            // A result is matched token by token (`usize`, `*mut u8`,
                            // `my::Type`), not as a `ty`: a macro cannot look into a `ty`,
                            // and `__op_operands!` must tell `u128` from other results.
                            $(($($arg:tt)*) $(
                                -> $ret:tt $($lifetime:lifetime)? $($ret_word:ident)*
                                    $(:: $ret_path:ident)* $(< $($ret_of:ty),+ >)?
                            )?)?
                            = $how:ident $($what:expr)?
                            $(, if [$($condition:tt)*] => $then:ident $($that:expr)?)*;
                    )*
                }
            )*
        }
    ) => {
        $crate::__define_ops! {
            [$(#[doc = $table_doc])*] [$vis] $table $symbol
            $($group {
                $({
                    [$(#[doc = $doc])*] [$(#[cfg($($cfg)*)])?] [$($capacity)?]
                    $name [$($word)+]
                    [$(($($arg)*) [$(
                        -> $ret $($lifetime)? $($ret_word)* $(:: $ret_path)* $(< $($ret_of),+ >)?
                    )?])?]
                    [$how $($what)?]
                    [$({ [$($condition)*] $then $($that)? })*]
                })*
            })*
        }
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "this is not a table of ops: `mod name as \"symbol\" { group { op: class \
             fn(argument: type) -> type = patchlet set::name, if [FEATURE] => patchlet \
             set::other; } }`. A result is one name or a pointer to one (`usize`, `*mut Page`, \
             `Option<Page>`): give another type a name with `type`"
        );
    };
}

/// Writes the module of a table. This is `ops!` again, with its input in brackets: the docs and
/// the visibility, the names, and of each op the docs, the `cfg`, the capacity, the name, the words
/// before the signature, the signature (`[(arguments) [-> result]]`, or `[]` if the op has none),
/// what the op is natively, and its variants.
#[doc(hidden)]
#[macro_export]
macro_rules! __define_ops {
    (
        [$($table_doc:tt)*] [$vis:vis] $table:ident $symbol:literal
        $($group:ident {
            $({
                [$($doc:tt)*] [$($cfg:tt)*] $capacity:tt
                $name:ident $words:tt
                $signature:tt
                [$($native:tt)+]
                $variants:tt
            })*
        })*
    ) => {
        $($table_doc)*
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
                    $($cfg)*
                    $($doc)*
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
                pub const COUNT: usize = [$($($($cfg)* super::Id::$name,)*)*].len();

                const NATIVE: [$crate::ops::Target; COUNT] = [
                    $($($($cfg)* $crate::__op_native!($words $signature $($native)+),)*)*
                ];

                /// The size of the sites of each op, in bytes.
                pub const CAPACITIES: [u8; COUNT] = [
                    $($($($cfg)* $crate::__op_capacity!($capacity),)*)*
                ];

                /// The slots, for `patchlet::site_asm!`. Unpatched sites, also those in
                /// `.S` files, call through them.
                #[unsafe(export_name = $symbol)]
                pub static SLOTS: $crate::ops::__private::Slots<COUNT> =
                    $crate::ops::__private::Slots::new(&NATIVE, $crate::__ops_in_index!($symbol));

                /// How many variants each op has.
                const VARIANT_COUNTS: [usize; COUNT] = [
                    $($($($cfg)* $crate::__count_variants!($variants),)*)*
                ];

                /// The variants of each op. Not a constant: those cannot refer to patchlets, whose
                /// labels are extern statics.
                static BY_OP: [&[$crate::ops::Variant]; COUNT] = [
                    $($($($cfg)* $crate::__op_variants!(
                        [] super::Id::$name, $words $signature $variants
                    ),)*)*
                ];

                /// The variants of all ops, for the table and its records in the linked file.
                static VARIANTS: [
                    $crate::ops::Variant;
                    $crate::ops::__private::variants_before(&VARIANT_COUNTS, COUNT)
                ] = $crate::ops::__private::in_one_list(&BY_OP);

                $($(
                    $($cfg)*
                    $crate::__op_in_index! { $symbol $group $name $words [$($native)+] $signature }
                    $($cfg)*
                    $crate::__variants_in_index! { $symbol $name 0, $variants }
                    $($cfg)*
                    $crate::__trampoline! { $symbol $name $words $capacity }
                )*)*

                /// The table, for a site set.
                pub static TABLE: $crate::ops::Table = {
                    static OPS: [$crate::ops::Op; COUNT] = [
                        $($($($cfg)* $crate::ops::Op::new(
                            ::core::stringify!($group),
                            ::core::stringify!($name),
                            $crate::__op_abi!($words),
                            NATIVE[super::Id::$name as usize],
                            $crate::__op_patchlet!($($native)+),
                        ).with_capacity(CAPACITIES[super::Id::$name as usize]),)*)*
                    ];
                    // SAFETY: `__op_native!` and `__op_variants!` have checked each function
                    // against its op, as far as the compiler can; whoever names a patchlet or a
                    // symbol answers for it. The slots stand above, for this table only.
                    unsafe {
                        $crate::ops::Table::new(&OPS, SLOTS.all()).with_variants(&VARIANTS)
                    }
                };
            }
            #[allow(unused_imports)]
            use table::CAPACITIES;
            #[allow(unused_imports)]
            pub use table::{COUNT, SLOTS, TABLE};

            /// The slot of each op, typed by ABI class and signature: `slot::name.holds(…)`
            /// is what [`install`] takes, and a function that does not fit does not compile.
            #[allow(non_upper_case_globals, unused_imports, dead_code)]
            pub mod slot {
                use super::*;

                $($(
                    $($cfg)*
                    $crate::__op_slot! { $words $name $signature }
                )*)*
            }

            /// Puts the functions of a layer, of a hypervisor's say, into their slots. Patched
            /// sites change when they are patched again.
            ///
            /// A pair that [`slot`] makes has a function of the right class and signature. A pair
            /// that is written by hand can hold any [`Target`]($crate::ops::Target): a function
            /// in assembly, for instance.
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

            /// Returns the change that puts a function into its slot, of a pair that [`slot`] makes. A
            /// writer makes the changes of a list and patches their sites in one transaction:
            /// [`Patcher::change`]($crate::Patcher::change) and its like for CPUs that run.
            ///
            /// # Safety
            /// - as for [`install`], from when the change is made until it is undone;
            /// - the function that the slot held before stays in memory for as long as the change
            ///   can be undone.
            #[allow(unsafe_code, dead_code)]
            pub unsafe fn change(
                (id, target): (Id, $crate::ops::Target),
            ) -> $crate::text::Change<'static> {
                // SAFETY: the caller answers for the function.
                let change = unsafe { TABLE.change(id as usize, target) };
                // The compiler knows it, too: each variant of `Id` has its slot.
                change.unwrap_or_else(|| ::core::unreachable!())
            }

            /// Selects variants: puts into the slot of each op that has some the last one that is
            /// eligible for CPUs with these features, or its native function if none is. Patched
            /// sites change when they are patched again.
            ///
            /// It is called before [`install`], which then has the last word, and both before the
            /// sites are patched.
            ///
            /// # Safety
            /// - as for [`Table::select`]($crate::ops::Table::select): every CPU has the features
            ///   by which a variant is selected, and what conditions require of the operating
            ///   system stays so.
            #[allow(unsafe_code, dead_code)]
            pub unsafe fn select(features: &$crate::cpu::Features) {
                // SAFETY: the caller answers for the features.
                unsafe { TABLE.select(features) };
            }

            /// Puts every native function back into its slot: what [`select`] and [`install`] have
            /// put there is gone.
            #[allow(dead_code)]
            pub fn reset() {
                TABLE.reset();
            }

            $($(
                $($cfg)*
                $crate::__op_fn! { $symbol $words [$($doc)*] $name $signature }
            )*)*
        }
    };
}

/// Expands to the size of an op's sites, in bytes.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_capacity {
    ([]) => {
        6
    };
    ([$capacity:literal]) => {
        $capacity
    };
}
