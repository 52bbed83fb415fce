//! The macro that emits a branch, and the NOP in its place.

use crate::insn::{Nops, Width};

/// The NOP of a branch that does not jump: one instruction on every CPU of the target.
pub(super) const NOP: [u8; 5] = Nops::of_target().of_jump(Width::NATIVE);

// `__branch_nop!` has the first four as a number; the fifth byte is 0.
const _: () = {
    const LONG: u32 = u32::from_le_bytes([0x0f, 0x1f, 0x44, 0x00]);
    const LEA: u32 = u32::from_le_bytes([0x3e, 0x8d, 0x74, 0x26]);
    assert!(LONG == 0x0044_1f0f && LEA == 0x2674_8d3e);
    let [a, b, c, d, e] = NOP;
    let first = u32::from_le_bytes([a, b, c, d]);
    let is_long = cfg!(any(target_pointer_width = "64", target_feature = "sse2"));
    assert!(e == 0 && first == if is_long { LONG } else { LEA });
};

/// Expands to the first four bytes of the NOP of a branch, as a number.
#[doc(hidden)]
#[macro_export]
#[cfg(any(target_pointer_width = "64", target_feature = "sse2"))]
macro_rules! __branch_nop {
    () => {
        "0x00441f0f"
    };
}

/// Expands to the first four bytes of the NOP of a branch, as a number.
#[doc(hidden)]
#[macro_export]
#[cfg(not(any(target_pointer_width = "64", target_feature = "sse2")))]
macro_rules! __branch_nop {
    () => {
        "0x26748d3e"
    };
}

/// Returns whether a key is on, by a static branch: `if branch!(KEY) { … }`.
///
/// ```no_run
/// patchlet::keys! {
///     static TRACE: off;
///     static SEND_IPIS: on;
/// }
/// # fn log() {}
/// # fn send() {}
///
/// fn flush() {
///     if patchlet::branch!(TRACE) {
///         log();
///     }
///     if patchlet::branch!(SEND_IPIS) {
///         send();
///     }
/// }
/// # fn main() {}
/// ```
///
/// In text stands one instruction of five bytes: a NOP, or a jump. The side that the key's initial
/// state takes follows it, and the other side is out of line, behind the function; so a key that
/// stays as it started costs a NOP. `branch!(likely KEY)` and `branch!(unlikely KEY)` say which side
/// is to follow, where it is not that one. The assembler writes what the key's initial state asks
/// for, so a branch is right before anything was patched.
///
/// The key is the path of a static that [`keys!`](crate::keys!) defined. The branch reads no memory
/// and orders none: what code on either side reads must be published by other means than the key.
#[macro_export]
macro_rules! branch {
    (likely $key:path) => {
        $crate::__branch!($key, true)
    };
    (unlikely $key:path) => {
        $crate::__branch!($key, false)
    };
    ($key:path) => {
        $crate::__branch!($key, $crate::branch::__private::starts_on(&$key))
    };
}

/// Emits a branch. `likely` is whether the side for the key that is on follows.
#[doc(hidden)]
#[macro_export]
macro_rules! __branch {
    ($key:path, $likely:expr) => {
        'branch: {
            // SAFETY: the instruction goes on behind itself or at the label, and does nothing else.
            // Only a writer that knows the record changes it, from one of these into the other.
            #[allow(unsafe_code, unused_unsafe)]
            unsafe {
                // The record's section is tied to the section of the branch, and each has a label of
                // its own; `site_asm!` has the reasons.
                ::core::arch::asm!(
                    ".ifndef .Lpatchlet_count",
                    ".set .Lpatchlet_count, 0",
                    ".endif",
                    ".set .Lpatchlet_count, .Lpatchlet_count + 1",
                    ".hidden __start_patchlet_branches, __stop_patchlet_branches",
                    ".macro patchlet_branch number",
                    ".Lpatchlet_branch_\\number:",
                    ".if {jumps}",
                    // Not `jmp`, for which an assembler chooses two bytes where these reach.
                    ".byte 0xe9",
                    ".long {target} - . - 4",
                    ".else",
                    ::core::concat!(".long ", $crate::__branch_nop!()),
                    ".byte 0",
                    ".endif",
                    ".reloc .Lpatchlet_branch_\\number, BFD_RELOC_NONE, .Lpatchlet_record_\\number",
                    // The record of the key, which is linked if a branch of it is.
                    ".reloc .Lpatchlet_branch_\\number, BFD_RELOC_NONE, {key}.record",
                    ".pushsection patchlet_branches, \"ao\", @progbits, .Lpatchlet_branch_\\number",
                    ".balign 4",
                    ".Lpatchlet_record_\\number:",
                    ".long .Lpatchlet_branch_\\number - .",
                    ".long {key} - .",
                    // The number, which is 0; the capacity; and whether the NOP stands for a key
                    // that is on.
                    ".short 0",
                    ".byte 5, {likely}",
                    ".long {target} - .",
                    ".popsection",
                    ".endm",
                    ".altmacro",
                    "patchlet_branch %.Lpatchlet_count",
                    ".noaltmacro",
                    ".purgem patchlet_branch",
                    key = sym $key,
                    jumps = const ($crate::branch::__private::starts_on(&$key) != $likely) as usize,
                    likely = const ($likely) as usize,
                    // The side out of line. LLVM takes a label to be never jumped to.
                    target = label { break 'branch !($likely) },
                    options(att_syntax, nomem, nostack, preserves_flags),
                );
            }
            $likely
        }
    };
}
