//! Keys: what decides the direction of branches.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::state::BranchState;
use crate::text::{Change, KeyRef};

/// The memory of a key, of whatever type it is. Its address is the subject of the records of its
/// branches.
#[derive(Debug)]
#[repr(C)]
pub(super) struct KeyCell {
    /// The state now: 0 is off, everything else on. For a counted key it is the count.
    now: AtomicU32,
    /// What the branches of the program that the key is linked into were last patched for.
    pub(super) linked: BranchState,
    /// Never 0, so that a key which is off is not in zeroed memory, whose bytes are not in the
    /// file: the tool sets keys there, ahead of boot.
    in_data: u8,
    /// Whether branches of the key were ever patched, in whatever set. Then a writer that does not
    /// know the key does not have that set.
    pub(super) has_patched_branches: AtomicBool,
}

// The tool reads the state from the first word of a key, in files and in dumps, and in dumps what its
// branches were last patched for from the byte behind that.
const _: () = assert!(core::mem::offset_of!(KeyCell, now) == 0 && size_of::<KeyCell>() == 8);
const _: () = assert!(core::mem::offset_of!(KeyCell, linked.last_applied) == 4);

impl KeyCell {
    const fn new(starts_on: bool) -> Self {
        Self {
            now: AtomicU32::new(starts_on as u32),
            linked: BranchState::new(),
            in_data: 1,
            has_patched_branches: AtomicBool::new(false),
        }
    }

    /// Returns the key as a change knows it.
    const fn for_change(&self) -> KeyRef<'_> {
        KeyRef { now: &self.now, has_patched_branches: &self.has_patched_branches }
    }

    /// Returns whether the key is on.
    pub(super) fn is_on(&self) -> bool {
        self.now.load(Ordering::Acquire) != 0
    }
}

/// A key that is on or off. [`keys!`](crate::keys!) defines it, as a static; `STARTS_ON` is its
/// state from the first instruction on.
#[derive(Debug)]
#[repr(transparent)]
pub struct Key<const STARTS_ON: bool>(KeyCell);

impl<const STARTS_ON: bool> Key<STARTS_ON> {
    /// Makes a key in its initial state. Only [`keys!`](crate::keys!) calls this.
    #[doc(hidden)]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a key is a static")]
    pub const fn new() -> Self {
        Self(KeyCell::new(STARTS_ON))
    }

    /// Returns the change that turns the key on. A writer makes it: [`Patcher::change`],
    /// [`Int3::change`] or [`Rendezvous::change`].
    ///
    /// [`Patcher::change`]: crate::Patcher::change
    /// [`Int3::change`]: crate::live::Int3::change
    /// [`Rendezvous::change`]: crate::live::Rendezvous::change
    pub const fn on(&self) -> Change<'_> {
        Change::of_flag(self.0.for_change(), true)
    }

    /// Returns the change that turns the key off.
    pub const fn off(&self) -> Change<'_> {
        Change::of_flag(self.0.for_change(), false)
    }

    /// Returns whether the key is on, from memory. For code that is not worth a branch: what
    /// prints the settings of a kernel, say.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_on()
    }

    /// Sets the key and patches nothing: its branches follow when they are next patched. For the
    /// time before that is possible, when a command line is read, say.
    pub fn preset(&self, on: bool) {
        self.0.now.store(on.into(), Ordering::Release);
    }
}

/// A key that counts those who want it on: it is off while the count is 0. It starts with a count
/// of 0, or of 1 if it `STARTS_ON`. [`keys!`](crate::keys!) defines it.
#[derive(Debug)]
#[repr(transparent)]
pub struct CountedKey<const STARTS_ON: bool>(KeyCell);

impl<const STARTS_ON: bool> CountedKey<STARTS_ON> {
    /// Makes a key in its initial state. Only [`keys!`](crate::keys!) calls this.
    #[doc(hidden)]
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a key is a static")]
    pub const fn new() -> Self {
        Self(KeyCell::new(STARTS_ON))
    }

    /// Returns the change that counts one more. If the count is [`u32::MAX`] the change is refused
    /// ([`Error::Count`](crate::Error::Count)).
    pub const fn increment(&self) -> Change<'_> {
        Change::of_count(self.0.for_change(), true)
    }

    /// Returns the change that counts one less. If the count is 0 the change is refused
    /// ([`Error::Count`](crate::Error::Count)).
    pub const fn decrement(&self) -> Change<'_> {
        Change::of_count(self.0.for_change(), false)
    }

    /// Returns whether the key is on, from memory.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_on()
    }

    /// Returns the count.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.now.load(Ordering::Acquire)
    }

    /// Sets the count and patches nothing: the branches follow when they are next patched.
    pub fn preset(&self, count: u32) {
        self.0.now.store(count, Ordering::Release);
    }
}

/// A type of key. It says in which state the key starts, which [`branch!`](crate::branch!) must know
/// at compile time. The two types of keys implement it, and no other can.
pub trait StaticKey: sealed::Sealed {
    /// Whether the key is on from the first instruction on.
    const STARTS_ON: bool;
}

impl<const STARTS_ON: bool> StaticKey for Key<STARTS_ON> {
    const STARTS_ON: bool = STARTS_ON;
}

