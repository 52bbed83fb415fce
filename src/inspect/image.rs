//! An ELF file as far as patching is concerned: plain data, borrowed from the
//! file, and the way from an address to its bytes. Made by `read.rs`.

use super::symbols::Symbols;
use crate::insn::Width;

/// What the linker has done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// Nothing: an object. Addresses are offsets in their section.
    Object,
    /// Linked for fixed addresses.
    Executable,
    /// Linked; a loader, or the program itself, relocates it (static PIE).
    PositionIndependent,
}

impl FileKind {
    /// As the tool prints it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Executable => "executable",
            Self::PositionIndependent => "position-independent executable",
        }
    }
}

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
    /// Flag: loaded. (gABI, "Section Attribute Flags".)
    pub const ALLOC: u64 = 2;
    /// Flag: writable.
    pub const WRITE: u64 = 1;
    /// Flag: holds instructions.
    pub const EXECUTE: u64 = 4;

    /// Whether it holds instructions.
    #[must_use]
    pub const fn is_executable(&self) -> bool {
        self.flags & Self::EXECUTE != 0
    }

    /// The address behind it. Checked not to wrap when the file was read.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address.saturating_add(self.size)
    }

    /// Its bytes from an address on: `len` of them, or none at all.
    #[must_use]
    pub fn bytes(&self, address: u64, len: u64) -> Option<&[u8]> {
        slice(self.data, address.checked_sub(self.address)?, len)
    }
}

/// `len` bytes from `at` on, if there are as many.
pub(super) fn slice(data: &[u8], at: u64, len: u64) -> Option<&[u8]> {
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

/// An ELF file for 32- or 64-bit x86.
#[derive(Debug)]
pub struct Image<'d> {
    pub(super) width: Width,
    pub(super) kind: FileKind,
    pub(super) entry: u64,
    /// The loaded ones, in the file's order.
    pub(super) sections: Vec<Section<'d>>,
    /// Positions in `sections`, by address. Empty in an object.
    pub(super) by_address: Vec<usize>,
    /// By address.
    pub(super) segments: Vec<Segment>,
    pub(super) symbols: Symbols<'d>,
    /// By address; at most one of each kind at an address.
    pub(super) relocations: Vec<Relocation>,
}

impl<'d> Image<'d> {
    /// 32 or 64 bit.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// What the linker has done to it.
    #[must_use]
    pub const fn kind(&self) -> FileKind {
        self.kind
    }

    /// The sections that are loaded.
    #[must_use]
    pub fn sections(&self) -> &[Section<'d>] {
        &self.sections
    }

    /// The symbols; none if they are stripped.
    #[must_use]
    pub const fn symbols(&self) -> &Symbols<'d> {
        &self.symbols
    }

    /// `ELF64 executable`
    #[must_use]
    pub fn words(&self) -> String {
        let bits = match self.width {
            Width::Bits32 => 32,
            Width::Bits64 => 64,
        };
        let stripped = if self.symbols.is_empty() { ", stripped" } else { "" };
        format!("ELF{bits} {}{stripped}", self.kind.words())
    }

    /// The section of this number.
    pub(super) fn section(&self, index: usize) -> Option<&Section<'d>> {
        let at = self.sections.partition_point(|section| section.index < index);
        self.sections.get(at).filter(|section| section.index == index)
    }

    /// The first section of this name.
    pub(super) fn section_named(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The section of a linked file that an address lies in.
    pub(super) fn section_at(&self, address: u64) -> Option<&Section<'d>> {
        let end = self.by_address.partition_point(|&at| {
            self.sections.get(at).is_some_and(|section| section.address <= address)
        });
        let section = self.sections.get(*self.by_address.get(end.checked_sub(1)?)?)?;
        (address < section.end()).then_some(section)
    }

    /// `len` bytes of a linked file from an address on, if they are in one
    /// section and in the file.
    pub(super) fn bytes_at(&self, address: u64, len: u64) -> Option<&[u8]> {
        self.section_at(address)?.bytes(address, len)
    }

    /// The same, with the life of the file.
    pub(super) fn data_at(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let section = self.section_at(address)?;
        slice(section.data, address.checked_sub(section.address)?, len)
    }

    /// Where in the file the byte at an address is.
    pub(super) fn file_offset(&self, address: u64) -> Option<u64> {
        let section = self.section_at(address)?;
        section.offset.checked_add(address - section.address)
    }

    /// What a self-relative 32-bit field at `place` means: addresses wrap at the
    /// width.
    pub(super) fn relative(&self, place: u64, offset: u32) -> u64 {
        let address = place.wrapping_add_signed(i64::from(offset.cast_signed()));
        match self.width {
            Width::Bits32 => address & 0xffff_ffff,
            Width::Bits64 => address,
        }
    }

    /// The relocations that begin inside of a range.
    pub(super) fn relocations_in(&self, start: u64, end: u64) -> &[Relocation] {
        let from = self.relocations.partition_point(|relocation| relocation.address < start);
        let to = self.relocations.partition_point(|relocation| relocation.address < end);
        self.relocations.get(from..to).unwrap_or_default()
    }

    /// The pointer at an address, as it will be once loaded at the address it was
    /// linked for.
    pub(super) fn pointer_at(&self, address: u64) -> Option<u64> {
        let from = self.relocations.partition_point(|relocation| relocation.address < address);
        let relocated = self.relocations.get(from..).into_iter().flatten();
        for relocation in relocated.take_while(|relocation| relocation.address == address) {
            if relocation.dynamic && relocation.value.is_some() {
                return relocation.value;
            }
        }
        let bytes = self.bytes_at(address, self.width.pointer_size())?;
        Some(little_endian(bytes))
    }
}

/// Up to eight bytes as a number, the lowest first.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
}
