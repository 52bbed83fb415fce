//! The choice of a replacement: from the address that a slot holds to the [`Replacement`] that
//! its sites get. Addresses are compared as numbers and never dereferenced, so the tool can
//! choose for a linked file of either width.

use crate::insn::{Kind, Replacement};

/// The functions that any op may have in its slot, and what sites get for them. These facts are
/// the same for all ops of a linked file.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Address of the no-op function.
    pub nop: u64,
    /// Address of the identity function.
    pub ident: u64,
    /// Bytes of the identity patchlet. Empty on 32 bit, where argument and result are in the
    /// same register and nothing needs to be done.
    pub ident_patchlet: &'a [u8],
    /// Address of the function that returns 0.
    pub zero: u64,
    /// Bytes of a patchlet that returns 0.
    pub zero_patchlet: &'a [u8],
    /// Bytes of the trap's patchlet, `ud2`.
    pub trap: &'a [u8],
}

impl<'a> Choice<'a> {
    /// Returns the replacement for a site of this kind while the slot holds the address `target`.
    /// `own` finds that one of the op's own patchlets, those of its default and of its variants,
    /// whose native function is at an address, and returns its bytes. The first of these rules that
    /// applies decides, for every op alike:
    ///
    /// 1. The slot is null: the site gets the trap.
    /// 2. The slot holds the no-op function: the site gets NOPs.
    /// 3. The slot holds the identity function: the site gets the identity patchlet, or NOPs
    ///    where argument and result are in the same register.
    /// 4. The slot holds the native function of one of the op's own patchlets: the site gets that
    ///    patchlet.
    /// 5. The slot holds the function that returns 0: the site gets the patchlet for that. (This
    ///    comes behind rule 4 because a linker may fold that function and a native function of the
    ///    same instructions into one.)
    /// 6. Otherwise the site gets a direct call or, if it is a jump, a direct jump to `target`.
    #[must_use]
    pub fn replacement(
        &self,
        target: u64,
        kind: Kind,
        own: impl FnOnce(u64) -> Option<&'a [u8]>,
    ) -> Replacement<'a> {
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
        } else if let Some(patchlet) = own(target) {
            Replacement::Patchlet(patchlet)
        } else if target == self.zero {
            Replacement::Zero(self.zero_patchlet)
        } else {
            match kind {
                Kind::Call => Replacement::Call(target),
                Kind::Jump => Replacement::Jump(target),
            }
        }
    }
}
