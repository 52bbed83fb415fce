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
use super::error::ComposeError;
use super::instructions::{Instructions, Operand};
use super::nops::{Nops, Width};
use super::replacement::Replacement;

/// The first six bytes of a site, with a hole for a displacement or without one.
///
/// A CPU counts a displacement from the end of its instruction, so it is
/// `target - (site + length)`. All of this but the site is the same for the class, and kept as
/// `base`:
///
/// ```text
/// displacement = target - length - site = base - site
/// ```
#[derive(Clone, Copy, Debug, Eq)]
pub(crate) struct Form {
    /// The bytes, with zeros in the hole.
    head: u64,
    /// The target less the length of the instruction; 0 if there is no displacement.
    base: u64,
    /// All ones if there is a displacement, and 0 if there is none: the displacement is computed
    /// for every form, and made 0 by this.
    mask: i32,
    /// The place of the hole: so many bits of `head` lie in front of it.
    shift: u8,
}

impl PartialEq for Form {
    // Not inlined: it is four comparisons, and is called in several places. Joined by `&` and not
    // by `&&`: out of a chain of branches LLVM makes one comparison of memory, and crashes doing
    // so (rustc 1.95, i686).
    #[inline(never)]
    fn eq(&self, other: &Self) -> bool {
        (self.head == other.head)
            & (self.base == other.base)
            & (self.mask == other.mask)
            & (self.shift == other.shift)
    }
}

impl Form {
    /// A form of no bytes.
    pub(crate) const EMPTY: Self = Self { head: 0, base: 0, mask: 0, shift: 0 };

    /// A form that no site has: its displacement is out of reach from every address, since 2⁶³ is
    /// more than 2 GiB away from all that is an address (Intel SDM vol. 1, "Canonical
    /// Addressing").
    pub(crate) const NEVER: Self = Self { head: 0, base: 1 << 63, mask: -1, shift: 0 };

    /// Composes the form of all sites of this capacity with this replacement, and in `padded`, which
    /// is empty, all their bytes, with zeros in the hole.
    ///
    /// # Errors
    /// Returns
    /// - [`ComposeError::Capacity`] if `capacity` is 0 or more than 32;
    /// - [`ComposeError::TooLong`] if there is no room for the instructions.
    #[inline(never)]
    pub(crate) fn compose(
        width: Width,
        nops: Nops,
        capacity: u8,
        replacement: &Replacement<'_>,
        padded: &mut InsnBuffer,
    ) -> Result<Self, ComposeError> {
        if capacity == 0 || usize::from(capacity) > InsnBuffer::MAX {
            return Err(ComposeError::Capacity { capacity });
        }
        let instructions = Instructions::of(replacement);
        if instructions.bytes.len() > usize::from(capacity) {
            return Err(ComposeError::TooLong { len: instructions.bytes.len(), capacity });
        }
        padded.push(instructions.bytes);
        padded.pad(width, nops, capacity, instructions.longest_nop());
        Ok(Self::new(width, padded.head(), &instructions))
    }

    /// Composes the form of all native sites of this capacity with this replacement, or
    /// [`Form::NEVER`] if there is no room for it. Its displacement counts from `origin` on: what it
    /// gives for an address less `origin` is what the site at that address gets.
    #[inline(never)]
    pub(crate) fn or_never(
        nops: Nops,
        capacity: u8,
        replacement: &Replacement<'_>,
        origin: u64,
    ) -> Self {
        let mut padded = InsnBuffer::empty();
        match Self::compose(Width::NATIVE, nops, capacity, replacement, &mut padded) {
            // In 32-bit code a target that is no address is out of reach from everywhere.
            Ok(form) if Width::NATIVE == Width::Bits64 || form.base != Self::NEVER.base => {
                Self { base: form.base.wrapping_sub(origin), ..form }
            }
            _ => Self::NEVER,
        }
    }

    /// Makes the form of sites that have these instructions, and whose bytes begin with `head`.
    const fn new(width: Width, head: u64, instructions: &Instructions<'_>) -> Self {
        let (Operand::Slot(target) | Operand::Code(target)) = instructions.operand else {
            return Self { head, base: 0, mask: 0, shift: 0 };
        };
        let len = instructions.bytes.len() as u64;
        // The operand is the last four bytes. Wrapping, so that there is no code for a panic: an
        // instruction with an operand has five bytes or six.
        let shift = (len as u8).wrapping_sub(4).wrapping_mul(8);
        match (width, instructions.operand) {
            // In 32-bit code every address is in reach; such a target is none.
            (Width::Bits32, _) if target > u32::MAX as u64 => Self::NEVER,
            // In 32-bit code an indirect branch names its slot by an absolute address, so all of
            // its sites have the same bytes.
            (Width::Bits32, Operand::Slot(_)) => {
                Self { head: head | target << shift, base: 0, mask: 0, shift }
            }
            _ => Self { head, base: target.wrapping_sub(len), mask: -1, shift },
        }
    }

    /// Returns the first six bytes of the site at `address`, or `None` if the displacement does
    /// not reach.
    ///
    /// The arithmetic wraps first and is checked then, so it works for targets on both sides of the
    /// site, and in builds with overflow checks. There is no branch on whether the form has a
    /// displacement (`mask` does it instead): ops follow each other at random, so a CPU could not
    /// predict that branch.
    #[inline(always)]
    pub(crate) fn head_at(&self, width: Width, address: u64) -> Option<u64> {
        let distance = self.base.wrapping_sub(address).cast_signed() & i64::from(self.mask);
        let displacement = distance as i32;
        let operand = u64::from(displacement.cast_unsigned()).wrapping_shl(self.shift.into());
        let reaches = match width {
            // Addresses wrap at 2³², so a displacement of 32 bits reaches all of them.
            Width::Bits32 => self.base != Self::NEVER.base,
            Width::Bits64 => i64::from(displacement) == distance,
        };
        reaches.then_some(self.head | operand)
    }
}
