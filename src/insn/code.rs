//! What a site can hold, before it is known where it is and what room it has.

use crate::choose::{Replacement, What};
use crate::site::Kind;

/// What a site can hold, before its NOPs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code<'a> {
    pub(super) what: What,
    /// Zeros where the operand of a branch goes.
    pub(super) bytes: &'a [u8],
    /// Where the branch ends, and with it the operand; 0 if this is none.
    pub(super) end: u8,
    /// What the operand leads to.
    pub(super) target: u64,
}

impl<'a> Code<'a> {
    /// What the assembler put there: the indirect call or jump through this slot, and then
    /// single-byte NOPs.
    pub(crate) const fn indirect(kind: Kind, slot: u64) -> Self {
        let bytes = match kind {
            Kind::Call => &[0xff, 0x15, 0, 0, 0, 0],
            Kind::Jump => &[0xff, 0x25, 0, 0, 0, 0],
        };
        Self { what: What::Indirect, bytes, end: 6, target: slot }
    }

    /// What it is patched to, and then the fewest NOPs.
    pub(crate) const fn of(replacement: &Replacement<'a>) -> Self {
        let (bytes, end, target): (&[u8], _, _) = match *replacement {
            Replacement::Call(target) => (&[0xe8, 0, 0, 0, 0], 5, target),
            Replacement::Jump(target) => (&[0xe9, 0, 0, 0, 0], 5, target),
            Replacement::Nops => (&[], 0, 0),
            Replacement::Patchlet(bytes)
            | Replacement::Identity(bytes)
            | Replacement::Trap(bytes) => (bytes, 0, 0),
        };
        Self { what: What::of(Some(replacement)), bytes, end, target }
    }
}
