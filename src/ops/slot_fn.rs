//! Rust functions as what a slot can hold: the thunks between an op's ABI class
//! and C's.
//!
//! The callee-save class lets a function change its result registers and the
//! flags only, so that a site costs its caller nothing. A Rust function changes
//! what C may change; the thunk saves the difference.

/// Makes constants of type [`SlotFn`](crate::ops::SlotFn) out of Rust functions, for
/// [`install`](crate::pv::install) and for what an op of [`ops!`](crate::ops!) does natively:
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
/// // SAFETY: each does what its op is for.
/// unsafe {
///     pv::install(&[
///         pv::slot::irq_disable.holds(IRQ_DISABLE),
///         pv::slot::irq_enable.holds(IRQ_ENABLE),
///         pv::slot::save_fl.holds(SAVE_FL),
///         pv::slot::restore_fl.holds(RESTORE_FL),
///         pv::slot::write_cr3.holds(WRITE_CR3),
///     ])
/// };
/// ```
///
/// Class and signature are part of the constant's type: with an op of another class or
/// signature it does not compile. Arguments and results are those of [`ops!`](crate::ops!).
///
/// The `callee_save` thunk saves all integer registers that C may change, those of the
/// arguments as well, and with SSE2 the state that FXSAVE covers (x87, MMX, XMM). It does
/// not save the upper halves of AVX registers. In a program that is compiled with AVX for
/// all its code a `callee_save` function is therefore refused. In any other, a function that
/// changes those registers by itself (`#[target_feature(enable = "avx")]`, inline assembly)
/// cannot stand in such a slot.
#[macro_export]
macro_rules! slot_fn {
    ($(
        $(#[$meta:meta])*
        $vis:vis const $name:ident = $class:ident fn($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?
            $body:block;
    )*) => {
        $(
            $(#[$meta])*
            #[allow(unsafe_code)]
            $vis const $name: $crate::ops::SlotFn<
                $crate::ops::class::$class, fn($($ty),*) $(-> $ret)?
            > = {
                #[allow(improper_ctypes_definitions, clippy::too_many_arguments)]
                extern "C" fn function($($arg: $ty),*) $(-> $ret)? $body
                // Asking for the registers is what checks that there are enough of them.
                const _: u8 =
                    $crate::ops::__private::argument_registers::<fn($($ty),*) $(-> $ret)?>();
                let target = $crate::__thunk!(
                    $class, function,
                    $crate::ops::__private::result_registers::<fn($($ty),*) $(-> $ret)?>()
                );
                // SAFETY: the thunk is that of the class, and the function has the signature.
                unsafe { $crate::ops::SlotFn::new(target) }
            };
        )*
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "this is not a list of functions for slots: `const NAME = callee_save fn(argument: \
             type) -> type { … };`, or `c` in place of `callee_save`. What has no such signature \
             is written in assembly, for an op whose sites are written with `site_asm!`"
        );
    };
}

/// A naked function of these lines of assembly, as a [`Target`](crate::ops::Target). With
/// indirect branch tracking it begins with ENDBR, as it is the target of an indirect call.
#[doc(hidden)]
#[macro_export]
macro_rules! __naked {
    ($($line:expr,)* ; $($operand:tt)*) => {{
        #[unsafe(naked)]
        extern "C" fn thunk() {
            ::core::arch::naked_asm!(
                $crate::__endbr!(),
                $($line,)*
                $($operand)*
                options(att_syntax),
            )
        }
        $crate::ops::Target::function(thunk as *const ())
    }};
}

/// What a slot holds for a Rust function of a class whose result takes so many registers.
///
/// - `c`, 64 bit: the function itself.
/// - `c`, 32 bit: arguments come in registers, and C has them on the stack.
/// - `callee_save`: registers are saved around the call. The result, if there is one, goes
///   where its registers are restored from.
///
/// A site in assembly may have a stack that is aligned to its words only, hence the `and`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __thunk {
    (c, $function:expr, $results:expr) => {
        $crate::ops::Target::function($function as *const ())
    };
    (callee_save, $function:expr, $results:expr) => {
        $crate::__naked!(
            "pushq %rbp",
            "movq %rsp, %rbp",
            "pushq %rax", // -8(%rbp)
            "pushq %rdx", // -16(%rbp)
            "pushq %rcx",
            "pushq %rsi",
            "pushq %rdi",
            "pushq %r8",
            "pushq %r9",
            "pushq %r10",
            "pushq %r11", // -72(%rbp)
            "andq $-16, %rsp",
            $crate::__vector_state!("subq $512, %rsp; fxsave64 (%rsp)"),
            "call {function}",
            ".if {results} > 0; movq %rax, -8(%rbp); .endif",
            ".if {results} > 1; movq %rdx, -16(%rbp); .endif",
            $crate::__vector_state!("fxrstor64 (%rsp)"),
            "leaq -72(%rbp), %rsp",
            "popq %r11",
            "popq %r10",
            "popq %r9",
            "popq %r8",
            "popq %rdi",
            "popq %rsi",
            "popq %rcx",
            "popq %rdx",
            "popq %rax",
            "popq %rbp",
            "ret",
            ;
            function = sym $function,
            results = const $results,
        )
    };
}

/// As above.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __thunk {
    (c, $function:expr, $results:expr) => {
        $crate::__naked!(
            "pushl %ebp",
            "movl %esp, %ebp",
            "andl $-16, %esp",
            "subl $16, %esp",
            "movl %eax, (%esp)",
            "movl %edx, 4(%esp)",
            "movl %ecx, 8(%esp)",
            "call {function}",
            "leave",
            "ret",
            ;
            function = sym $function,
        )
    };
    (callee_save, $function:expr, $results:expr) => {
        $crate::__naked!(
            "pushl %ebp",
            "movl %esp, %ebp",
            "pushl %eax", // -4(%ebp)
            "pushl %edx", // -8(%ebp)
            "pushl %ecx", // -12(%ebp)
            "andl $-16, %esp",
            $crate::__vector_state!("subl $512, %esp; fxsave (%esp)"),
            "subl $16, %esp",
            "movl %eax, (%esp)",
            "movl %edx, 4(%esp)",
            "movl %ecx, 8(%esp)",
            "call {function}",
            "addl $16, %esp",
            ".if {results} > 0; movl %eax, -4(%ebp); .endif",
            ".if {results} > 1; movl %edx, -8(%ebp); .endif",
            $crate::__vector_state!("fxrstor (%esp)"),
            "leal -12(%ebp), %esp",
            "popl %ecx",
            "popl %edx",
            "popl %eax",
            "popl %ebp",
            "ret",
            ;
            function = sym $function,
            results = const $results,
        )
    };
}

