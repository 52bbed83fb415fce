//! Ring 3.
//!
//! A test goes there inside `traps::catch(traps::USER_RETURN, …)`, by IRET or SYSRET to [`stub`];
//! the stub comes back by INT, and `catch` returns the frame of ring 3. The stub needs no stack. GS
//! is not the kernel's business.

// asm/user.S
unsafe extern "C" {
    static user_stub: [u8; 0];
}

/// The length of the stub's INT instruction: the frame's instruction pointer is this far behind the
/// stub.
pub const STUB_LENGTH: usize = 2;

/// The address to go to, in 32-bit or 64-bit code.
pub fn stub() -> usize {
    (&raw const user_stub).addr()
}

/// A way to ring 3. Each width has its own, in [`crate::arch::USER_ENTRIES`].
pub struct UserEntry {
    pub name: &'static str,
    /// CS afterwards.
    pub code: u16,
    /// Must be called within `traps::catch`, for nothing else comes back; the address is that of
    /// code for ring 3.
    pub enter: unsafe fn(address: usize) -> !,
}
