//! The width of code, and its NOPs.

/// The width of code. It decides how addresses wrap and how an indirect call names its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32-bit: addresses wrap at 2³²; `ff 15 abs32`.
    Bits32,
    /// 64-bit: a rel32 reaches ±2 GiB; `ff 15 rel32`.
    Bits64,
}

impl Width {
    /// The width of the code that this crate is compiled into.
    pub const NATIVE: Self =
        if cfg!(target_pointer_width = "64") { Self::Bits64 } else { Self::Bits32 };

    /// Returns the size of a slot, in bytes.
    #[must_use]
    pub const fn pointer_size(self) -> u64 {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// The family of NOPs that the CPU executes as one instruction each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Nops {
    /// NOPL, in every 64-bit CPU and 32-bit ones since the Pentium Pro: 1 to 9
    /// bytes (Intel SDM vol. 2B, "NOP").
    #[default]
    Long,
    /// `lea` and `mov` of a register to itself, 1 to 7 bytes, for 32-bit CPUs without NOPL. In
    /// 64-bit code these would clear half of a register, so 64-bit code gets [`Nops::Long`]
    /// whatever is asked for.
    Lea,
}

impl Nops {
    /// Returns the NOPs that every CPU of the target has for which this crate is compiled. All
    /// 64-bit CPUs have NOPL, and all 32-bit ones with SSE2; of others it is not known.
    #[must_use]
    pub const fn of_target() -> Self {
        if cfg!(any(target_pointer_width = "64", target_feature = "sse2")) {
            Self::Long
        } else {
            Self::Lea
        }
    }
}

impl Nops {
    /// Returns the NOP of five bytes that is one instruction, in whose place a jump can be written.
    /// Of the `lea` family that is `lea` with a prefix, which the CPU ignores but for the segment
    /// of an access that `lea` does not make (Intel SDM vol. 2A, "Instruction Prefixes").
    #[must_use]
    pub const fn of_jump(self, width: Width) -> [u8; 5] {
        match (width, self) {
            (Width::Bits32, Self::Lea) => [0x3e, 0x8d, 0x74, 0x26, 0x00],
            (Width::Bits64, _) | (_, Self::Long) => [0x0f, 0x1f, 0x44, 0x00, 0x00],
        }
    }
}

/// Intel SDM vol. 2B, "NOP".
pub(crate) const LONG: [&[u8]; 9] = [
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

/// `mov` and `lea` of ESI to itself, as the GNU assembler pads 32-bit code. The family has no
/// 5-byte NOP: five bytes are a 1-byte and a 4-byte one.
pub(crate) const LEA: [&[u8]; 7] = [
    &[0x90],
    &[0x89, 0xf6],
    &[0x8d, 0x76, 0x00],
    &[0x8d, 0x74, 0x26, 0x00],
    &[0x90, 0x8d, 0x74, 0x26, 0x00],
    &[0x8d, 0xb6, 0x00, 0x00, 0x00, 0x00],
    &[0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00],
];

/// Returns the first of the fewest NOPs that fill `missing` bytes, of which there is at least one.
pub(super) fn next_nop(width: Width, nops: Nops, missing: usize) -> &'static [u8] {
    let family: &[&[u8]] = match (width, nops) {
        (Width::Bits32, Nops::Lea) => &LEA,
        // Every 64-bit CPU has NOPL, and in 64-bit code the `lea` family are no NOPs.
        (Width::Bits64, _) | (_, Nops::Long) => &LONG,
    };
    let longest = match (missing, family.len()) {
        // Twelve bytes of the `lea` family, which ends with 7: 6 and 6 are two NOPs, while 7 would
        // leave 5, which this family fills with two more.
        (12, 7) => 6,
        (missing, longest) => missing.min(longest),
    };
    family.get(longest.saturating_sub(1)).copied().unwrap_or(LONG[0])
}

/// Returns the length of the first instruction of a site that is nothing but NOPs.
pub(crate) fn first_nop(width: Width, nops: Nops, capacity: u8) -> usize {
    match next_nop(width, nops, usize::from(capacity)) {
        // 90 is a NOP of its own, also where another one follows: the five bytes of the `lea`
        // family are two instructions.
        [0x90, ..] => 1,
        nop => nop.len(),
    }
}
