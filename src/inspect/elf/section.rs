//! The parts of an ELF file, and numbers and ranges in bytes.

use object::elf;

/// One section that is loaded, or will be once the object is linked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Section<'d> {
    /// Its name.
    pub name: &'d str,
    /// Its number in the file.
    pub index: usize,
    /// `sh_addr`; 0 in an object.
    pub address: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// `sh_flags`.
    pub flags: u64,
    /// Its bytes; none if it is zeroed memory.
    pub data: &'d [u8],
}

impl Section<'_> {
    /// Returns whether it holds instructions.
    #[must_use]
    pub const fn is_executable(&self) -> bool {
        self.flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// Returns whether the program may write to it.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.flags & elf::SHF_WRITE.0 != 0
    }

    /// Returns the address behind it. Checked not to wrap when the file was read.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }

    /// Returns its bytes from an address on: `len` of them, or none at all.
    #[must_use]
    pub fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        slice(self.data, address.checked_sub(self.address)?, len)
    }
}

/// Returns `len` bytes from `at` on, if there are as many.
pub(crate) fn slice(data: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    data.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

/// One part of the file that a loader maps.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Address of its first byte.
    pub address: u64,
    /// Where that is in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// Bytes in memory, the zeroed ones behind those of the file included.
    pub memory_size: u64,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Whether the CPU may execute it.
    pub executable: bool,
}

impl Segment {
    /// Returns whether it loads all of a section, from the very bytes that the section has.
    pub fn loads(&self, section: &Section<'_>) -> bool {
        self.covers(section)
            && self.offset.wrapping_add(section.address.wrapping_sub(self.address))
                == section.offset
    }

    /// Returns whether the bytes of a section lie between its first and last address.
    pub const fn covers(&self, section: &Section<'_>) -> bool {
        self.address <= section.address && section.end() <= self.address.saturating_add(self.size)
    }
}

/// A place that a linker or loader still writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Address; in an object, offset in its section, whichever that is.
    pub address: u64,
    /// Whether a loader applies it, at run time.
    pub dynamic: bool,
    /// Whether what is written depends on where the file is loaded.
    pub absolute: bool,
    /// What is written, if the file says so and not the place itself.
    pub value: Option<u64>,
}

/// Returns up to eight bytes as a number, the lowest first.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
