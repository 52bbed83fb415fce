//! The inline function of an op: macros that write its site and give its arguments and result
//! their registers.
//!
//! They call each other in this order: `__op_fn` (the function) → `__op_call` (the width's
//! argument registers) → `__op_arguments` (a register for each argument) → `__op_operands` (the
//! operands of `asm!`, with the result) → `__op_site` (the site).

/// Writes the inline function of an op, safe or unsafe, with the op's signature. An op of class
/// `assembly` gets no function.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_fn {
    ($symbol:literal [assembly] $($rest:tt)*) => {};
    ($symbol:literal [extern_c fn] $($rest:tt)*) => {
        $crate::__extern_fn! { $symbol [] $($rest)* }
    };
    ($symbol:literal [extern_c unsafe fn] $($rest:tt)*) => {
        $crate::__extern_fn! { $symbol [unsafe] $($rest)* }
    };
    ($symbol:literal [callee_save fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ callee_save [] $($rest)* }
    };
    ($symbol:literal [callee_save unsafe fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ callee_save [unsafe] $($rest)* }
    };
    ($symbol:literal [c fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ c [] $($rest)* }
    };
    ($symbol:literal [c unsafe fn] $($rest:tt)*) => {
        $crate::__op_fn! { @ c [unsafe] $($rest)* }
    };
    (@ $class:ident [$($unsafe:tt)?] [$($doc:tt)*] $name:ident [($($arg:tt)*) [$($result:tt)*]]) => {
        $($doc)*
        #[inline(always)]
        #[allow(unsafe_code, clippy::missing_safety_doc, clippy::too_many_arguments)]
        pub $($unsafe)? fn $name($($arg)*) $($result)* {
            // SAFETY: the index is this op's, and the operands are those of its ABI class and
            // signature. By the contract of `install`, what the slot holds keeps to both.
            // If the op has further conditions, it is an `unsafe fn` and the caller
            // answers for them.
            unsafe { $crate::__op_call!([$class $name [$($result)*]] $($arg)*) }
        }
    };
    ($symbol:literal [$($words:tt)*] [$($doc:tt)*] $name:ident $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the op `", ::core::stringify!($name), "` is `", ::core::stringify!($($words)*),
            "`: write `callee_save fn(…)`, `c fn(…)` or `extern_c fn(…)`, each with `unsafe` before \
             `fn` if the caller has duties, or `assembly` without a signature"
        ));
    };
}

/// Writes the call of an op. Starts `__op_arguments` with the argument registers of 64 bit.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __op_call {
    ($op:tt $($arg:tt)*) => {
        $crate::__op_arguments! { $op 64 [] ["rdi" "rsi" "rdx" "rcx" "r8" "r9"] $($arg)* }
    };
}

/// Writes the call of an op. Starts `__op_arguments` with the argument registers of 32 bit.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __op_call {
    ($op:tt $($arg:tt)*) => {
        $crate::__op_arguments! { $op 32 [] ["eax" "edx" "ecx"] $($arg)* }
    };
}

/// Gives each argument its register. In each step the macro takes the first argument from the
/// end of its input and the first register from the list of free ones, and appends both to the
/// list of used ones. An argument that is twice as wide as a register takes two, the low half
/// first. The input is `[class name [result]] width [used] [free] arguments`:
///
/// ```text
/// [c set_entry []] 64 [] ["rdi" "rsi" …] table: usize, entry: u64
/// [c set_entry []] 64 [("rdi" table)] ["rsi" …] entry: u64
/// [c set_entry []] 64 [("rdi" table) ("rsi" entry)] […]
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __op_arguments {
    ($op:tt 64 $used:tt $free:tt $arg:ident : u128 $(, $($rest:tt)*)?) => {
        $crate::__op_wide_argument! { u64 $op 64 $used $free $arg [$($($rest)*)?] }
    };
    ($op:tt 64 $used:tt $free:tt $arg:ident : i128 $(, $($rest:tt)*)?) => {
        $crate::__op_wide_argument! { u64 $op 64 $used $free $arg [$($($rest)*)?] }
    };
    ($op:tt 32 $used:tt $free:tt $arg:ident : u64 $(, $($rest:tt)*)?) => {
        $crate::__op_wide_argument! { u32 $op 32 $used $free $arg [$($($rest)*)?] }
    };
    ($op:tt 32 $used:tt $free:tt $arg:ident : i64 $(, $($rest:tt)*)?) => {
        $crate::__op_wide_argument! { u32 $op 32 $used $free $arg [$($($rest)*)?] }
    };
    ($op:tt $width:tt [$($used:tt)*] [$register:tt $($free:tt)*]
        $arg:ident : $ty:ty $(, $($rest:tt)*)?) => {
        $crate::__op_arguments! {
            $op $width
            [$($used)* ($register $crate::ops::__private::Register::into_register($arg))]
            [$($free)*] $($($rest)*)?
        }
    };
    ($op:tt $width:tt $used:tt $free:tt) => {
        $crate::__op_operands! { $op $width $used }
    };
    ([$class:ident $name:ident $ret:tt] $width:tt $used:tt [] $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the arguments of the op `", ::core::stringify!($name), "` do not fit into its \
             registers (six on 64 bit, three on 32 bit): make it an op of class `extern_c`"
        ))
    };
    ([$class:ident $name:ident $ret:tt] $width:tt $used:tt $free:tt $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the op `", ::core::stringify!($name), "` has an argument that is not `name: type` (`",
            ::core::stringify!($($rest)*), "`): give each a name, and to what is not one value of \
             one or two registers an op of class `extern_c`"
        ))
    };
}

