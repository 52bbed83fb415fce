//! Variants of an op: macros that make a list of what stands behind `, if` in `ops!`, and its
//! records in the linked file.
//!
//! A record in the section `patchlet_variants`, little-endian, at a multiple of 4:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | address of the op's slot, relative to this field |
//! | 4 | 4 | address of the word that holds the address of the variant's function, relative to this field |
//! | 8 | 1 | bits 0 to 5, place of the variant among those of its op, from 0; bits 6 and 7, what it is: 0 a patchlet, 1 a function, 2 nothing |
//! | 9 | 1 | length of the condition, in bytes |
//! | 10 | … | the condition: names of features with a space between two, and `!` before those that must be absent, `ERMS !BROKEN`; then zeros up to a multiple of 4 |
//!
//! The word at offset 4 is in the table of variants: not every function of a variant has a symbol
//! that a macro could name. The records are kept and dropped with the table, as those of its ops
//! are (`index.rs`).

/// Expands to the list of the variants of an op, a slice. Takes the variants that are done, the
/// op's `Id`, the words before its signature and the signature as `__op_native!` does, and the
/// variants that are left, each in braces: `{ [condition] how what }`.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_variants {
    ([$($done:expr,)*] $id:expr, $words:tt $signature:tt []) => {
        &[$($done),*]
    };
    (
        [$($done:expr,)*] $id:expr, $words:tt $signature:tt
        [{ $condition:tt $($variant:tt)+ } $($rest:tt)*]
    ) => {
        $crate::__op_variants!(
            [
                $($done,)*
                $crate::ops::Variant::new(
                    $id as u16,
                    $crate::__condition!([] $condition),
                    $crate::__op_native!($words $signature $($variant)+),
                    $crate::__op_patchlet!($($variant)+),
                ),
            ]
            $id, $words $signature [$($rest)*]
        )
    };
}

/// Expands to the number of the variants of an op. Takes them as `__op_variants!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __count_variants {
    ([$($variant:tt)*]) => {{
        const VARIANTS: &[&str] = &[$(::core::stringify!($variant)),*];
        VARIANTS.len()
    }};
}

/// Expands to the requirements of a condition, a slice. Takes those that are done, and the words
/// that are left in brackets. A word is a name of [`Feature`](crate::cpu::Feature), or a path of
/// two segments or more to any constant of that type; `!` before it says that the feature must be
/// absent.
#[doc(hidden)]
#[macro_export]
macro_rules! __condition {
    ([] []) => {
        ::core::compile_error!(
            "a condition names features: `if [ERMS, !own::BROKEN]`; what is always right is the \
             default, behind `=`"
        )
    };
    ([$($done:expr,)*] []) => {
        &[$($done),*]
    };
    ([$($done:expr,)*] [! $name:ident $(, $($rest:tt)*)?]) => {
        $crate::__condition!([$($done,)* $crate::cpu::Feature::$name.absent(),] [$($($rest)*)?])
    };
    ([$($done:expr,)*] [$name:ident $(, $($rest:tt)*)?]) => {
        $crate::__condition!([$($done,)* $crate::cpu::Feature::$name.present(),] [$($($rest)*)?])
    };
    ([$($done:expr,)*] [! $first:ident $(:: $name:ident)+ $(, $($rest:tt)*)?]) => {
        $crate::__condition!([$($done,)* $first $(:: $name)+.absent(),] [$($($rest)*)?])
    };
    ([$($done:expr,)*] [$first:ident $(:: $name:ident)+ $(, $($rest:tt)*)?]) => {
        $crate::__condition!([$($done,)* $first $(:: $name)+.present(),] [$($($rest)*)?])
    };
    ($done:tt [$($other:tt)*]) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($($other)*), "` is not a list of features: a feature is a name \
             of `patchlet::cpu::Feature` or the path of a constant, with `!` before it if it must \
             be absent"
        ))
    };
}

/// Expands to the text of a condition: the last segment of each name. Takes what stands before the
/// words that are left, and these in brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __condition_text {
    ($before:literal []) => {
        ""
    };
    ($before:literal [! $($rest:tt)+]) => {
        ::core::concat!($before, "!", $crate::__condition_text!("" [$($rest)+]))
    };
    ($before:literal [$first:ident :: $($rest:tt)+]) => {
        $crate::__condition_text!($before [$($rest)+])
    };
    ($before:literal [$name:ident $(, $($rest:tt)*)?]) => {
        ::core::concat!(
            $before, ::core::stringify!($name), $crate::__condition_text!(" " [$($($rest)*)?])
        )
    };
    // `__condition!` says what is wrong.
    ($before:literal $other:tt) => {
        ""
    };
}

/// Writes the records of the variants of an op. Takes the symbol of the table, the name of the op,
/// the place of the next variant, and the variants as for `__op_variants!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __variants_in_index {
    ($symbol:literal $name:ident $place:expr, []) => {};
    (
        $symbol:literal $name:ident $place:expr,
        [{ $condition:tt $($variant:tt)+ } $($rest:tt)*]
    ) => {
        ::core::arch::global_asm!(
            $crate::__table_name!($symbol),
            // As the slots (`index.rs`).
            ".hidden {variants}",
            ::core::concat!(".pushsection patchlet_variants,\"ao\",@progbits,", $symbol, ".name"),
            ".balign 4",
            // The name is no operand, so that it can stand in a `.reloc`. Its number is the place.
            ::core::concat!(".L", $symbol, ".", ::core::stringify!($name), ".variant.{place}:"),
            ".long {slots} + {slot} - .",
            ".long {variants} + {variant} - .",
            ".byte {place} + {means}, {length}",
            ::core::concat!(".ascii \"", $crate::__condition_text!("" $condition), "\""),
            ".balign 4",
            ".popsection",
            // Relocates nothing, but keeps the record for as long as the table's name.
            ::core::concat!(".pushsection .rodata.patchlet_table.", $symbol, ",\"a\",@progbits"),
            ::core::concat!(
                ".reloc ", $symbol, ".name, BFD_RELOC_NONE, .L", $symbol, ".",
                ::core::stringify!($name), ".variant.{place}"
            ),
            ".popsection",
            slots = sym SLOTS,
            slot = const super::Id::$name as usize * ::core::mem::size_of::<usize>(),
            variants = sym VARIANTS,
            variant = const $crate::ops::__private::target_offset(
                $crate::ops::__private::variants_before(&VARIANT_COUNTS, super::Id::$name as usize) + $place
            ),
            place = const $place,
            means = const {
                assert!($place < 64, "an op has at most 64 variants");
                $crate::__op_means!($($variant)+) << 6
            },
            length = const $crate::__condition_text!("" $condition).len(),
            options(att_syntax),
        );
        $crate::__variants_in_index! { $symbol $name $place + 1, [$($rest)*] }
    };
}
