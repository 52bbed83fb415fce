//! The width of code, and its NOPs.

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

/// Intel SDM vol. 2B, "NOP".
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

/// The first of the NOPs that fill this many bytes, 1 at least.
pub(super) fn next_nop(width: Width, nops: Nops, missing: usize) -> &'static [u8] {
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
