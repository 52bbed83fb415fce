//! Ops of any signature: macros that write the trampoline of an op of class `extern_c`, and the
//! function that calls it.
//!
//! ```text
//! log(…)  ──call──→  trampoline:  jmp *slot        as the assembler wrote it
//!                                 ret
//!
//!                    trampoline:  jmp function     patched
//!                                 ret
//!
//!                    trampoline:  nop              patched: the slot holds the no-op function
//!                                 ret
//! ```
//!
//! The compiler calls the trampoline as it calls any function of C, and the function behind the
//! jump finds arguments, stack and return address as if it had been called itself. The return is
//! for what does not leave by itself: NOPs, the patchlet that returns 0, and other patchlets.

/// Writes the trampoline of an op: a hidden function in a section of its own, so that a linker
/// drops it, and the record of its site, when no code calls it. Writes nothing for other classes.
#[doc(hidden)]
#[macro_export]
macro_rules! __trampoline {
    ($symbol:literal $name:ident [extern_c $($words:ident)+] $capacity:tt) => {
        ::core::arch::global_asm!(
            ::core::concat!(
                ".pushsection .text.", $symbol, ".", ::core::stringify!($name),
                ".trampoline,\"ax\",@progbits"
            ),
            ".balign 16",
            ::core::concat!(".globl ", $symbol, ".", ::core::stringify!($name), ".trampoline"),
            ::core::concat!(".hidden ", $symbol, ".", ::core::stringify!($name), ".trampoline"),
            ::core::concat!(
                ".type ", $symbol, ".", ::core::stringify!($name), ".trampoline, @function"
            ),
            ::core::concat!($symbol, ".", ::core::stringify!($name), ".trampoline:"),
            $crate::__endbr!(),
            $crate::__trampoline_site!($symbol $name $capacity),
            "ret",
            ::core::concat!(
                ".size ", $symbol, ".", ::core::stringify!($name), ".trampoline, . - ", $symbol,
                ".", ::core::stringify!($name), ".trampoline"
            ),
            ".popsection",
            options(att_syntax),
        );
    };
    ($symbol:literal $name:ident $words:tt $capacity:tt) => {};
}

/// Expands to the text of the site in a trampoline.
#[doc(hidden)]
#[macro_export]
macro_rules! __trampoline_site {
    ($symbol:literal $name:ident []) => {
        $crate::site_text!(jmp, $symbol, $name)
    };
    ($symbol:literal $name:ident [$capacity:literal]) => {
        $crate::site_text!(jmp, $symbol, $name, capacity = $capacity)
    };
}

/// Writes the function of an op of class `extern_c`, safe or unsafe: a call of its trampoline.
#[doc(hidden)]
#[macro_export]
macro_rules! __extern_fn {
    (
        $symbol:literal [$($unsafe:tt)?] [$($doc:tt)*] $name:ident
        [($($arg:ident : $ty:ty),* $(,)?) [$($result:tt)*]]
    ) => {
        $($doc)*
        #[inline(always)]
        #[allow(unsafe_code, clippy::missing_safety_doc, clippy::too_many_arguments)]
        pub $($unsafe)? fn $name($($arg: $ty),*) $($result)* {
            unsafe extern "C" {
                #[link_name = ::core::concat!(
                    $symbol, ".", ::core::stringify!($name), ".trampoline"
                )]
                fn trampoline($($arg: $ty),*) $($result)*;
            }
            // SAFETY: `__trampoline!` writes this symbol, which goes on to what the slot holds. By
            // the contract of `install` that has the op's signature and keeps to C's ABI. If the
            // op has further conditions, it is an `unsafe fn` and the caller answers for them.
            unsafe { trampoline($($arg),*) }
        }
    };
    ($symbol:literal $unsafe:tt $doc:tt $name:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the op `", ::core::stringify!($name), "` has an argument that is not `name: type`: \
             give each a name"
        ));
    };
}
