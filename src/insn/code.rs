//! The instructions of a replacement, before it is known where the site is and what room it has.

use super::replacement::{Kind, Replacement};

/// The instructions of a [`Replacement`], with zeros where an operand goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) operand: Option<Operand>,
    /// The length in bytes of the longest NOP that the padding may use.
    pub(super) longest_nop: usize,
}

/// The four bytes by which a branch names where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    /// Where the operand ends, and the instruction with it, counted from the site.
    pub(super) end: u8,
    /// The address that it names.
    pub(super) target: u64,
    /// Whether `target` is a slot, which the CPU reads, and not the code to go to.
    pub(super) is_slot: bool,
}

impl<'a> Code<'a> {
    /// Returns the instructions of this replacement.
    pub(super) const fn of(replacement: &Replacement<'a>) -> Self {
        match *replacement {
            Replacement::Indirect(kind, slot) => {
                let bytes: &[u8] = match kind {
                    Kind::Call => &[0xff, 0x15, 0, 0, 0, 0],
                    Kind::Jump => &[0xff, 0x25, 0, 0, 0, 0],
                };
                let operand = Some(Operand { end: 6, target: slot, is_slot: true });
                // The assembler pads with single-byte NOPs.
                Self { bytes, operand, longest_nop: 1 }
            }
            Replacement::Call(target) => Self::direct(&[0xe8, 0, 0, 0, 0], target),
            Replacement::Jump(target) => Self::direct(&[0xe9, 0, 0, 0, 0], target),
            Replacement::Nops => Self::fixed(&[]),
            Replacement::Patchlet(bytes)
            | Replacement::Identity(bytes)
            | Replacement::Trap(bytes) => Self::fixed(bytes),
        }
    }

    const fn direct(bytes: &'a [u8], target: u64) -> Self {
        let operand = Some(Operand { end: 5, target, is_slot: false });
        Self { bytes, operand, longest_nop: usize::MAX }
    }

    const fn fixed(bytes: &'a [u8]) -> Self {
        Self { bytes, operand: None, longest_nop: usize::MAX }
    }
}
