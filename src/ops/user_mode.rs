//! A layer for unit tests of kernel code on the build machine, where privileged instructions
//! fault: what an operating system's user may do instead.
//!
//! Unsafe code here is the setting of slots.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::builtin::pv;
use super::target::Target;

/// What `write_cr3` was last given.
static CR3: AtomicUsize = AtomicUsize::new(0);

crate::slot_fn! {
    const READ_CR2 = callee_save fn() -> usize { 0 };
    const READ_CR3 = c fn() -> usize { CR3.load(Relaxed) };
    const WRITE_CR3 = c fn(cr3: usize) { CR3.store(cr3, Relaxed) };
}

/// Puts functions into the built-in table that work in a process: for unit tests of kernel
/// code, which would otherwise end with SIGSEGV at the first `cli`.
///
/// Nothing happens where the interrupt flag would change and where the CPU would sleep or
/// write back its caches. `save_fl` and `restore_fl` stay as they are: a process may execute
/// both, and IF reads as 1. CR2 reads as 0, CR3 as what was written last. The ops that only
/// assembly uses are left alone.
///
/// # Safety
/// - this is a process, in user mode: a kernel would go on without its interrupt flag and
///   its page tables.
pub unsafe fn install_for_user_mode() {
    // SAFETY: each has the class and the signature of its op, or returns at once, and is
    // part of the program. What the ops are for, a process cannot do.
    unsafe {
        pv::install(&[
            (pv::Id::irq_disable, Target::NOP),
            (pv::Id::irq_enable, Target::NOP),
            (pv::Id::safe_halt, Target::NOP),
            (pv::Id::halt, Target::NOP),
            pv::slot::read_cr2.holds(READ_CR2),
            pv::slot::read_cr3.holds(READ_CR3),
            pv::slot::write_cr3.holds(WRITE_CR3),
            #[cfg(target_arch = "x86_64")]
            (pv::Id::wbinvd, Target::NOP),
        ]);
    }
}
