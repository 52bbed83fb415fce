//! Sites in another crate than the kernel's: in a plain function, in a generic
//! one that the kernel instantiates, and in one that is inlined there.

#![no_std]

use patchlet::pv;

/// A spinlock's byte: 1 is held.
pub type LockByte = u8;

/// Releases the lock; not generic, so this crate's own object has the site.
#[inline(never)]
pub fn release(lock: &mut LockByte) {
    // SAFETY: the byte is the caller's, and it says that it holds the lock.
    unsafe { pv::queued_spin_unlock(lock) }
}

/// Runs `body` with interrupts off; two to three sites wherever it is inlined.
#[inline(always)]
pub fn without_interrupts<R>(body: impl FnOnce() -> R) -> R {
    let flags = pv::save_fl();
    pv::irq_disable();
    let result = body();
    // SAFETY: the flags from above.
    unsafe { pv::restore_fl(flags) };
    result
}

/// A page-table entry with this tag, translated and back; generic, so the kernel's
/// object has the sites.
#[inline(never)]
pub fn translate<const TAG: u64>(entry: u64) -> u64 {
    pv::ident(pv::ident(entry ^ TAG) ^ TAG)
}