/// The given instructions where Rust code uses vector registers, else none.
#[doc(hidden)]
#[macro_export]
#[cfg(all(target_feature = "sse2", not(target_feature = "avx")))]
macro_rules! __vector_state {
    ($instructions:literal) => {
        $instructions
    };
}

/// The given instructions where Rust code uses vector registers, else none.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_feature = "sse2"))]
macro_rules! __vector_state {
    ($instructions:literal) => {
        ""
    };
}

/// FXSAVE does not save the upper halves of YMM registers, which the compiler uses with AVX.
/// XSAVE would; its area has a size that only the CPU tells, and the operating system must
/// have enabled it.
#[doc(hidden)]
#[macro_export]
#[cfg(target_feature = "avx")]
macro_rules! __vector_state {
    ($instructions:literal) => {
        ::core::compile_error!(
            "the program is compiled with AVX, and the thunk of a `callee_save` function does not \
             save the upper halves of the YMM registers: take `-C target-feature=+avx` (or the \
             `target-cpu` that has it) away for all code but the functions that need it \
             (`#[target_feature(enable = \"avx\")]`), write the function in assembly, or make the \
             op one of class `c`"
        )
    };
}

/// The instruction that a target of an indirect branch begins with where the program is
/// built with indirect branch tracking (`build.rs` finds out), else none.
#[doc(hidden)]
#[macro_export]
#[cfg(all(patchlet_ibt, target_arch = "x86_64"))]
macro_rules! __endbr {
    () => {
        "endbr64"
    };
}

/// As above.
#[doc(hidden)]
#[macro_export]
#[cfg(all(patchlet_ibt, target_arch = "x86"))]
macro_rules! __endbr {
    () => {
        "endbr32"
    };
}

/// As above.
#[doc(hidden)]
#[macro_export]
#[cfg(not(patchlet_ibt))]
macro_rules! __endbr {
    () => {
        ""
    };
}
