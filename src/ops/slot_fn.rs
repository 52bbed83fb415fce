//! Rust functions in slots, and the thunks that adapt them to an op's ABI class.
//!
//! A function of the callee-save class may change its result registers and the flags only, so
//! that the caller of a site need not save any register. A Rust function may change all
//! registers that C lets it change. The thunk between them saves the difference.

/// Makes constants of type [`SlotFn`](crate::ops::SlotFn) from Rust functions. They are for
/// [`install`](crate::pv::install), and for native functions in [`ops!`](crate::ops!):
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
/// Class and signature are part of the constant's type, so giving it to an op of another class
/// or signature does not compile. Arguments and results can have the types that
/// [`ops!`](crate::ops!) allows.
///
/// The thunk of a `callee_save` function saves all integer registers that C may change, those of
/// the arguments included, and with SSE2 the state that FXSAVE covers (x87, MMX, XMM). It does
/// not save the upper halves of YMM registers. Therefore a `callee_save` function does not compile
/// in a program that is compiled with AVX for all its code. In any other program, do not
/// write a `callee_save` function that changes YMM registers by itself
/// (`#[target_feature(enable = "avx")]`, inline assembly): its caller would find them changed.
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
                // The value is not used. Evaluating it is the compile-time check that the
                // arguments fit into the registers.
                const _: u8 =
                    $crate::ops::__private::argument_registers::<fn($($ty),*) $(-> $ret)?>();
                let target = $crate::__thunk!(
                    $class, function,
                    $crate::ops::__private::result_registers::<fn($($ty),*) $(-> $ret)?>()
                );
                // SAFETY: `__thunk!` of this class makes a function that keeps to it, and
                // `function` is declared with this signature above.
                unsafe { $crate::ops::SlotFn::new(target) }
            };
        )*
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "this is not a list of functions for slots: `const NAME = callee_save fn(argument: \
             type) -> type { … };`, or `c` in place of `callee_save`. What has no such signature \
             is an `extern \"C\"` function as it is, for an op of class `extern_c`"
        );
    };
}

/// Expands to a [`Target`](crate::ops::Target): a naked function of these lines of assembly.
/// Where the program is built with indirect branch tracking, it begins with ENDBR, because an
/// unpatched site calls it indirectly.
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

/// Expands to the [`Target`](crate::ops::Target) that a slot holds for a Rust function, on
/// 64 bit. Takes the ABI class, the function, and how many registers its result takes (0 to 2).
///
/// - `c`: the function itself, since arguments and result are where C has them.
/// - `callee_save`: a thunk that pushes every register that C may change, calls the function and
///   pops them again. It writes the result into the stack words of RAX and RDX, so that the
///   pops put the result into these registers.
///
/// A site in assembly may stand where the stack is aligned to 8 bytes only. The `andq` aligns it
/// to 16, for the call and for FXSAVE; the `leaq` finds the saved registers relative to RBP.
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

/// Expands to the [`Target`](crate::ops::Target) that a slot holds for a Rust function, on
/// 32 bit. Takes the ABI class, the function, and how many registers its result takes (0 to 2).
///
/// - `c`: a thunk that copies the arguments from EAX, EDX and ECX to the stack, where C has them.
///   It always copies three: a function does not look at words behind its arguments.
/// - `callee_save`: a thunk that does the same and saves every register that C may change. It
///   writes the result into the stack words of EAX and EDX, so that the pops put the result into
///   these registers.
///
/// A site in assembly may stand where the stack is aligned to 4 bytes only. The `andl` aligns it
/// to 16, for the call and for FXSAVE; the `leal` finds the saved registers relative to EBP.
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

/// Expands to the given instructions, which save or restore vector registers: in this program,
/// Rust code may use XMM registers.
#[doc(hidden)]
#[macro_export]
#[cfg(all(target_feature = "sse2", not(target_feature = "avx")))]
macro_rules! __vector_state {
    ($instructions:literal) => {
        $instructions
    };
}

/// Expands to nothing: in this program, Rust code uses no vector registers, as in most kernels.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_feature = "sse2"))]
macro_rules! __vector_state {
    ($instructions:literal) => {
        ""
    };
}

/// Refuses to compile. In this program, Rust code may use YMM registers, and FXSAVE does not save
/// their upper halves. XSAVE would, but the size of its area is known only at run time (CPUID
/// leaf 0DH), and the operating system must have enabled it in CR4.
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

/// Expands to ENDBR64. The program is built with indirect branch tracking (`build.rs` finds
/// out), so every target of an indirect call must begin with it, else the CPU raises #CP.
#[doc(hidden)]
#[macro_export]
#[cfg(all(patchlet_ibt, target_arch = "x86_64"))]
macro_rules! __endbr {
    () => {
        "endbr64"
    };
}

/// Expands to ENDBR32. The program is built with indirect branch tracking (`build.rs` finds
/// out), so every target of an indirect call must begin with it, else the CPU raises #CP.
#[doc(hidden)]
#[macro_export]
#[cfg(all(patchlet_ibt, target_arch = "x86"))]
macro_rules! __endbr {
    () => {
        "endbr32"
    };
}

/// Expands to nothing: the program is built without indirect branch tracking.
#[doc(hidden)]
#[macro_export]
#[cfg(not(patchlet_ibt))]
macro_rules! __endbr {
    () => {
        ""
    };
}
