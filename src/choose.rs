//! The choice of a replacement: from the address that a slot holds to the [`Replacement`] that
//! its sites get. Addresses are compared as numbers and never dereferenced, so the tool can
//! choose for a linked file of either width.

use crate::insn::{Kind, Replacement};

/// The facts about one op that decide which replacement its sites get.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Address of the op's own native function.
    pub native: u64,
    /// Bytes of the op's patchlet. Empty if the op has no patchlet; its sites then call the
    /// native function directly.
    pub patchlet: &'a [u8],
    /// Address of the no-op function.
    pub nop: u64,
    /// Address of the identity function.
    pub ident: u64,
    /// Bytes of the identity patchlet. Empty on 32 bit, where argument and result are in the
    /// same register and nothing needs to be done.
    pub ident_patchlet: &'a [u8],
    /// Bytes of the trap's patchlet, `ud2`.
    pub trap: &'a [u8],
}

impl<'a> Choice<'a> {
    /// Returns the replacement for a site of this kind while the slot holds the address `target`.
    /// The first of these rules that applies decides, for every op alike:
    ///
    /// 1. The slot is null: the site gets the trap.
    /// 2. The slot holds the no-op function: the site gets NOPs.
    /// 3. The slot holds the identity function: the site gets the identity patchlet, or NOPs
    ///    where argument and result are in the same register.
    /// 4. The slot holds the op's native function, and the op has a patchlet: the site gets that
    ///    patchlet.
    /// 5. Otherwise the site gets a direct call or, if it is a jump, a direct jump to `target`.
    #[must_use]
    pub fn replacement(&self, target: u64, kind: Kind) -> Replacement<'a> {
        if target == 0 {
            Replacement::Trap(self.trap)
        } else if target == self.nop {
            Replacement::Nops
        } else if target == self.ident {
            if self.ident_patchlet.is_empty() {
                Replacement::Nops
            } else {
                Replacement::Identity(self.ident_patchlet)
            }
        } else if target == self.native && !self.patchlet.is_empty() {
            Replacement::Patchlet(self.patchlet)
        } else {
            match kind {
                Kind::Call => Replacement::Call(target),
                Kind::Jump => Replacement::Jump(target),
            }
        }
    }
}
