//! Choosing: what a slot holds → what its sites get. No address is dereferenced
//! here; numbers in, a [`Replacement`] out.

use crate::site::Kind;

/// What a site gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement<'a> {
    /// The op's patchlet.
    Patchlet(&'a [u8]),
    /// A direct `call rel32` to this address.
    Call(u64),
    /// A direct `jmp rel32` to this address.
    Jump(u64),
    /// Nothing: the site becomes NOPs.
    Nops,
    /// The identity patchlet (64-bit only; 32-bit needs no instruction).
    Identity(&'a [u8]),
    /// The trap: the slot is null, so nothing may ever get here.
    Trap(&'a [u8]),
}

/// What a site has, without the values: a [`Replacement`] or, after these, the indirect
/// call or jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Patchlet,
    Call,
    Jump,
    Nops,
    Identity,
    Trap,
    Indirect,
}

impl What {
    pub(crate) const fn of(replacement: Option<&Replacement<'_>>) -> Self {
        match replacement {
            Some(Replacement::Patchlet(_)) => Self::Patchlet,
            Some(Replacement::Call(_)) => Self::Call,
            Some(Replacement::Jump(_)) => Self::Jump,
            Some(Replacement::Nops) => Self::Nops,
            Some(Replacement::Identity(_)) => Self::Identity,
            Some(Replacement::Trap(_)) => Self::Trap,
            None => Self::Indirect,
        }
    }
}

/// What choosing needs to know of an op: what the rules ask for, and no more.
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
    /// The replacement for a site of this kind while the slot holds `target`.
    ///
    /// The order is that of the rules, the same for every op. Linux checked the
    /// native function for its two lock ops only, and every hypervisor had to
    /// replace the whole patch function.
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
