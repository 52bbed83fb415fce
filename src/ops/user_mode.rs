//! A layer for unit tests of kernel code on the build machine. There, tests run in user mode,
//! where privileged instructions fault; the functions of this layer do without them.
//!
//! Unsafe code here puts these functions into slots.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::builtin::pv;
use super::target::Target;

/// The value that `write_cr3` wrote last. One for the whole process, although hardware has
/// one for each CPU.
static CR3: AtomicUsize = AtomicUsize::new(0);

crate::slot_fn! {
    const READ_CR2 = callee_save fn() -> usize { 0 };
    const READ_CR3 = c fn() -> usize { CR3.load(Relaxed) };
    const WRITE_CR3 = c fn(cr3: usize) { CR3.store(cr3, Relaxed) };
}

/// Puts functions that work in user mode into the slots of the built-in table. It is for unit
/// tests of kernel code: without it, a test ends with SIGSEGV at the first `cli`.
///
/// - `irq_disable`, `irq_enable`, `halt`, `safe_halt` and `wbinvd` do nothing.
/// - `save_fl` and `restore_fl` keep their native functions, which user mode may execute.
///   The interrupt flag reads as 1.
/// - `read_cr2` returns 0, and `read_cr3` what `write_cr3` was last given, at first 0.
/// - Ops of class `assembly` keep their native functions.
///
/// # Safety
/// - the caller runs in user mode: a kernel would go on without its interrupt flag and
///   its page tables.
pub unsafe fn install_for_user_mode() {
    // SAFETY: `holds` compares class and signature, and `Target::NOP` fits any op. All of these
    // functions are part of the program, so they stay in memory. Ops whose effect is
    // missing do not matter in user mode, where that effect is impossible.
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
