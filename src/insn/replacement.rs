//! What a site gets or holds, as a value that names it.

/// The two ways in which a site goes to a function: one comes back, the other does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A call, which returns behind the site.
    Call = 0,
    /// A jump, which does not return.
    Jump = 1,
}

/// A value that says what a site gets or holds. Its bytes follow from this, from the address of the
/// site and from its capacity: [`InsnBuffer::compose`](crate::InsnBuffer::compose).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement<'a> {
    /// The indirect call or jump through the slot at this address, which the assembler wrote,
    /// padded with single-byte NOPs. A site that is not patched, or not any more, holds this.
    Indirect(Kind, u64),
    /// The instructions of a patchlet.
    Patchlet(&'a [u8]),
    /// A direct `call rel32` to this address.
    Call(u64),
    /// A direct `jmp rel32` to this address.
    Jump(u64),
    /// Nothing: the site becomes NOPs.
    Nops,
    /// One NOP of these bytes, which are all of the site: a branch that does not jump.
    Nop(&'a [u8]),
    /// The identity patchlet (64-bit only; 32-bit needs no instruction).
    Identity(&'a [u8]),
    /// The patchlet that returns 0.
    Zero(&'a [u8]),
    /// The trap: the slot is null, so nothing may ever get here.
    Trap(&'a [u8]),
}

/// The name of a [`Replacement`] without its values, which reports count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplacementName {
    Indirect,
    Patchlet,
    Call,
    Jump,
    Nops,
    Identity,
    Zero,
    Trap,
}

impl Replacement<'_> {
    pub(crate) const fn name(&self) -> ReplacementName {
        match self {
            Self::Indirect(..) => ReplacementName::Indirect,
            Self::Patchlet(_) => ReplacementName::Patchlet,
            Self::Call(_) => ReplacementName::Call,
            Self::Jump(_) => ReplacementName::Jump,
            Self::Nops | Self::Nop(_) => ReplacementName::Nops,
            Self::Identity(_) => ReplacementName::Identity,
            Self::Zero(_) => ReplacementName::Zero,
            Self::Trap(_) => ReplacementName::Trap,
        }
    }

    /// Returns the address that the operand of the instruction names; 0, if it has none.
    pub(super) const fn operand(&self) -> u64 {
        match *self {
            Self::Indirect(_, address) | Self::Call(address) | Self::Jump(address) => address,
            Self::Patchlet(_)
            | Self::Nops
            | Self::Nop(_)
            | Self::Identity(_)
            | Self::Zero(_)
            | Self::Trap(_) => 0,
        }
    }
}
