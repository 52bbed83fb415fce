//! The native function of an op: macros that check what stands behind `=` in `ops!` against the
//! op's class and signature.

/// Expands to the [`Target`](crate::ops::Target) that the slot of an op holds at first. The input
/// is the words before the signature (`[callee_save unsafe fn]`), then the signature
/// (`[(arguments) [-> result]]`, or `[]` if the op has none), then what stands behind `=`: the kind
/// (`patchlet`, `slot_fn`, `function` or `assembly`) and an expression, or `nothing`. What stands
/// behind the `=>` of a variant is the same.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_native {
    ($words:tt $signature:tt patchlet $patchlet:expr) => {
        $crate::ops::Target::function($patchlet.native() as *const ())
    };
    ($words:tt $signature:tt assembly $symbol:expr) => {{
        unsafe extern "C" {
            #[link_name = $symbol]
            fn native();
        }
        $crate::ops::Target::function(native as *const ())
    }};
    ($words:tt [] nothing) => {
        $crate::ops::Target::NOP
    };
    ($words:tt [$arguments:tt []] nothing) => {
        $crate::ops::Target::NOP
    };
    ($words:tt [$arguments:tt [-> ()]] nothing) => {
        $crate::ops::Target::NOP
    };
    ($words:tt $signature:tt nothing) => {
        ::core::compile_error!(
            "`nothing` gives no result, and the op has one: write a patchlet or a function"
        )
    };
    ([extern_c fn] [($($arg:tt)*) [$($result:tt)*]] function $function:expr) => {{
        const NATIVE: extern "C" fn($($arg)*) $($result)* = $function;
        $crate::ops::Target::function(NATIVE as *const ())
    }};
    ([extern_c unsafe fn] [($($arg:tt)*) [$($result:tt)*]] function $function:expr) => {{
        const NATIVE: unsafe extern "C" fn($($arg)*) $($result)* = $function;
        $crate::ops::Target::function(NATIVE as *const ())
    }};
    ([extern_c $($words:ident)+] $signature:tt slot_fn $function:expr) => {
        ::core::compile_error!(
            "the functions of an `extern_c` op are those of C and Rust as they are: write \
             `function path` with an `extern \"C\"` function"
        )
    };
    ([$class:ident $($words:ident)+] [($($arg:tt)*) [$($result:tt)*]] slot_fn $function:expr) => {{
        const NATIVE: $crate::ops::SlotFn<
            $crate::ops::class::$class, fn($($arg)*) $($result)*
        > = $function;
        NATIVE.target()
    }};
    ([c fn] [($($arg:tt)*) [$($result:tt)*]] function $function:expr) => {{
        const NATIVE: extern "C" fn($($arg)*) $($result)* = $function;
        $crate::__c_function!(($($arg)*), $function, NATIVE)
    }};
    ([c unsafe fn] [($($arg:tt)*) [$($result:tt)*]] function $function:expr) => {{
        const NATIVE: unsafe extern "C" fn($($arg)*) $($result)* = $function;
        $crate::__c_function!(($($arg)*), $function, NATIVE)
    }};
    ([callee_save $($words:tt)*] $signature:tt function $function:expr) => {
        ::core::compile_error!(
            "a `callee_save` op keeps registers that a function in Rust or C may change: natively \
             it is a patchlet (`= patchlet set::name`), a constant of `slot_fn!` (`= slot_fn \
             NAME`), or a function in assembly (`= assembly \"symbol\"`)"
        )
    };
    ([assembly] $signature:tt $how:ident $($what:expr)?) => {
        ::core::compile_error!(
            "an `assembly` op has no signature that a function could have: natively it is a \
             patchlet (`= patchlet set::name`) or a function in assembly (`= assembly \"symbol\"`)"
        )
    };
    ($words:tt $signature:tt $how:ident $($what:expr)?) => {
        ::core::compile_error!(::core::concat!(
            "an op or a variant cannot be `", ::core::stringify!($how), " …`: write `patchlet \
             set::name`, `slot_fn NAME`, `function path` (classes `c` and `extern_c`), `assembly \
             \"symbol\"` or `nothing`"
        ))
    };
}

/// Expands to the [`Target`](crate::ops::Target) for an `extern "C"` function, on 64 bit: the
/// function itself.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __c_function {
    ($arguments:tt, $function:expr, $native:ident) => {
        $crate::ops::Target::function($native as *const ())
    };
}

/// Expands to the [`Target`](crate::ops::Target) for an `extern "C"` function, on 32 bit: a thunk,
/// because an op has its arguments in registers and C has them on the stack. A function
/// without arguments needs none.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __c_function {
    ((), $function:expr, $native:ident) => {
        $crate::ops::Target::function($native as *const ())
    };
    ($arguments:tt, $function:expr, $native:ident) => {
        $crate::__thunk!(c, $function, 0)
    };
}

/// Expands to the patchlet of an op, an `Option`: `None` if its native function is not a
/// patchlet's.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_patchlet {
    (patchlet $patchlet:expr) => {
        ::core::option::Option::Some(&$patchlet)
    };
    ($how:ident $($what:expr)?) => {
        ::core::option::Option::None
    };
}

/// Expands to the number that records have for the means of an op or a variant: 0 is a patchlet, 1
/// a function, 2 nothing. The address alone does not tell: `assembly` can name the native function
/// of a patchlet, and a file without symbols does not say which function is the no-op.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_means {
    (patchlet $patchlet:expr) => {
        0
    };
    (nothing) => {
        2
    };
    ($how:ident $($what:expr)?) => {
        1
    };
}

/// Expands to the [`Abi`](crate::ops::Abi) of an op. Other words than the four classes do not
/// get here: `__op_fn!` refuses them.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_abi {
    ([callee_save $($rest:tt)*]) => {
        $crate::ops::Abi::CalleeSave
    };
    ([c $($rest:tt)*]) => {
        $crate::ops::Abi::C
    };
    ([extern_c $($rest:tt)*]) => {
        $crate::ops::Abi::ExternC
    };
    ($($other:tt)*) => {
        $crate::ops::Abi::Assembly
    };
}

/// Writes the constant for the typed slot of an op; nothing if the op has no signature.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_slot {
    ([extern_c fn] $name:ident [($($arg:tt)*) [$($result:tt)*]]) => {
        $crate::__op_slot! { @ $name [extern "C" fn($($arg)*) $($result)*] $($result)* }
    };
    ([extern_c unsafe fn] $name:ident [($($arg:tt)*) [$($result:tt)*]]) => {
        $crate::__op_slot! { @ $name [unsafe extern "C" fn($($arg)*) $($result)*] $($result)* }
    };
    (@ $name:ident $function:tt) => {
        $crate::__op_slot! { @ $name $function -> () }
    };
    (@ $name:ident [$function:ty] -> $result:ty) => {
        #[doc = ::core::concat!("The slot of `", ::core::stringify!($name), "`.")]
        #[allow(unsafe_code)]
        pub const $name: $crate::ops::ExternSlot<Id, $function, $result> = {
            // SAFETY: the type is that of a function pointer.
            unsafe { $crate::ops::ExternSlot::new(Id::$name) }
        };
    };
    ([$class:ident $($words:ident)*] $name:ident [($($arg:tt)*) [$($result:tt)*]]) => {
        #[doc = ::core::concat!("The slot of `", ::core::stringify!($name), "`.")]
        pub const $name: $crate::ops::OpSlot<
            Id, $crate::ops::class::$class, fn($($arg)*) $($result)*
        > = $crate::ops::OpSlot::new(Id::$name);
    };
    ($($without_signature:tt)*) => {};
}
