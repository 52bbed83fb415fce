//! The instructions of a replacement, before it is known where the site is and what room it has.

use super::replacement::{Kind, Replacement};

/// The instructions of a [`Replacement`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Instructions<'a> {
    /// The bytes. If there is an operand, it is the last four of them, which are zeros here.
    pub(super) bytes: &'a [u8],
    pub(super) operand: Operand,
}

/// The meaning of the last four bytes of a branch: what the branch goes through or to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// Nothing: there is no branch.
    None,
    /// The slot at this address: the CPU reads from it where to go.
    Slot(u64),
    /// The code at this address: the CPU goes there.
    Code(u64),
}

impl<'a> Instructions<'a> {
    /// Returns the instructions of this replacement.
    pub(super) const fn of(replacement: &Replacement<'a>) -> Self {
        let (bytes, operand): (&[u8], _) = match *replacement {
            Replacement::Indirect(Kind::Call, slot) => {
                (&[0xff, 0x15, 0, 0, 0, 0], Operand::Slot(slot))
            }
            Replacement::Indirect(Kind::Jump, slot) => {
                (&[0xff, 0x25, 0, 0, 0, 0], Operand::Slot(slot))
            }
            Replacement::Call(target) => (&[0xe8, 0, 0, 0, 0], Operand::Code(target)),
            Replacement::Jump(target) => (&[0xe9, 0, 0, 0, 0], Operand::Code(target)),
            Replacement::Nops => (&[], Operand::None),
            Replacement::Patchlet(bytes)
            | Replacement::Nop(bytes)
            | Replacement::Identity(bytes)
            | Replacement::Zero(bytes)
            | Replacement::Trap(bytes) => (bytes, Operand::None),
        };
        Self { bytes, operand }
    }

    /// Returns the length in bytes of the longest NOP that the padding may use.
    pub(super) const fn longest_nop(&self) -> usize {
        match self.operand {
            // Only an original has a slot as its operand, and the assembler pads that with
            // single-byte NOPs.
            Operand::Slot(_) => 1,
            Operand::None | Operand::Code(_) => usize::MAX,
        }
    }
}
