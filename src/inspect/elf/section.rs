//! Sections, segments and relocations of an ELF file, and helpers for ranges of bytes.

use object::elf;

/// A section that is loaded, or will be once the object is linked (flag SHF_ALLOC).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Section<'d> {
    /// Name of the section.
    pub name: &'d str,
    /// Number of the section in the file.
    pub index: usize,
    /// Address of the first byte (`sh_addr`); 0 in an object.
    pub address: u64,
    /// Size in memory, in bytes.
    pub size: u64,
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// Flags (`sh_flags`).
    pub flags: u64,
    /// The bytes in the file; empty for zeroed memory such as `.bss`.
    pub data: &'d [u8],
}

impl Section<'_> {
    /// Returns whether the section holds instructions (flag SHF_EXECINSTR).
    #[must_use]
    pub const fn is_executable(&self) -> bool {
        self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// Returns whether the program may write to the section (flag SHF_WRITE).
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.flags & elf::SHF_WRITE.0 != 0
    }

    /// Returns the first address behind the section. `parse` has checked that it does not wrap.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }

    /// Returns `len` bytes of the section from an address on, or `None` unless all of them are in
    /// the section and in the file.
    #[must_use]
    pub fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        slice(self.data, address.checked_sub(self.address)?, len)
    }
}

/// Returns `len` bytes from offset `at` on, or `None` if there are fewer.
pub(crate) fn slice(data: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

/// A part of the file that a loader maps (PT_LOAD).
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Address of the first byte.
    pub address: u64,
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// Size in the file, in bytes.
    pub size: u64,
    /// Size in memory, in bytes: those of the file, and zeros behind them.
    pub memory_size: u64,
    /// Whether the program may write to the segment.
    pub writable: bool,
    /// Whether the CPU may execute the segment.
    pub executable: bool,
}

impl Segment {
    /// Returns whether this segment loads all of a section, from the bytes in the file that the
    /// section header names.
    pub fn loads(&self, section: &Section<'_>) -> bool {
        self.covers(section)
            && self.offset.wrapping_add(section.address.wrapping_sub(self.address))
                == section.offset
    }

    /// Returns whether all addresses of a section are among those that this segment loads from
    /// the file.
    pub const fn covers(&self, section: &Section<'_>) -> bool {
        self.address <= section.address && section.end() <= self.address.saturating_add(self.size)
    }
}

/// A place to which a linker or loader writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Address of the place; in an object, offset in a section that is not recorded here.
    pub address: u64,
    /// Whether a loader applies the relocation, at run time.
    pub dynamic: bool,
    /// Whether the value depends on where the file is loaded.
    pub absolute: bool,
    /// The value that is written, if it can be computed from the file and the relocation is
    /// dynamic and absolute.
    pub value: Option<u64>,
}

/// Returns the first eight bytes at most as a little-endian number.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
