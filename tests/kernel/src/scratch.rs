//! A buffer of four pages for code that is put there at run time. Like text, it is executable at
//! its own address and writable at its [`alias`](paging::alias) only.

use crate::{cpu, image, paging};

/// The filler of the buffer: INT3, so that code that runs past its end traps at once.
const FILLER: u8 = 0xcc;

/// Puts `code` at the start of the buffer and INT3 into the rest. Returns the address to call.
pub fn load(code: &[u8]) -> *const u8 {
    let buffer = image::scratch();
    assert!(code.len() <= buffer.len(), "{} bytes of code for {}", code.len(), buffer.len());
    let target = paging::alias(buffer.start);
    // SAFETY: the alias of the whole buffer is mapped writable, no reference to the buffer exists,
    // and the length was checked.
    unsafe {
        target.write_bytes(FILLER, buffer.len());
        target.copy_from_nonoverlapping(code.as_ptr(), code.len());
    }
    // The CPU may hold old instructions, because it does not notice that instructions were written
    // at another address than they are fetched from (SDM vol. 3A section 8.1.3, "Handling Self- and
    // Cross-Modifying Code").
    cpu::serialize();
    buffer.start as *const u8
}
