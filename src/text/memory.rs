//! The bytes of a site in memory: reads and writes of text, a few bytes each.
//!
//! Unsafe code here reads and writes at addresses; the callers answer for them.
//! Volatile throughout: the compiler knows nothing of who else reads and writes
//! here, nor that an alias is the same memory.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::insn::InsnBuffer;

/// A value at an address of any alignment.
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Reads the first six bytes of a site, as one number.
///
/// # Safety
/// - 6 bytes at `from` are readable.
#[inline(always)]
pub(crate) unsafe fn read_six(from: *const u8) -> u64 {
    // SAFETY: the caller says that six bytes are readable: four, and two behind them.
    let (low, high) = unsafe {
        let low = from.cast::<Unaligned<u32>>().read_volatile().0;
        (low, from.add(4).cast::<Unaligned<u16>>().read_volatile().0)
    };
    u64::from(low) | u64::from(high) << 32
}

/// Reads a site of five bytes, as one number.
///
/// # Safety
/// - 5 bytes at `from` are readable.
#[inline(always)]
pub(crate) unsafe fn read_five(from: *const u8) -> u64 {
    // SAFETY: the caller says that five bytes are readable: four, and one behind them.
    let (low, high) = unsafe {
        let low = from.cast::<Unaligned<u32>>().read_volatile().0;
        (low, from.add(4).read_volatile())
    };
    u64::from(low) | u64::from(high) << 32
}

/// Writes the first six bytes of a site, each byte once.
///
/// # Safety
/// - 6 bytes at `to` may be written.
#[inline(always)]
pub(crate) unsafe fn write_six(to: *mut u8, six: u64) {
    // SAFETY: by the contract. By `asm!`, because the compiler takes a way over the stack
    // for an unaligned volatile store.
    unsafe {
        core::arch::asm!(
            "mov dword ptr [{to}], {low:e}",
            "mov word ptr [{to} + 4], {high:x}",
            to = in(reg) to,
            low = in(reg) six as u32,
            high = in(reg) (six >> 32) as u32,
            options(nostack, preserves_flags)
        );
    }
}

/// Reads a site of `capacity` bytes.
///
/// # Safety
/// - `capacity` is 1 to 32, and so many bytes at `from` are readable.
#[cold]
#[inline(never)]
pub(crate) unsafe fn read(from: *const u8, capacity: u8) -> InsnBuffer {
    let mut bytes = InsnBuffer::empty();
    // SAFETY: `capacity` bytes are readable, by the contract.
    bytes.fill_with(capacity, |at| unsafe { from.add(at).read_volatile() });
    bytes
}

/// Writes a part of the bytes of a site that begins at `to`, each byte by one store. A part that
/// goes on behind the last of `bytes` ends there.
///
/// # Safety
/// - for each offset in `part` at which `bytes` has a byte, the byte at `to` plus that offset may
///   be written.
#[cold]
#[inline(never)]
pub(crate) unsafe fn write_part(to: *mut u8, bytes: &InsnBuffer, part: Range<usize>) {
    for at in part {
        if let Some(&byte) = bytes.bytes().get(at) {
            // SAFETY: the caller says that the bytes of the site can be written, `at` among them.
            unsafe { to.add(at).write_volatile(byte) };
        }
    }
}

/// Asks for the bytes at this address before they are needed. Does nothing where
/// the CPU might not know the instruction.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which faults at no address and changes nothing (Intel SDM
    // vol. 2B, "PREFETCHh"). By `asm!`, because a kernel's target has no SSE, which
    // the intrinsic wants; the instruction is in every 64-bit CPU.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(target_arch = "x86")]
    let _ = address;
}
