//! What all sites have in common that hold the same, wherever they are.

use super::nops::Width;
use crate::choose::What;
use crate::error::ComposeError;

/// The first six bytes of what a site can hold, as a number, with a hole for a
/// displacement or without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Zeros in the hole.
    head: u64,
    /// What the displacement leads to, less the length of its instruction.
    base: u64,
    /// All ones if there is one, and 0 if there is none.
    mask: i32,
    /// How many bits are in front of it.
    shift: u8,
    pub(crate) what: What,
}

impl Form {
    /// Not one: six bytes are never this much, and from no address of text is it in reach.
    pub(crate) const NONE: Self =
        Self { head: u64::MAX, base: 1 << 63, mask: -1, shift: 0, what: What::Indirect };

    /// Any one, to be overwritten.
    pub(crate) const ANY: Self = Self { head: 0, base: 0, mask: 0, shift: 0, what: What::Patchlet };

    /// Of [`Code`](super::code::Code) whose bytes and NOPs begin with `head`.
    pub(super) const fn new(width: Width, head: u64, what: What, end: u8, target: u64) -> Self {
        // These two mean nothing where there is no operand.
        let (base, shift) = (target.wrapping_sub(end as u64), end.wrapping_sub(4).wrapping_mul(8));
        if matches!((width, what), (Width::Bits32, What::Indirect)) {
            // A slot has an absolute address.
            return Self { head: head | target << shift, base, mask: 0, shift, what };
        }
        Self { head, base, mask: -((end > 0) as i32), shift, what }
    }

    /// Makes of [`NONE`](Self::NONE) that of code which has no room, so long is it.
    pub(super) const fn set_too_long(&mut self, len: usize) {
        self.base += len as u64;
    }

    /// Why a site of this capacity cannot have it.
    pub(crate) const fn why_not(&self, capacity: u8) -> ComposeError {
        if self.head == Self::NONE.head {
            ComposeError::TooLong { len: (self.base ^ Self::NONE.base) as usize, capacity }
        } else {
            let end = self.shift as u64 / 8 + 4;
            ComposeError::OutOfReach { target: self.base.wrapping_add(end) }
        }
    }

    /// The first six bytes of the site at this address, as a number; `None` if there is no
    /// room, or the displacement does not reach so far.
    ///
    /// Wrapping first, then the range check. Without a branch on whether there is a
    /// displacement: which of the ops is next in text, no CPU can predict.
    #[inline(always)]
    pub(crate) fn head_at(&self, width: Width, address: u64) -> Option<u64> {
        let distance = self.base.wrapping_sub(address).cast_signed() & i64::from(self.mask);
        let displacement = distance as i32;
        let operand = u64::from(displacement.cast_unsigned()).wrapping_shl(self.shift.into());
        let reaches = match width {
            // Everything is in reach modulo 2³².
            Width::Bits32 => self.head != Self::NONE.head,
            Width::Bits64 => i64::from(displacement) == distance,
        };
        reaches.then_some(self.head | operand)
    }
}
