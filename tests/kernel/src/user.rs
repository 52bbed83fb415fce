//! Ring 3 and back.
//!
//! A test goes to [`stub`] in ring 3 by IRET or SYSRET, inside of
//! `traps::catch(traps::USER_RETURN, …)`. The stub comes back by INT, and `catch` returns the frame
//! of ring 3. The stub needs no stack, and the kernel does not use GS.

// asm/user.S
unsafe extern "C" {
    static user_stub: [u8; 0];
}

/// The length of the stub's INT instruction, in bytes. The frame's instruction pointer is the
/// address of the stub plus this length.
pub const STUB_LENGTH: usize = 2;

/// Returns the address of the stub, which is valid as 32-bit and as 64-bit code.
pub fn stub() -> usize {
    (&raw const user_stub).addr()
}

/// A way to ring 3. Each width has its own, in [`crate::arch::USER_ENTRIES`].
pub struct UserEntry {
    pub name: &'static str,
    /// The value of CS in ring 3.
    pub code: u16,
    /// The function that goes to ring 3. It must be called within `traps::catch`, which is the only
    /// way back, and `address` must be that of code for ring 3.
    pub enter: unsafe fn(address: usize) -> !,
}