/// Gives an argument two registers, or goes back to `__op_arguments` with none free, which
/// reports the error, if there are not two.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_wide_argument {
    ($half:ident $op:tt $width:tt [$($used:tt)*] [$low:tt $high:tt $($free:tt)*]
        $arg:ident [$($rest:tt)*]) => {
        $crate::__op_arguments! {
            $op $width
            [$($used)* ($low $arg as $half) ($high ($arg >> $half::BITS) as $half)]
            [$($free)*] $($rest)*
        }
    };
    ($half:ident $op:tt $width:tt $used:tt $free:tt $arg:ident [$($rest:tt)*]) => {
        $crate::__op_arguments! { $op $width $used [] $arg }
    };
}

/// Writes the operands of `asm!` for arguments and result, and the site. `asm!` wants a register
/// that carries both an argument and a result as one operand (`inlateout`). On 64 bit that can
/// only be RDX, on 32 bit EAX and EDX:
///
/// | width | arguments | result |
/// |---|---|---|
/// | 64 | RDI, RSI, RDX, RCX, R8, R9 | RAX, and RDX for its high half |
/// | 32 | EAX, EDX, ECX | EAX, and EDX for its high half |
#[doc(hidden)]
#[macro_export]
macro_rules! __op_operands {
    // No result.
    ([$class:ident $name:ident []] $width:tt [$(($register:tt $value:expr))*]) => {
        $crate::__op_site!($class, $name, $(in($register) $value,)*)
    };
    ([$class:ident $name:ident [-> ()]] $width:tt $used:tt) => {
        $crate::__op_operands!([$class $name []] $width $used)
    };
    // A result of two registers.
    ([$class:ident $name:ident [-> u128]] 64 $used:tt) => {
        $crate::__op_wide_result!(u128 u64 $class $name 64 $used)
    };
    ([$class:ident $name:ident [-> i128]] 64 $used:tt) => {
        $crate::__op_wide_result!(i128 u64 $class $name 64 $used)
    };
    ([$class:ident $name:ident [-> u64]] 32 $used:tt) => {
        $crate::__op_wide_result!(u64 u32 $class $name 32 $used)
    };
    ([$class:ident $name:ident [-> i64]] 32 $used:tt) => {
        $crate::__op_wide_result!(i64 u32 $class $name 32 $used)
    };
    // A result of one register.
    ([$class:ident $name:ident [-> $($ret:tt)+]] 32 [("eax" $first:expr) $(($register:tt $value:expr))*]) => {{
        let result: usize;
        $crate::__op_site!($class, $name,
            inlateout("eax") $first => result, $(in($register) $value,)*);
        <$($ret)+ as $crate::ops::__private::Register>::from_register(result)
    }};
    ([$class:ident $name:ident [-> $($ret:tt)+]] 32 []) => {{
        let result: usize;
        $crate::__op_site!($class, $name, lateout("eax") result,);
        <$($ret)+ as $crate::ops::__private::Register>::from_register(result)
    }};
    ([$class:ident $name:ident [-> $($ret:tt)+]] 64 [$(($register:tt $value:expr))*]) => {{
        let result: usize;
        $crate::__op_site!($class, $name, $(in($register) $value,)* lateout("rax") result,);
        <$($ret)+ as $crate::ops::__private::Register>::from_register(result)
    }};
}

/// Emits the site of an op whose result takes two registers.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_wide_result {
    ($wide:ident $half:ident $class:ident $name:ident $width:tt $used:tt) => {{
        let (low, high): ($half, $half);
        $crate::__op_wide_operands!($class $name low high $width $used);
        $wide::from(high) << $half::BITS | $wide::from(low)
    }};
}

/// Writes the operands of the arguments and of a result of two registers.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_wide_operands {
    ($class:ident $name:ident $low:ident $high:ident 64 [("rdi" $first:expr) ("rsi" $second:expr)
        ("rdx" $third:expr) $(($register:tt $value:expr))*]) => {
        $crate::__op_site!($class, $name, in("rdi") $first, in("rsi") $second,
            inlateout("rdx") $third => $high, $(in($register) $value,)* lateout("rax") $low,)
    };
    ($class:ident $name:ident $low:ident $high:ident 64 [$(($register:tt $value:expr))*]) => {
        $crate::__op_site!($class, $name,
            $(in($register) $value,)* lateout("rax") $low, lateout("rdx") $high,)
    };
    ($class:ident $name:ident $low:ident $high:ident 32
        [("eax" $first:expr) ("edx" $second:expr) $(($register:tt $value:expr))*]) => {
        $crate::__op_site!($class, $name, inlateout("eax") $first => $low,
            inlateout("edx") $second => $high, $(in($register) $value,)*)
    };
    ($class:ident $name:ident $low:ident $high:ident 32 [("eax" $first:expr)]) => {
        $crate::__op_site!($class, $name, inlateout("eax") $first => $low, lateout("edx") $high,)
    };
    ($class:ident $name:ident $low:ident $high:ident 32 []) => {
        $crate::__op_site!($class, $name, lateout("eax") $low, lateout("edx") $high,)
    };
}

/// Emits the site with these operands. For class `c`, `clobber_abi` adds all other registers that
/// a C function may change.
#[doc(hidden)]
#[macro_export]
macro_rules! __op_site {
    (callee_save, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = CAPACITIES[Id::$name as usize] as usize, $($operand)*)
    };
    (c, $name:ident, $($operand:tt)*) => {
        $crate::site_asm!(call, SLOTS, Id::$name as usize, capacity = CAPACITIES[Id::$name as usize] as usize, $($operand)* clobber_abi("C"),)
    };
}
