//! The bytes of a site in memory: reads and writes of text, a few bytes each.
//!
//! Unsafe code here reads and writes at addresses; the callers answer for them.
//! Volatile throughout: the compiler knows nothing of who else reads and writes
//! here, nor that an alias is the same memory.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::insn::InsnBuffer;

/// At any address.
#[repr(C, packed)]
struct Unaligned<T>(T);

/// What is read and written at once: 4 bytes, and the 2 behind them.
const LOW: usize = 4;

/// Reads the first eight bytes of a site of `capacity` bytes, as one number; zeros
/// where it has fewer.
///
/// # Safety
/// - `capacity` is 6 to 32, and so many bytes at `from` are readable.
#[inline(always)]
pub(crate) unsafe fn read_head(from: *const u8, capacity: u8) -> u64 {
    // SAFETY: 6 bytes are readable, by the contract.
    let (low, high) = unsafe {
        let low = from.cast::<Unaligned<u32>>().read_volatile().0;
        (low, from.add(LOW).cast::<Unaligned<u16>>().read_volatile().0)
    };
    let mut head = u64::from(low) | u64::from(high) << 32;
    for at in InsnBuffer::MIN..usize::from(capacity).min(size_of::<u64>()) {
        // SAFETY: `capacity` bytes are readable, by the contract.
        head |= u64::from(unsafe { from.add(at).read_volatile() }) << (8 * at);
    }
    head
}

/// Reads a site of `capacity` bytes.
///
/// # Safety
/// - `capacity` is 6 to 32, and so many bytes at `from` are readable.
#[cold]
#[inline(never)]
pub(crate) unsafe fn read(from: *const u8, capacity: u8) -> InsnBuffer {
    let mut buffer = InsnBuffer::nothing();
    for at in 0..usize::from(capacity) {
        // SAFETY: `capacity` bytes are readable, by the contract.
        buffer.push(&[unsafe { from.add(at).read_volatile() }]);
    }
    buffer
}

/// Writes the first 6 bytes of a site, each byte once.
///
/// # Safety
/// - 6 bytes at `to` may be written.
#[inline(always)]
pub(crate) unsafe fn write_six(to: *mut u8, head: u64) {
    // SAFETY: 6 bytes may be written, by the contract.
    unsafe {
        to.cast::<Unaligned<u32>>().write_volatile(Unaligned(head as u32));
        to.add(LOW).cast::<Unaligned<u16>>().write_volatile(Unaligned((head >> 32) as u16));
    }
}

/// Writes these bytes from the first of the part on, each by one store.
///
/// # Safety
/// - for each byte of the part there is a byte, counted from `to`, that may be
///   written.
#[cold]
#[inline(never)]
pub(crate) unsafe fn write_part(to: *mut u8, bytes: &InsnBuffer, part: Range<usize>) {
    for (at, &byte) in part.clone().zip(bytes.bytes().get(part).unwrap_or_default()) {
        // SAFETY: by the contract.
        unsafe { to.add(at).write_volatile(byte) };
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
