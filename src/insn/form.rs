//! The form of a site: its first six bytes as they are for every site of a class, with a hole
//! where the displacement goes.
//!
//! A kernel has thousands of sites and a few ops, and sites of one op, capacity and kind differ
//! only in a displacement. So their bytes are composed once, as a [`Form`]; for each site only
//! the displacement is computed and put into the hole:
//!
//! ```text
//! form     e8 00 00 00 00 90      a direct call and its NOP; target 0x2000
//! site     e8 fb 0f 00 00 90      at 0x1000: 0x2000 - (0x1000 + 5) = 0xffb
//! ```
//!
//! The six bytes are one number, the first byte lowest, so that a site is compared and written
//! in two accesses.

use super::code::Code;
use super::nops::{Nops, Width};
use super::replacement::Replacement;

/// The first six bytes of a site, with a hole for a displacement or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// The bytes, with zeros in the hole.
    head: u64,
    /// Where the displacement leads, less the distance from the site to the end of the
    /// instruction: the displacement is this number less the address of the site.
    base: u64,
    /// All ones if there is a displacement, and 0 if there is none.
    mask: i32,
    /// How many bits of `head` lie in front of the hole.
    shift: u8,
}

impl Form {
    /// A form that no site has: its displacement is out of reach from every address.
    pub(crate) const NEVER: Self = Self { head: 0, base: 1 << 63, mask: -1, shift: 0 };

    /// Composes the form of all sites of this capacity with this replacement; `None` if there is no
    /// room for it.
    #[inline(never)]
    pub(crate) fn compose(
        width: Width,
        nops: Nops,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Option<Self> {
        let code = Code::of(replacement);
        let padded = code.padded(width, nops, capacity).ok()?;
        Some(Self::new(width, padded.head(), &code))
    }

    /// Makes the form of this code, whose bytes and NOPs begin with `head`.
    pub(super) const fn new(width: Width, head: u64, code: &Code<'_>) -> Self {
        let Some(operand) = code.operand else {
            return Self { head, base: 0, mask: 0, shift: 0 };
        };
        let shift = operand.end.wrapping_sub(4).wrapping_mul(8);
        if operand.is_slot && matches!(width, Width::Bits32) {
            // In 32-bit code an indirect call names its slot by an absolute address.
            return Self { head: head | operand.target << shift, base: 0, mask: 0, shift };
        }
        Self { head, base: operand.target.wrapping_sub(operand.end as u64), mask: -1, shift }
    }

    /// Returns the first six bytes of the site at `address`, or `None` if the displacement does
    /// not reach.
    ///
    /// The arithmetic wraps first and is checked then, so targets on both sides of the site, and
    /// builds with overflow checks, work. There is no branch on whether the form has a
    /// displacement: the op of the next site is random, and a CPU cannot predict it.
    #[inline(always)]
    pub(crate) fn head_at(&self, width: Width, address: u64) -> Option<u64> {
        let distance = self.base.wrapping_sub(address).cast_signed() & i64::from(self.mask);
        let displacement = distance as i32;
        let operand = u64::from(displacement.cast_unsigned()).wrapping_shl(self.shift.into());
        let reaches = match width {
            // Modulo 2³² everything is in reach; what is not below 2³² was refused before.
            Width::Bits32 => self.base != Self::NEVER.base,
            Width::Bits64 => i64::from(displacement) == distance,
        };
        reaches.then_some(self.head | operand)
    }
}
