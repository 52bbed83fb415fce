//! The types of the places and holes of a blob in a file.

/// A named place of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlaceImage<'d> {
    /// Name of the place or hole. Empty where code of another mode or data begins.
    pub name: &'d str,
    /// Offset in the blob, in bytes.
    pub offset: u16,
    /// Whether it is a hole, and which.
    pub hole: Option<HoleImage>,
    /// What stands there.
    pub mode: PlaceMode,
}

/// The type of a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoleImage {
    /// Width, in bytes.
    pub width: u8,
    /// Whether the CPU extends the sign of what it holds.
    pub signed: bool,
}

/// The mode of the assembler at a place, or data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceMode {
    /// Data.
    Data,
    /// Code of 16 bit.
    Bits16,
    /// Code of 32 bit.
    Bits32,
    /// Code of 64 bit.
    Bits64,
}

impl PlaceMode {
    pub(super) const fn of(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Data),
            1 => Some(Self::Bits16),
            2 => Some(Self::Bits32),
            3 => Some(Self::Bits64),
            _ => None,
        }
    }

    /// Returns the width of the code in bits, or `None` for data.
    #[must_use]
    pub const fn bits(self) -> Option<u32> {
        match self {
            Self::Data => None,
            Self::Bits16 => Some(16),
            Self::Bits32 => Some(32),
            Self::Bits64 => Some(64),
        }
    }

    /// Returns the words by which the tool prints this.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Bits16 => "16-bit code",
            Self::Bits32 => "32-bit code",
            Self::Bits64 => "64-bit code",
        }
    }
}

impl PlaceImage<'_> {
    /// Returns the type of the hole as Rust names it, such as `u32`; `None` for a place.
    #[must_use]
    pub fn hole_type(&self) -> Option<String> {
        let hole = self.hole?;
        Some(format!("{}{}", if hole.signed { 'i' } else { 'u' }, 8 * u32::from(hole.width)))
    }
}
