//! What the branches of a key were last patched for.

use core::sync::atomic::AtomicBool;

/// The state that one key's branches of one site set were last patched for. It has no meaning while
/// the set is not patched, see [`BranchSource`](super::BranchSource).
#[derive(Debug)]
#[repr(C)]
pub struct BranchState {
    pub(super) last_applied: AtomicBool,
    /// Whether the key was on when the batch began.
    pub(super) at_start: AtomicBool,
}

impl BranchState {
    /// Makes the state of a key whose branches were never patched.
    #[must_use]
    pub const fn new() -> Self {
        Self { last_applied: AtomicBool::new(false), at_start: AtomicBool::new(false) }
    }
}

impl Default for BranchState {
    fn default() -> Self {
        Self::new()
    }
}
