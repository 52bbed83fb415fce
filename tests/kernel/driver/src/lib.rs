//! Sites in another crate than the kernel's: in a plain function, in a generic function that the
//! kernel instantiates, and in a function that is inlined in the kernel.

#![no_std]

use patchlet::pv;

/// The byte of a spinlock: 1 if it is held.
pub type LockByte = u8;

/// Releases a lock. The function is not generic, so the site is in the object of this crate.
#[inline(never)]
pub fn release(lock: &mut LockByte) {
    // SAFETY: the byte is borrowed, so it is valid for writes, and the caller holds the lock.
    unsafe { pv::queued_spin_unlock(lock) }
}

/// Runs `body` with interrupts off. There are two or three sites wherever it is inlined.
#[inline(always)]
pub fn without_interrupts<R>(body: impl FnOnce() -> R) -> R {
    let flags = pv::save_fl();
    pv::irq_disable();
    let result = body();
    // SAFETY: `flags` was read above.
    unsafe { pv::restore_fl(flags) };
    result
}

/// Tags a page-table entry, translates it and translates it back. The function is generic, so the
/// sites are in the kernel's object.
#[inline(never)]
pub fn translate<const TAG: u64>(entry: u64) -> u64 {
    pv::ident(pv::ident(entry ^ TAG) ^ TAG)
}
