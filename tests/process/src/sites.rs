//! Sites in every place a compiler puts them: several in one function, inlined,
//! in generic functions, of more than the least capacity, in assembly.

use std::sync::atomic::{AtomicUsize, Ordering};

use patchlet::pv;

use crate::own_ops;

/// How often [`tick`] ran.
pub static TICKS: AtomicUsize = AtomicUsize::new(0);

/// The native function of the op of the same name, too long for any site. (On
/// 32-bit, `ident` once called itself: the op had hidden its native function.)
pub extern "C" fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" {
    /// `save_fl` by a site in `asm/own.S`.
    pub safe fn asm_save_fl() -> usize;
    /// `swap_bytes` by a site of 9 bytes.
    pub safe fn asm_swap_bytes(value: usize) -> usize;
    /// `swap_bytes` by a jump site.
    pub safe fn asm_tail_swap_bytes(value: usize) -> usize;
}

/// Two sites in a function that is inlined where it is used.
#[inline(always)]
pub fn flags_twice() -> (usize, usize) {
    (pv::save_fl(), pv::save_fl())
}

/// A site in each instance of a generic function.
#[inline(never)]
pub fn tagged<const TAG: u64>(value: u64) -> u64 {
    pv::ident(value ^ TAG) ^ TAG
}

/// A site of 16 bytes, written by hand.
#[inline(never)]
pub fn relax_with_room() {
    // SAFETY: `relax` takes and returns nothing; the clobbers are those of C.
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

/// Nobody calls this. It must not be in the program, nor its site's record.
pub fn nobody_calls_this() -> usize {
    pv::save_fl() ^ 0x0bad_0bad
}
