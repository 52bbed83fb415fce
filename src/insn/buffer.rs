//! The instruction buffer: where the bytes of one site are composed before they are written.

use core::fmt;

use super::nops::{Nops, Width, next_nop};

/// The instruction buffer: all bytes of one site, 1 to 32 of them, composed here before they are
/// written, once.
#[derive(Clone, Copy, Eq)]
pub struct InsnBuffer {
    /// The bytes in use, and zeros behind them, so that buffers compare as a whole.
    bytes: [u8; Self::MAX],
    len: u8,
}

impl PartialEq for InsnBuffer {
    // Not inlined: every caller would have a loop of its own.
    #[inline(never)]
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.bytes == other.bytes
    }
}

impl InsnBuffer {
    /// The largest capacity of a site, in bytes.
    pub const MAX: usize = 32;

    /// The length of an indirect call or jump, `ff 15` or `ff 25` and four bytes; no site of an
    /// op has less.
    pub const MIN: usize = 6;

    /// The length of a direct jump, `e9` and four bytes: the capacity of a branch.
    pub const JUMP: usize = 5;

    /// Returns a buffer without a byte.
    pub(crate) const fn empty() -> Self {
        Self { bytes: [0; Self::MAX], len: 0 }
    }

    /// Returns these bytes as they are, for comparing with what text holds; `None` if there are
    /// more than [`MAX`](Self::MAX).
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Option<Self> {
        let mut buffer = Self::empty();
        buffer.push(bytes).then_some(buffer)
    }

    /// Returns the bytes, in memory order.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the first six bytes as a number, the first byte lowest. The bytes that a shorter
    /// buffer lacks are zeros.
    pub(crate) const fn head(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Returns the buffer with its first six bytes replaced by those of `head`, a number as
    /// [`head`](Self::head) returns it.
    pub(super) fn with_head(mut self, head: u64) -> Self {
        let [bytes @ .., _, _] = head.to_le_bytes();
        self.bytes[..Self::MIN].copy_from_slice(&bytes);
        self
    }

    /// Returns a buffer of `len` bytes, [`MIN`](Self::MIN) at most, given as a number whose lowest
    /// byte is the first.
    pub(crate) fn of_head(head: u64, len: u8) -> Self {
        Self { len, ..Self::empty() }.with_head(head)
    }

    /// Returns a buffer of one byte.
    pub(crate) const fn of(byte: u8) -> Self {
        let mut buffer = Self::empty();
        buffer.bytes[0] = byte;
        buffer.len = 1;
        buffer
    }

    /// Fills an empty buffer with `len` bytes, [`MAX`](Self::MAX) at most: at each offset, the byte
    /// that `byte` returns for that offset.
    pub(crate) fn fill_with(&mut self, len: u8, byte: impl Fn(usize) -> u8) {
        self.len = len;
        for (at, to) in self.bytes.iter_mut().take(len.into()).enumerate() {
            *to = byte(at);
        }
    }

    /// Appends these bytes. Returns false, and changes nothing, if there is no room.
    #[inline(never)]
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let at = usize::from(self.len);
        let Some(room) = self.bytes.get_mut(at..at + bytes.len()) else {
            return false;
        };
        room.copy_from_slice(bytes);
        // At most MAX, as the range above was inside the array.
        self.len += bytes.len() as u8;
        true
    }

    /// Fills the buffer up to `capacity` with NOPs of no more than `longest` bytes each: the fewest
    /// that do, and the longest of them first.
    pub(super) fn pad(&mut self, width: Width, nops: Nops, capacity: u8, longest: usize) {
        while self.len < capacity {
            let missing = usize::from(capacity - self.len);
            self.push(next_nop(width, nops, missing.min(longest)));
        }
    }
}

/// Prints the bytes in hex, as a disassembler lists them.
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
