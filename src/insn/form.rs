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

use super::buffer::InsnBuffer;
use super::code::{Code, Operand};
use super::error::ComposeError;
use super::nops::{Nops, Width};
use super::replacement::Replacement;

/// The first six bytes of a site, with a hole for a displacement or without one.
#[derive(Clone, Copy, Debug, Eq)]
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

impl PartialEq for Form {
    // Not inlined: each comparison would repeat four. By `&`, without a branch: LLVM crashes where
    // it makes one comparison of memory out of such a chain of branches (rustc 1.95, i686).
    #[inline(never)]
    fn eq(&self, other: &Self) -> bool {
        (self.head == other.head)
            & (self.base == other.base)
            & (self.mask == other.mask)
            & (self.shift == other.shift)
    }
}

impl Form {
    /// A form that no site has: its displacement is out of reach from every address.
    pub(crate) const NEVER: Self = Self { head: 0, base: 1 << 63, mask: -1, shift: 0 };

    /// Composes the form of all sites of this capacity with this replacement, and all their bytes,
    /// with zeros in the hole.
    ///
    /// # Errors
    /// - [`ComposeError::Capacity`] if `capacity` is 0 or more than 32;
    /// - [`ComposeError::TooLong`] if there is no room for the instructions.
    #[inline(never)]
    pub(crate) fn compose(
        width: Width,
        nops: Nops,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Result<(Self, InsnBuffer), ComposeError> {
        if capacity == 0 || usize::from(capacity) > InsnBuffer::MAX {
            return Err(ComposeError::Capacity { capacity });
        }
        let code = Code::of(replacement);
        if code.bytes.len() > usize::from(capacity) {
            return Err(ComposeError::TooLong { len: code.bytes.len(), capacity });
        }
        let mut padded = InsnBuffer::nothing();
        padded.push(code.bytes);
        padded.pad(width, nops, capacity, code.longest_nop());
        Ok((Self::new(width, padded.head(), &code), padded))
    }

    /// Composes the form of all native sites of this capacity with this replacement;
    /// [`Form::NEVER`] if there is no room for it.
    #[inline(never)]
    pub(crate) fn or_never(nops: Nops, capacity: u8, replacement: &Replacement<'_>) -> Self {
        match &Self::compose(Width::NATIVE, nops, capacity, replacement) {
            Ok((form, _)) => *form,
            Err(_) => Self::NEVER,
        }
    }

    /// Makes the form of sites that have this code, and whose bytes begin with `head`.
    const fn new(width: Width, head: u64, code: &Code<'_>) -> Self {
        let (Operand::Slot(target) | Operand::Code(target)) = code.operand else {
            return Self { head, base: 0, mask: 0, shift: 0 };
        };
        let end = code.bytes.len() as u64;
        let shift = (end as u8).wrapping_sub(4).wrapping_mul(8);
        match (width, code.operand) {
            // In 32-bit code everything is in reach that is an address at all.
            (Width::Bits32, _) if target > u32::MAX as u64 => Self::NEVER,
            // There an indirect call names its slot by an absolute address.
            (Width::Bits32, Operand::Slot(_)) => {
                Self { head: head | target << shift, base: 0, mask: 0, shift }
            }
            _ => Self { head, base: target.wrapping_sub(end), mask: -1, shift },
        }
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
            // Modulo 2³² everything is in reach.
            Width::Bits32 => self.base != Self::NEVER.base,
            Width::Bits64 => i64::from(displacement) == distance,
        };
        reaches.then_some(self.head | operand)
    }
}
