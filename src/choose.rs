//! Choosing: what a slot holds → what its sites get. No address is dereferenced here; numbers in,
//! a [`Replacement`] out.

use crate::insn::{Kind, Replacement};

/// The facts of an op that its replacement is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Address of the op's own native function.
    pub native: u64,
    /// The op's patchlet; empty if its native function has none, and then the
    /// native function is called directly.
    pub patchlet: &'a [u8],
    /// Address of the no-op function.
    pub nop: u64,
    /// Address of the identity function.
    pub ident: u64,
    /// The identity patchlet; empty where argument and result are the same
    /// register (32-bit).
    pub ident_patchlet: &'a [u8],
    /// The trap's patchlet, `ud2`.
    pub trap: &'a [u8],
}

impl<'a> Choice<'a> {
    /// Returns the replacement for a site of this kind while the slot holds `target`: the first of
    /// these rules that applies, for every op alike.
    ///
    /// 1. The slot is null: the trap.
    /// 2. It holds the no-op function: nothing, so NOPs.
    /// 3. It holds the identity function: the identity patchlet, or nothing where argument and
    ///    result are the same register.
    /// 4. It holds the op's native function, and the op has a patchlet: that patchlet.
    /// 5. Anything else: a direct call, or a direct jump.
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
