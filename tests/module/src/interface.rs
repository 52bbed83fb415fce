//! What the kernel and the module know of each other. Both compile this file, and they must be
//! compiled by one compiler against one version of the crate: [`Table`] is no `repr(C)` type.

use patchlet::ops::Table;

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
    /// The first entry of the list of sites, and the address behind the last one.
    pub sites: [*const Entry; 2],
    /// Runs sites of the kernel's built-in table and of the module's own in Rust code.
    pub work: extern "C" fn(usize) -> usize,
}

// SAFETY: the pointers lead to read-only data.
unsafe impl Sync for Interface {}

impl Interface {
    /// The symbol of the module's interface.
    pub const SYMBOL: &'static str = "TEST_MODULE";
}
