//! What the test kernel and its module know of each other. Both are compiled with this crate, and
//! only the kernel links it: the module refers to the kernel's statics. The two must be compiled by
//! one compiler against one version of the crate, because [`Table`] is no `repr(C)` type.

#![no_std]

use patchlet::branch::CountedKey;
use patchlet::ops::Table;

patchlet::keys! {
    /// A key of the kernel's, by which both have branches.
    pub static OF_KERNEL as "test_kernel_key": off;
}

/// An entry of the list of sites that the test of live switches runs, in the layout of
/// `tests/kernel/asm/live_site.h`.
#[repr(C)]
pub struct Entry {
    /// A function that consists of the site.
    pub run: extern "C" fn() -> u32,
    /// The number of the op.
    pub op: usize,
}

/// The number of the op `answer` of the module in an [`Entry`].
pub const ANSWER: usize = 4;
/// The result of its patchlet.
pub const ANSWERED: u32 = 0x2a2a_2a2a;

/// What the module gives to the kernel: the static with the symbol [`Interface::SYMBOL`].
#[repr(C)]
pub struct Interface {
    /// The ops table of the module's own.
    pub table: &'static Table,
    /// A key of the module's own.
    pub key: &'static CountedKey<false>,
    /// The first entry of the list of sites, and the address behind the last one.
    pub sites: [*const Entry; 2],
    /// Returns whether the kernel's key is on, by a branch.
    pub by_kernels_key: extern "C" fn() -> bool,
    /// Returns whether the module's key is on, by a branch.
    pub by_own_key: extern "C" fn() -> bool,
    /// Runs sites in Rust code, of the kernel's built-in table and of the module's own, and returns
    /// [`worked`] of the number.
    pub work: extern "C" fn(usize) -> usize,
}

// SAFETY: the pointers lead to read-only data.
unsafe impl Sync for Interface {}

impl Interface {
    /// The symbol of the module's interface.
    pub const SYMBOL: &'static str = "TEST_MODULE";
}

/// Returns what [`Interface::work`] returns.
#[must_use]
pub const fn worked(number: usize) -> usize {
    number.wrapping_mul(2) ^ number
}
