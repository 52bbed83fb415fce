//! Rust functions as what a slot can hold: the thunks between an op's ABI class
//! and C's.
//!
//! The callee-save class lets a function change its result register and the
//! flags only, so that a site costs its caller nothing. A Rust function changes
//! what C may change; the thunk saves the difference.

/// Makes constants of type [`Target`](crate::ops::Target) out of Rust functions,
/// for [`install`](crate::pv::install):
///
/// ```no_run
/// use core::sync::atomic::{AtomicBool, Ordering};
/// use patchlet::pv;
///
/// static IF: AtomicBool = AtomicBool::new(true);
///
/// patchlet::slot_fn! {
///     /// Keeps a virtual interrupt flag instead of the real one.
///     pub const IRQ_DISABLE = callee_save fn() { IF.store(false, Ordering::Relaxed) };
///     pub const IRQ_ENABLE = callee_save fn() { IF.store(true, Ordering::Relaxed) };
///     pub const SAVE_FL = callee_save fn() -> usize { usize::from(IF.load(Ordering::Relaxed)) << 9 };
///     pub const RESTORE_FL = callee_save fn(flags: usize) {
///         IF.store(flags >> 9 & 1 != 0, Ordering::Relaxed)
///     };
///     pub const WRITE_CR3 = c fn(cr3: usize) { let _ask_the_hypervisor = cr3; };
/// }
///
/// // SAFETY: the ABI classes and signatures are those of the ops.
/// unsafe {
///     pv::install(&[
///         (pv::Id::irq_disable, IRQ_DISABLE),
///         (pv::Id::irq_enable, IRQ_ENABLE),
///         (pv::Id::save_fl, SAVE_FL),
///         (pv::Id::restore_fl, RESTORE_FL),
///         (pv::Id::write_cr3, WRITE_CR3),
///     ])
/// };
/// ```
///
/// The `callee_save` thunk saves all integer registers C may change, and with
/// SSE2 the state FXSAVE covers (x87, MMX, XMM). It does not save the upper halves
/// of AVX registers: a function that changes those cannot stand in such a slot.
#[macro_export]
macro_rules! slot_fn {
    ($(
        $(#[$meta:meta])*
        $vis:vis const $name:ident = $abi:ident fn($($arg:ident : $ty:ty)?) $(-> $ret:tt)? $body:block;
    )*) => {
        $(
            $(#[$meta])*
            #[allow(unsafe_code)]
            $vis const $name: $crate::ops::Target = {
                extern "C" fn function($($arg: $ty)?) $(-> $ret)? $body
                $crate::__thunk!($abi, function $(, $ret)?)
            };
        )*
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __thunk {
    (c, $function:ident $(, $ret:tt)?) => {
        $crate::ops::Target::function($function as *const ())
    };
    (callee_save, $function:ident $(, $ret:tt)?) => {{
        #[unsafe(naked)]
        extern "C" fn thunk() {
            ::core::arch::naked_asm!(
                "pushq %rbp",
                "movq %rsp, %rbp",
                "pushq %rax",
                "pushq %rcx",
                "pushq %rdx",
                "pushq %rsi",
                "pushq %rdi",
                "pushq %r8",
                "pushq %r9",
                "pushq %r10",
                "pushq %r11",
                // A site in assembly may have any multiple of 8.
                "andq $-16, %rsp",
                $crate::__fxsave!("subq $512, %rsp; fxsave64 (%rsp)"),
                "call {function}",
                // The result goes where RAX is restored from.
                $crate::__thunk_result!("movq %rax, -8(%rbp)" $(, $ret)?),
                $crate::__fxsave!("fxrstor64 (%rsp)"),
                "leaq -72(%rbp), %rsp",
                "popq %r11",
                "popq %r10",
                "popq %r9",
                "popq %r8",
                "popq %rdi",
                "popq %rsi",
                "popq %rdx",
                "popq %rcx",
                "popq %rax",
                "popq %rbp",
                "ret",
                function = sym $function,
                options(att_syntax),
            )
        }
        $crate::ops::Target::function(thunk as *const ())
    }};
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __thunk {
    (c, $function:ident $(, $ret:tt)?) => {{
        // Register arguments in, cdecl's stack arguments out.
        #[unsafe(naked)]
        extern "C" fn thunk() {
            ::core::arch::naked_asm!(
                "pushl %ebp",
                "movl %esp, %ebp",
                "andl $-16, %esp",
                "subl $16, %esp",
                "movl %eax, (%esp)",
                "movl %edx, 4(%esp)",
                "call {function}",
                "leave",
                "ret",
                function = sym $function,
                options(att_syntax),
            )
        }
        $crate::ops::Target::function(thunk as *const ())
    }};
    (callee_save, $function:ident $(, $ret:tt)?) => {{
        #[unsafe(naked)]
        extern "C" fn thunk() {
            ::core::arch::naked_asm!(
                "pushl %ebp",
                "movl %esp, %ebp",
                "pushl %eax",
                "pushl %ecx",
                "pushl %edx",
                "andl $-16, %esp",
                $crate::__fxsave!("subl $512, %esp; fxsave (%esp)"),
                "subl $16, %esp",
                "movl %eax, (%esp)",
                "movl %edx, 4(%esp)",
                "call {function}",
                "addl $16, %esp",
                // The result goes where EAX (and EDX) is restored from.
                $crate::__thunk_result!("movl %eax, -4(%ebp)" $(, $ret)?),
                $crate::__fxsave!("fxrstor (%esp)"),
                "leal -12(%ebp), %esp",
                "popl %edx",
                "popl %ecx",
                "popl %eax",
                "popl %ebp",
                "ret",
                function = sym $function,
                options(att_syntax),
            )
        }
        $crate::ops::Target::function(thunk as *const ())
    }};
}

/// The given instructions if there is a result, else none.
#[doc(hidden)]
#[macro_export]
macro_rules! __thunk_result {
    ($instruction:literal) => {
        ""
    };
    // Only 32-bit sees this: there a u64 has a second half.
    ($instruction:literal, u64) => {
        ::core::concat!($instruction, $crate::__thunk_high_half!())
    };
    ($instruction:literal, $ret:tt) => {
        $instruction
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __thunk_high_half {
    () => {
        "; movl %edx, -12(%ebp)"
    };
}

#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __thunk_high_half {
    () => {
        ""
    };
}

/// The given instructions where Rust code uses vector registers, else none.
#[doc(hidden)]
#[macro_export]
#[cfg(target_feature = "sse2")]
macro_rules! __fxsave {
    ($instructions:literal) => {
        $instructions
    };
}

/// The given instructions where Rust code uses vector registers, else none.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_feature = "sse2"))]
macro_rules! __fxsave {
    ($instructions:literal) => {
        ""
    };
}
