//! Sites for `naked_asm!` and `global_asm!`, where a site cannot have register operands.

/// Gives the text of one site, for [`naked_asm!`](core::arch::naked_asm) and
/// [`global_asm!`](core::arch::global_asm), in AT&T syntax:
///
/// ```no_run
/// use core::arch::naked_asm;
///
/// /// Turns interrupts off and returns the flags as they were.
/// #[unsafe(naked)]
/// extern "C" fn save_and_disable() -> usize {
///     naked_asm!(
///         patchlet::site_text!(call, "patchlet_pv_ops", save_fl),
///         patchlet::site_text!(call, "patchlet_pv_ops", irq_disable),
///         "ret",
///         options(att_syntax),
///     )
/// }
/// ```
///
/// - `call` or `jmp`: the instruction of the site. What the slot of a `jmp` holds must leave by
///   itself, as `iret` does: from a patchlet that does not, the CPU runs on into the bytes
///   behind the site.
/// - The symbol of the ops table: the name behind `as` in [`ops!`](crate::ops!).
/// - The name of the op. If the table has no such op, the linker reports an undefined symbol.
/// - `capacity = 16`: the size of the site in bytes, 6 to 32; 6 if it is left out.
///
/// The assembly around the site keeps to the op's ABI class: for an op of class `c` the stack
/// is aligned as C requires, and no register that the class lets a function change holds a
/// value that is used behind the site. The table must have been made by `ops!`.
#[macro_export]
macro_rules! site_text {
    (call, $table:literal, $op:ident $(,)?) => {
        $crate::__site_text!("call", 0, $table, $op, 6)
    };
    (call, $table:literal, $op:ident, capacity = $capacity:literal $(,)?) => {
        $crate::__site_text!("call", 0, $table, $op, $capacity)
    };
    (jmp, $table:literal, $op:ident $(,)?) => {
        $crate::__site_text!("jmp", 1, $table, $op, 6)
    };
    (jmp, $table:literal, $op:ident, capacity = $capacity:literal $(,)?) => {
        $crate::__site_text!("jmp", 1, $table, $op, $capacity)
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "a site is `call` or `jmp`, the symbol of a table and the name of an op: \
             `site_text!(call, \"patchlet_pv_ops\", irq_disable)`, and `capacity = 16` behind \
             them for one of more than 6 bytes"
        )
    };
}

/// Expands to the text of a site: the text that `site_asm!` writes, with the two symbols of the
/// op, `<table>.<op>` and `<table>.<op>.index`, in place of operands. Comments there explain it.
#[doc(hidden)]
#[macro_export]
macro_rules! __site_text {
    ($opcode:literal, $kind:literal, $table:literal, $op:ident, $capacity:literal) => {
        ::core::concat!(
            ".if ",
            $capacity,
            " < 6 || ",
            $capacity,
            " > 32\n",
            ".error \"a patch site has 6 to 32 bytes\"\n",
            ".endif\n",
            // A new label each time, as in `site_asm!`.
            ".ifndef .Lpatchlet_count\n",
            ".set .Lpatchlet_count, 0\n",
            ".endif\n",
            ".set .Lpatchlet_count, .Lpatchlet_count + 1\n",
            ".hidden ",
            $table,
            ".",
            ::core::stringify!($op),
            "\n",
            ".macro patchlet_site number\n",
            ".Lpatchlet_site_\\number:\n",
            $opcode,
            " *",
            $table,
            ".",
            ::core::stringify!($op),
            $crate::__relative!(),
            "\n",
            ".skip ",
            $capacity,
            " - 6, 0x90\n",
            ".reloc .Lpatchlet_site_\\number, BFD_RELOC_NONE, .Lpatchlet_record_\\number\n",
            ".pushsection patchlet_sites, \"ao\", @progbits, .Lpatchlet_site_\\number\n",
            ".balign 4\n",
            ".Lpatchlet_record_\\number:\n",
            ".long .Lpatchlet_site_\\number - .\n",
            ".long ",
            $table,
            ".",
            ::core::stringify!($op),
            " - .\n",
            $crate::__op_and_shape!($table $op $capacity $kind),
            ".popsection\n",
            ".endm\n",
            ".altmacro\n",
            "patchlet_site %.Lpatchlet_count\n",
            ".noaltmacro\n",
            ".purgem patchlet_site\n",
        )
    };
}

/// Writes the end of a record: index of the op, capacity and kind. On 64 bit, the index is the size
/// of a symbol.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __op_and_shape {
    ($table:literal $op:ident $capacity:literal $kind:literal) => {
        ::core::concat!(
            ".long ",
            $table,
            ".",
            ::core::stringify!($op),
            ".index@SIZE + (",
            $capacity,
            " << 16) + (",
            $kind,
            " << 24)\n",
        )
    };
}

/// Writes the end of a record: index of the op, capacity and kind. On 32 bit, the index is the value
/// of a symbol.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __op_and_shape {
    ($table:literal $op:ident $capacity:literal $kind:literal) => {
        ::core::concat!(
            ".short ",
            $table,
            ".",
            ::core::stringify!($op),
            ".index\n.byte ",
            $capacity,
            ", ",
            $kind,
            "\n",
        )
    };
}

/// Expands to what follows the symbol of a slot in the operand of a site: on 64 bit, the
/// address is relative to RIP.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __relative {
    () => {
        "(%rip)"
    };
}

/// Expands to what follows the symbol of a slot in the operand of a site: on 32 bit, the
/// address is absolute and nothing follows.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __relative {
    () => {
        ""
    };
}