impl<const STARTS_ON: bool> StaticKey for CountedKey<STARTS_ON> {
    const STARTS_ON: bool = STARTS_ON;
}

mod sealed {
    pub trait Sealed {}
    impl<const STARTS_ON: bool> Sealed for super::Key<STARTS_ON> {}
    impl<const STARTS_ON: bool> Sealed for super::CountedKey<STARTS_ON> {}
}

/// Returns whether a key is on from the first instruction on.
#[must_use]
pub const fn starts_on<K: StaticKey>(_: &K) -> bool {
    K::STARTS_ON
}

/// Defines keys.
///
/// ```no_run
/// patchlet::keys! {
///     /// Whether page faults are traced.
///     pub static TRACE_FAULTS: off;
///     /// Whether the CPUs are told of each other's flushes by IPI.
///     pub(crate) static SEND_IPIS: on;
///     /// How many want to know of each system call.
///     pub static SYSCALL_USERS: counted off;
///     /// A key that assembly knows, too, by this symbol.
///     static IN_ENTRY as "my_entry_key": off;
/// }
/// # fn main() {}
/// ```
///
/// `on` and `off` say in which state the key starts: the assembler writes the bytes for it, so the
/// branches are right before anything was patched. A `counted` key is a [`CountedKey`], another one
/// a [`Key`]. Behind `as` stands the symbol by which
/// `.S` files name the key (`PATCHLET_BRANCH` in `site.h`).
///
/// Keys are defined in a module, and not in a function: the macro writes the record of each key by
/// `global_asm!`, which the compiler takes for no statement ("non-statement macro in statement
/// position").
#[macro_export]
macro_rules! keys {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($($cfg:tt)*)])?
        $vis:vis static $name:ident $(as $symbol:literal)?: $($word:ident)+;
    )*) => {
        $(
            $(#[cfg($($cfg)*)])?
            $crate::__key! { [$(#[doc = $doc])*] [$vis] $name [$($word)+] [$($symbol)?] }
        )*
    };
}

/// Defines one key.
#[doc(hidden)]
#[macro_export]
macro_rules! __key {
    ($docs:tt $vis:tt $name:ident [off] $symbol:tt) => {
        $crate::__key! { @ $docs $vis $name $symbol Key, false, 0, "off" }
    };
    ($docs:tt $vis:tt $name:ident [on] $symbol:tt) => {
        $crate::__key! { @ $docs $vis $name $symbol Key, true, 0, "on" }
    };
    ($docs:tt $vis:tt $name:ident [counted off] $symbol:tt) => {
        $crate::__key! { @ $docs $vis $name $symbol CountedKey, false, 1, "off" }
    };
    ($docs:tt $vis:tt $name:ident [counted on] $symbol:tt) => {
        $crate::__key! { @ $docs $vis $name $symbol CountedKey, true, 1, "on" }
    };
    (@ [$($docs:tt)*] [$vis:vis] $name:ident [$($symbol:literal)?]
        $type:ident, $on:literal, $flags:literal, $initial:literal
    ) => {
        $($docs)*
        $(
            #[allow(unsafe_code)]
            #[unsafe(export_name = $symbol)]
        )?
        $vis static $name: $crate::branch::$type<$on> = $crate::branch::$type::new();

        // The key's record. Each site of a branch refers to it by a relocation of type NONE, so
        // that the linker keeps it as long as there is a branch, and with it the key.
        ::core::arch::global_asm!(
            ".pushsection patchlet_keys, \"a\", @progbits",
            ".balign 4",
            ".globl {key}.record",
            ".hidden {key}.record",
            "{key}.record:",
            ".long {key} - .",
            ::core::concat!(".byte {starts_on}, ", $flags, ", 0, {length}"),
            ::core::concat!(".ascii \"", ::core::stringify!($name), "\""),
            ".balign 4",
            ".popsection",
            // For assembly: the address of the key, under a name that tells in which state it
            // starts.
            $(
                ::core::concat!(".globl ", $symbol, ".", $initial),
                ::core::concat!(".hidden ", $symbol, ".", $initial),
                ::core::concat!(".set ", $symbol, ".", $initial, ", ", $symbol),
                $crate::__key_nop!($symbol),
            )?
            key = sym $name,
            starts_on = const $on as usize,
            length = const ::core::stringify!($name).len(),
            options(att_syntax),
        );
    };
    ([$($docs:tt)*] $vis:tt $name:ident $words:tt $symbol:tt) => {
        ::core::compile_error!(
            "a key is `off`, `on`, `counted off` or `counted on`: `pub static TRACE: off;`"
        );
    };
}

/// Writes nothing: in 64-bit code there is one NOP of five bytes, and `site.h` knows it.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __key_nop {
    ($symbol:literal) => {
        ""
    };
}

/// Defines the symbol whose value is the first four bytes of the NOP in a branch of this key. The
/// C compiler that assembles a `.S` file may be told of other CPUs than Rust, and all branches are
/// to have the same NOP.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __key_nop {
    ($symbol:literal) => {
        ::core::concat!(
            ".globl ",
            $symbol,
            ".nop\n",
            ".hidden ",
            $symbol,
            ".nop\n",
            ".set ",
            $symbol,
            ".nop, ",
            $crate::__branch_nop!(),
        )
    };
}
