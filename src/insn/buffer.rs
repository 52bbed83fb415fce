//! The instruction buffer.

use core::fmt;

use super::code::Code;
use super::form::Form;
use super::nops::{Nops, Width, next_nop};
use crate::choose::{Replacement, What};
use crate::error::ComposeError;
use crate::site::Kind;

/// The bytes of one site: 1 to 32, all of its capacity.
#[derive(Clone, Copy, Eq)]
pub struct InsnBuffer {
    /// Zeros behind the last one.
    bytes: [u8; Self::MAX],
    len: u8,
}

impl PartialEq for InsnBuffer {
    #[inline(never)] // Or it is there for each comparison.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.bytes == other.bytes
    }
}

impl InsnBuffer {
    /// The largest capacity of a site, in bytes.
    pub const MAX: usize = 32;

    /// The smallest: an indirect call or jump, `ff 15` or `ff 25` and four bytes.
    pub const MIN: usize = 6;

    /// No bytes yet.
    pub(crate) const fn nothing() -> Self {
        Self { bytes: [0; Self::MAX], len: 0 }
    }

    /// These bytes as they are, for comparing with what text holds; `None` if
    /// there are more than [`MAX`](Self::MAX).
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut buffer = Self::nothing();
        buffer.push(bytes).then_some(buffer)
    }

    /// The bytes, in memory order.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first six bytes, which every site has, as a number, the first of them in its
    /// lowest place.
    pub(crate) const fn head(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) << 16 >> 16
    }

    /// One byte.
    pub(crate) const fn of(byte: u8) -> Self {
        let mut buffer = Self::nothing();
        buffer.bytes[0] = byte;
        buffer.len = 1;
        buffer
    }

    /// Makes it so many bytes, [`MAX`](Self::MAX) at most.
    pub(crate) fn fill_with(&mut self, len: u8, byte: impl Fn(usize) -> u8) {
        self.len = len;
        for (at, to) in self.bytes.iter_mut().take(len.into()).enumerate() {
            *to = byte(at);
        }
    }

    /// Appends; false, and unchanged, if there is no room.
    #[inline(never)]
    fn push(&mut self, bytes: &[u8]) -> bool {
        let at = usize::from(self.len);
        let Some(room) = self.bytes.get_mut(at..at + bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        // At most MAX, as the range above was inside the array.
        self.len += bytes.len() as u8;
        true
    }

    /// Composes what a site gets: the replacement, then the fewest NOPs.
    ///
    /// `address` is that of the site's first byte. Address arithmetic wraps at
    /// the width and is then checked, so targets before and behind the site work
    /// alike.
    ///
    /// # Errors
    /// - [`ComposeError::Capacity`] if `capacity` is 0 or more than 32;
    /// - [`ComposeError::TooLong`] if the replacement is longer than `capacity`;
    /// - [`ComposeError::OutOfReach`] if a rel32 does not reach the target.
    pub fn compose(
        width: Width,
        nops: Nops,
        address: u64,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Result<Self, ComposeError> {
        if capacity == 0 || usize::from(capacity) > Self::MAX {
            return Err(ComposeError::Capacity { capacity });
        }
        Self::made(width, nops, address, capacity, &Code::of(replacement))
    }

    /// What the assembler put into an unpatched site: the indirect call or jump
    /// through `slot`, then single-byte NOPs.
    ///
    /// # Errors
    /// - [`ComposeError::Capacity`] if `capacity` is not 6 to 32;
    /// - [`ComposeError::OutOfReach`] if the site cannot name that slot at all.
    pub fn indirect(
        width: Width,
        kind: Kind,
        address: u64,
        capacity: u8,
        slot: u64,
    ) -> Result<Self, ComposeError> {
        if !(Self::MIN..=Self::MAX).contains(&usize::from(capacity)) {
            return Err(ComposeError::Capacity { capacity });
        }
        Self::made(width, Nops::Long, address, capacity, &Code::indirect(kind, slot))
    }

    fn made(
        width: Width,
        nops: Nops,
        address: u64,
        capacity: u8,
        code: &Code<'_>,
    ) -> Result<Self, ComposeError> {
        let (mut buffer, mut form) = (Self::nothing(), Form::NONE);
        buffer.set(width, nops, address, capacity, code, &mut form);
        if buffer.len > 0 { Ok(buffer) } else { Err(form.why_not(capacity)) }
    }

    /// Composes the site at `address`, of 1 to 32 bytes, in this empty buffer, which stays
    /// empty if that cannot be. `form`, which is [`Form::NONE`] or any if nobody looks at
    /// it, becomes that of all such sites, wherever they are, and can say why not.
    #[inline(always)]
    pub(crate) fn set(
        &mut self,
        width: Width,
        nops: Nops,
        address: u64,
        capacity: u8,
        code: &Code<'_>,
        form: &mut Form,
    ) {
        let &Code { what, bytes, end, target } = code;
        if bytes.len() > usize::from(capacity) {
            form.set_too_long(bytes.len());
            return;
        }
        self.push(bytes);
        self.fill(width, nops, capacity, if what == What::Indirect { 1 } else { usize::MAX });
        *form = Form::new(width, self.head(), what, end, target);
        match form.head_at(width, address) {
            // In 32-bit code everything is in reach that is an address at all.
            Some(head) if width == Width::Bits64 || target <= u64::from(u32::MAX) => {
                self.bytes[..Self::MIN].copy_from_slice(&head.to_le_bytes()[..Self::MIN]);
            }
            _ => self.len = 0,
        }
    }

    /// Fills up to `capacity` with the fewest NOPs that are no longer than `longest`,
    /// longest first.
    #[inline(never)]
    fn fill(&mut self, width: Width, nops: Nops, capacity: u8, longest: usize) {
        while self.len < capacity {
            let missing = usize::from(capacity - self.len);
            self.push(next_nop(width, nops, missing.min(longest)));
        }
    }
}

/// The bytes in hex, as a disassembler lists them.
impl fmt::Display for InsnBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.bytes().iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InsnBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
