//! Four pages to run code from that was not linked there: executable where it lies, writable at its
//! [`alias`](paging::alias) only, like text.

use crate::{cpu, image, paging};

/// INT3, so that code that runs past its end is noticed at once.
const FILLER: u8 = 0xcc;

/// Puts `code` at the start of the buffer, INT3 into the rest, and returns the address to call.
pub fn load(code: &[u8]) -> *const u8 {
    let buffer = image::scratch();
    assert!(code.len() <= buffer.len(), "{} bytes of code for {}", code.len(), buffer.len());
    let target = paging::alias(buffer.start);
    // SAFETY: the alias of the whole buffer is mapped writable, nothing else lies there, and the
    // length was checked.
    unsafe {
        target.write_bytes(FILLER, buffer.len());
        target.copy_from_nonoverlapping(code.as_ptr(), code.len());
    }
    // The CPU may hold old instructions: they were written at another address than the one they are
    // fetched from. SDM vol. 3A section 8.1.3, "Handling Self- and Cross-Modifying Code".
    cpu::serialize();
    buffer.start as *const u8
}
