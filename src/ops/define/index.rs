//! The description of an op in the linked file: a record in the section `patchlet_ops`, which
//! the tool reads, and two symbols, which assembly uses.
//!
//! A record, little-endian, at a multiple of 4:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | address of the op's slot, relative to this field |
//! | 4 | 4 | address of the table's name, which ends with a 0, relative to this field |
//! | 8 | 2 | index of the op in its table |
//! | 10 | 1 | bits 0 and 1, ABI class: 0 callee-save, 1 C, 2 assembly, 3 extern C; bits 5 and 6, what the op is natively: 0 a patchlet, 1 a function, 2 nothing; bit 7, CPUs of the target need not have NOPL |
//! | 11 | 1 | how many registers the arguments take; 0 in class 3 |
//! | 12 | 1 | how many registers the result takes; 0 in class 3 |
//! | 13 | 1 | length of the op's name, in bytes |
//! | 14 | … | the name with its group, `irq.save_fl`, then zeros up to a multiple of 4 |
//!
//! The value of the symbol `<symbol of the table>.<op>` is the address of the op's slot. The
//! symbol `<symbol of the table>.<op>.index` tells the op's index: by its size on 64 bit, by its
//! value on 32 bit. (GNU ld refuses a 16-bit value of a symbol in a position-independent program,
//! and the size of an absolute symbol.) A `.S` file that names an op which no table has does not
//! link.
//!
//! A record must be there if and only if the slots are. The linker ties it (SHF_LINK_ORDER)
//! to the section with the table's name, and the slots refer to that name. It cannot be tied
//! to the slots themselves: LLVM's assembler wants a symbol that stands further up, and
//! `global_asm!` comes before what Rust defines. A relocation from the name to each record
//! ties them the other way round: `ld -r` makes one section of the records of all tables, tied
//! to the name of any one, and without the relocation all would go with that table.

/// Expands to a reference to the table's name, for the slots to hold. As long as the linker
/// keeps the slots it then keeps the name, and with it the records.
#[doc(hidden)]
#[macro_export]
macro_rules! __ops_in_index {
    ($symbol:literal) => {{
        unsafe extern "C" {
            #[link_name = ::core::concat!($symbol, ".name")]
            static NAME: [u8; 0];
        }
        // SAFETY: the static has no bytes, so nothing is read through the reference; and
        // `__op_in_index!` defines the symbol, for the first op of the table.
        unsafe { &NAME }
    }};
}

/// Writes the symbol that tells the index of an op by its size. It stands at the op's record, and has
/// no type: at the slot it would get the type of the slots, whatever is asked for, and programs that
/// read the binary would name the slot by it.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __op_index_symbol {
    ($symbol:literal $name:ident) => {
        ::core::concat!(
            ".set ",
            $symbol,
            ".",
            ::core::stringify!($name),
            ".index, .L",
            $symbol,
            ".",
            ::core::stringify!($name),
            ".record\n",
            ".size ",
            $symbol,
            ".",
            ::core::stringify!($name),
            ".index, {index}"
        )
    };
}

/// Writes the symbol that tells the index of an op by its value.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __op_index_symbol {
    ($symbol:literal $name:ident) => {
        ::core::concat!(".set ", $symbol, ".", ::core::stringify!($name), ".index, {index}")
    };
}

/// Expands to the text that defines the table's name. Only the first record of the table that the
/// compiler emits defines it.
#[doc(hidden)]
#[macro_export]
macro_rules! __table_name {
    ($symbol:literal) => {
        ::core::concat!(
            ".ifndef ",
            $symbol,
            ".name\n",
            ".pushsection .rodata.patchlet_table.",
            $symbol,
            ",\"a\",@progbits\n",
            ".globl ",
            $symbol,
            ".name\n",
            ".hidden ",
            $symbol,
            ".name\n",
            $symbol,
            ".name: .asciz \"",
            $symbol,
            "\"\n",
            ".popsection\n",
            ".endif",
        )
    };
}

/// Writes the record and the two symbols of one op.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_in_index {
    // Only the compiler knows how C passes values of any type.
    (
        $symbol:literal $group:ident $name:ident [extern_c $($word:ident)+] $native:tt
        $signature:tt
    ) => {
        $crate::__op_in_index! { @ $symbol $group $name [extern_c $($word)+] $native 0, 0 }
    };
    (
        $symbol:literal $group:ident $name:ident $words:tt $native:tt
        [($($arg:tt)*) [$($result:tt)*]]
    ) => {
        $crate::__op_in_index! {
            @ $symbol $group $name $words $native
            $crate::ops::__private::argument_registers::<fn($($arg)*) $($result)*>(),
            $crate::ops::__private::result_registers::<fn($($arg)*) $($result)*>()
        }
    };
    ($symbol:literal $group:ident $name:ident $words:tt $native:tt []) => {
        $crate::__op_in_index! { @ $symbol $group $name $words $native 0, 0 }
    };
    (
        @ $symbol:literal $group:ident $name:ident $words:tt [$($native:tt)+]
        $arguments:expr, $results:expr
    ) => {
        ::core::arch::global_asm!(
            $crate::__table_name!($symbol),
            // As at a site, for shared objects: the records name the slots at a fixed distance. A
            // table without a site in its object is hidden by this line alone.
            ".hidden {slots}",
            ::core::concat!(".globl ", $symbol, ".", ::core::stringify!($name)),
            ::core::concat!(".hidden ", $symbol, ".", ::core::stringify!($name)),
            ::core::concat!(".set ", $symbol, ".", ::core::stringify!($name), ", {slots} + {offset}"),
            ::core::concat!(".type ", $symbol, ".", ::core::stringify!($name), ", @object"),
            ::core::concat!(".size ", $symbol, ".", ::core::stringify!($name), ", {size}"),
            ::core::concat!(".globl ", $symbol, ".", ::core::stringify!($name), ".index"),
            ::core::concat!(".hidden ", $symbol, ".", ::core::stringify!($name), ".index"),
            $crate::__op_index_symbol!($symbol $name),
            ::core::concat!(".pushsection patchlet_ops,\"ao\",@progbits,", $symbol, ".name"),
            ".balign 4",
            ::core::concat!(".L", $symbol, ".", ::core::stringify!($name), ".record:"),
            ".long {slots} + {offset} - .",
            ::core::concat!(".long ", $symbol, ".name - ."),
            ".short {index}",
            ".byte {class}, {arguments}, {results}, {length}",
            ::core::concat!(
                ".ascii \"", ::core::stringify!($group), ".", ::core::stringify!($name), "\""
            ),
            ".balign 4",
            ".popsection",
            // Relocates nothing, but keeps the record for as long as the table's name.
            ::core::concat!(".pushsection .rodata.patchlet_table.", $symbol, ",\"a\",@progbits"),
            ::core::concat!(
                ".reloc ", $symbol, ".name, BFD_RELOC_NONE, .L", $symbol, ".",
                ::core::stringify!($name), ".record"
            ),
            ".popsection",
            slots = sym SLOTS,
            size = const ::core::mem::size_of::<usize>(),
            index = const super::Id::$name as usize,
            offset = const super::Id::$name as usize * ::core::mem::size_of::<usize>(),
            class = const $crate::ops::__private::class_number($crate::__op_abi!($words))
                | $crate::__op_means!($($native)+) << 5,
            arguments = const $arguments,
            results = const $results,
            length = const {
                ::core::concat!(::core::stringify!($group), ".", ::core::stringify!($name)).len()
            },
            options(att_syntax),
        );
    };
}
