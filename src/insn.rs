//! The instruction buffer: where the new bytes of one site are composed before
//! they are written, once. Copy, rel32, NOP fill, and the indirect call that
//! stands in an unpatched site. Pure: works for both widths on any host.

use core::fmt;

use crate::choose::Replacement;
use crate::error::ComposeError;
use crate::site::Kind;

/// The width of the code, which decides how addresses wrap and how an indirect
/// call names its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32-bit: addresses wrap at 2³²; `ff 15 abs32`.
    Bits32,
    /// 64-bit: a rel32 reaches ±2 GiB; `ff 15 rel32`.
    Bits64,
}

impl Width {
    /// That of the code this is compiled into.
    pub const NATIVE: Self =
        if cfg!(target_pointer_width = "64") { Self::Bits64 } else { Self::Bits32 };

    /// The size of a slot, in bytes.
    #[must_use]
    pub const fn pointer_size(self) -> u64 {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// Which NOPs the CPU executes as one instruction each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Nops {
    /// NOPL, in every 64-bit CPU and 32-bit ones since the Pentium Pro: 1 to 9
    /// bytes (Intel SDM vol. 2B, "NOP").
    #[default]
    Long,
    /// `lea` and `mov` of a register to itself, 1 to 7 bytes: 32-bit CPUs
    /// without NOPL. In 64-bit code these would clear half of a register, so that
    /// gets [`Nops::Long`] all the same.
    Lea,
}

const LONG: [&[u8]; 9] = [
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// There is no 5-byte form: it is a 1-byte and a 4-byte one.
const LEA: [&[u8]; 7] = [
    &[0x90],
    &[0x89, 0xf6],
    &[0x8d, 0x76, 0x00],
    &[0x8d, 0x74, 0x26, 0x00],
    &[0x90, 0x8d, 0x74, 0x26, 0x00],
    &[0x8d, 0xb6, 0x00, 0x00, 0x00, 0x00],
    &[0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00],
];

/// The bytes of one site: 1 to 32, all of its capacity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InsnBuffer {
    /// Zeros behind the last one.
    bytes: [u8; Self::MAX],
    len: u8,
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

    /// The first six bytes, which every site has, as a number, the first of them in its
    /// lowest place.
    pub(crate) const fn head(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// One byte.
    pub(crate) const fn of(byte: u8) -> Self {
        let mut buffer = Self::nothing();
        buffer.bytes[0] = byte;
        buffer.len = 1;
        buffer
    }

    /// So many bytes, [`MAX`](Self::MAX) at most.
    pub(crate) fn from_fn(len: u8, byte: impl Fn(usize) -> u8) -> Self {
        let mut buffer = Self { len, ..Self::nothing() };
        for (at, to) in buffer.bytes.iter_mut().enumerate().take(len.into()) {
            *to = byte(at);
        }
        buffer
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
        let mut buffer = Self::nothing();
        buffer.set(width, nops, address, capacity, &Code::Replaced(*replacement))?;
        Ok(buffer)
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
        let mut buffer = Self::nothing();
        buffer.set(width, Nops::Long, address, capacity, &Code::Indirect(kind, slot))?;
        Ok(buffer)
    }

    /// Composes this in place, into nothing. `capacity` is 1 to 32. Returns where the
    /// instruction with a displacement ends, and 0 if there is none.
    pub(crate) fn set(
        &mut self,
        width: Width,
        nops: Nops,
        address: u64,
        capacity: u8,
        code: &Code<'_>,
    ) -> Result<u8, ComposeError> {
        // A branch, or bytes as they are.
        let (opcode, end, target, bytes): (u64, u8, u64, &[u8]) = match *code {
            Code::Indirect(Kind::Call, slot) => (0x15ff, 6, slot, &[]),
            Code::Indirect(Kind::Jump, slot) => (0x25ff, 6, slot, &[]),
            Code::Replaced(Replacement::Call(target)) => (0xe8, 5, target, &[]),
            Code::Replaced(Replacement::Jump(target)) => (0xe9, 5, target, &[]),
            Code::Replaced(Replacement::Nops) => (0, 0, 0, &[]),
            Code::Replaced(
                Replacement::Patchlet(bytes)
                | Replacement::Identity(bytes)
                | Replacement::Trap(bytes),
            ) => (0, 0, 0, bytes),
        };
        // In 32-bit code a slot has an absolute address.
        let absolute = width == Width::Bits32 && end == 6;
        let branch: [u8; 8];
        let mut bytes = bytes;

        if let Some(start) = end.checked_sub(4) {
            let operand = if absolute {
                u32::try_from(target).ok()
            } else {
                relative(width, address, end.into(), target)
            };
            let Some(operand) = operand else { return Err(ComposeError::OutOfReach { target }) };
            branch = (u64::from(operand) << (8 * start) | opcode).to_le_bytes();
            bytes = branch.get(..end.into()).unwrap_or_default();
        }
        if bytes.len() > usize::from(capacity) || !self.push(bytes) {
            return Err(ComposeError::TooLong { len: bytes.len(), capacity });
        }
        let longest = if matches!(code, Code::Indirect(..)) { 1 } else { usize::MAX };
        self.fill(width, nops, capacity, longest);
        Ok(if absolute { 0 } else { end })
    }

    /// Fills up to `capacity` with the fewest NOPs that are no longer than `longest`,
    /// longest first.
    #[inline(never)]
    fn fill(&mut self, width: Width, nops: Nops, capacity: u8, longest: usize) {
        while self.len < capacity {
            let missing = usize::from(capacity - self.len);
            if !self.push(next_nop(width, nops, missing.min(longest))) {
                return;
            }
        }
    }
}

/// What a site can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code<'a> {
    /// What the assembler put there: the indirect call or jump through this slot, and
    /// single-byte NOPs.
    Indirect(Kind, u64),
    /// What it was patched to.
    Replaced(Replacement<'a>),
}

impl<'a> Code<'a> {
    pub(crate) const fn replacement(self) -> Option<Replacement<'a>> {
        match self {
            Self::Indirect(..) => None,
            Self::Replaced(replacement) => Some(replacement),
        }
    }
}

/// The first of the NOPs that fill this many bytes, 1 at least.
fn next_nop(width: Width, nops: Nops, missing: usize) -> &'static [u8] {
    let family: &[&[u8]] = match (width, nops) {
        (Width::Bits32, Nops::Lea) => &LEA,
        // Every 64-bit CPU has these, and there the others are no NOPs.
        (Width::Bits64, _) | (_, Nops::Long) => &LONG,
    };
    let longest = match (missing, family.len()) {
        // 6 and 6: with 7 first, the missing 5-byte form makes it three.
        (12, 7) => 6,
        (missing, longest) => missing.min(longest),
    };
    family.get(longest.saturating_sub(1)).copied().unwrap_or(LONG[0])
}

/// The length of the first instruction of a site that is nothing but NOPs. Sites have
/// 6 bytes at the least, so it is none of the two that make up the missing 5-byte form.
pub(crate) fn first_nop(width: Width, nops: Nops, capacity: u8) -> usize {
    next_nop(width, nops, usize::from(capacity)).len()
}

/// From the end of an instruction of `len` bytes at `address` to `target`: wrapping
/// first, then the range check.
fn relative(width: Width, address: u64, len: u64, target: u64) -> Option<u32> {
    let distance = target.wrapping_sub(address.wrapping_add(len));
    match width {
        // Everything is in reach modulo 2³², if it is an address at all.
        Width::Bits32 if target > u64::from(u32::MAX) => None,
        Width::Bits32 => Some(distance as u32),
        Width::Bits64 => i32::try_from(distance as i64).ok().map(|distance| distance as u32),
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
