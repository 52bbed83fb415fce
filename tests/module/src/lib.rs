//! A module: code that the test kernel loads while it runs, and unloads again. It has sites of the
//! kernel's ops tables and a branch by a key of the kernel's, and an ops table and a key of its own.
//!
//! `build.sh` makes one relocatable object of it. The kernel's symbols in it are undefined, and the
//! kernel's loader resolves them (`tests/kernel/src/module/`). Nothing of the crate is linked in:
//! the inline functions of ops need the tables' slots only.

#![no_std]

use interface::{Entry, Interface};
use patchlet::{branch, pv};

patchlet::patchlets! {
    /// The patchlet of `asm/own.S`.
    mod patchlets {
        answer,
    }
}

extern "C" fn double(number: usize) -> usize {
    number.wrapping_mul(2)
}

patchlet::ops! {
    /// The ops of the module's own. The module is private, so that what is not used of it asks for
    /// no symbol of the crate.
    mod ops as "test_module_ops" {
        module {
            /// Returns a number. Its sites are in `asm/own.S`.
            answer: callee_save fn(argument: usize) -> usize = patchlet patchlets::answer;
            /// Doubles a number. No patchlet does that.
            double: c fn(number: usize) -> usize = function double;
        }
    }
}

patchlet::keys! {
    /// A key of the module's own.
    static OWN: counted off;
}

// asm/own.S
unsafe extern "C" {
    static module_sites: [Entry; 0];
    static module_sites_end: [Entry; 0];
}

#[unsafe(no_mangle)]
static TEST_MODULE: Interface = Interface {
    table: &ops::TABLE,
    key: &OWN,
    sites: [(&raw const module_sites).cast(), (&raw const module_sites_end).cast()],
    by_kernels_key,
    by_own_key,
    work,
};

extern "C" fn by_kernels_key() -> bool {
    branch!(interface::OF_KERNEL)
}

extern "C" fn by_own_key() -> bool {
    branch!(OWN)
}

extern "C" fn work(number: usize) -> usize {
    let flags = pv::save_fl();
    pv::irq_disable();
    let result = ops::double(number) ^ pv::ident(number as u64) as usize;
    // SAFETY: `flags` was read above.
    unsafe { pv::restore_fl(flags) };
    result
}
