//! Sites in every place where a compiler puts them: several in one function, inlined, in generic
//! functions, with more than the least capacity, and in assembly.

use std::sync::atomic::{AtomicUsize, Ordering};

use patchlet::pv;

use crate::own_ops;

/// The number of calls of [`tick`].
pub static TICKS: AtomicUsize = AtomicUsize::new(0);

/// Counts a call. This is the native function of the op of the same name, and too long for a site.
/// The op's function must not hide it in `ops!`: on 32 bit, `ident` once called itself for that
/// reason.
pub extern "C" fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" {
    /// Executes `save_fl` by a site in `asm/own.S`.
    pub safe fn asm_save_fl() -> usize;
    /// Executes `swap_bytes` by a site of 9 bytes.
    pub safe fn asm_swap_bytes(value: usize) -> usize;
    /// Executes `swap_bytes` by a site that jumps.
    pub safe fn asm_tail_swap_bytes(value: usize) -> usize;
}

/// Executes two sites. The function is inlined where it is called.
#[inline(always)]
pub fn flags_twice() -> (usize, usize) {
    (pv::save_fl(), pv::save_fl())
}

/// Executes a site, of which each instance of this generic function has its own.
#[inline(never)]
pub fn tagged<const TAG: u64>(value: u64) -> u64 {
    pv::ident(value ^ TAG) ^ TAG
}

/// Executes a site of 16 bytes, which is written by hand.
#[inline(never)]
pub fn relax_with_room() {
    // SAFETY: `SLOTS` and the index are those of `relax`, which has neither argument nor result;
    // its class is `c`, and all registers that C may change are declared as clobbered.
    unsafe {
        patchlet::site_asm!(
            call,
            own_ops::SLOTS,
            own_ops::Id::relax as usize,
            capacity = 16,
            clobber_abi("C"),
        )
    };
}

/// Executes a site, but no code calls this function. The program must contain neither it nor the
/// record of its site.
pub fn nobody_calls_this() -> usize {
    pv::save_fl() ^ 0x0bad_0bad
}
