//! The parts of an ELF file that matter for patching, borrowed from the file, and the way from an
//! address to its bytes. `read.rs` makes an [`Image`].

use object::LittleEndian;

use super::address_map::AddressMap;
use super::section::{Relocation, Section, Segment, little_endian, slice};
use super::symbols::Symbols;
use crate::disassemble::bits;
use crate::insn::Width;
use crate::inspect::error::FileError;

/// The byte order of every x86 file.
pub(super) const ENDIAN: LittleEndian = LittleEndian;

/// The state of linking that a file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Linkage {
    /// An object that is not linked. Addresses are offsets in their section.
    Object,
    /// A file linked for fixed addresses.
    Executable,
    /// A linked file that a loader or the program itself relocates (shared object, static PIE).
    PositionIndependent,
    /// An object that a kernel loads as it is, laid out as its loader would:
    /// [`PlacedModule`](crate::inspect::PlacedModule).
    Module,
}

impl Linkage {
    /// Returns the words by which the tool prints this state.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Executable => "executable",
            Self::PositionIndependent => "position-independent executable",
            Self::Module => "module",
        }
    }
}

/// An ELF file for 32- or 64-bit x86.
#[derive(Debug)]
pub struct Image<'d> {
    pub(super) width: Width,
    pub(super) kind: Linkage,
    pub(super) entry: u64,
    /// The sections that are loaded, in the order of the file.
    pub(super) sections: Vec<Section<'d>>,
    /// The map from addresses to sections. Empty for an object.
    pub(super) addresses: AddressMap,
    /// The segments that are loaded, sorted by address.
    pub(super) segments: Vec<Segment>,
    pub(super) symbols: Symbols<'d>,
    /// The relocations, sorted by address, at most one of each kind at an address.
    pub(super) relocations: Vec<Relocation>,
    /// The addresses of what is in another file: the kernel's slots and keys that a module uses.
    pub(super) outside: std::ops::Range<u64>,
}

impl<'d> Image<'d> {
    /// Returns the width, 32 or 64 bit.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.width
    }

    /// Returns the state of linking that the file is in.
    #[must_use]
    pub const fn kind(&self) -> Linkage {
        self.kind
    }

    /// Returns the sections that are loaded, in the order of the file.
    #[must_use]
    pub fn sections(&self) -> &[Section<'d>] {
        &self.sections
    }

    /// Returns whether an address stands for something that is in another file.
    pub(crate) fn is_outside(&self, address: u64) -> bool {
        self.outside.contains(&address)
    }

    /// Returns the entry address of the program, as the linker wrote it.
    pub(crate) const fn entry(&self) -> u64 {
        self.entry
    }

    /// Returns the segments that a loader maps, sorted by address. An object has none.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns the symbols. A stripped file has none.
    #[must_use]
    pub const fn symbols(&self) -> &Symbols<'d> {
        &self.symbols
    }

    /// Returns a description of the file, such as `ELF64 executable, stripped`.
    #[must_use]
    pub fn words(&self) -> String {
        let bits = bits(self.width);
        let stripped = if self.symbols.is_empty() { ", stripped" } else { "" };
        format!("ELF{bits} {}{stripped}", self.kind.words())
    }

    /// Returns a sentence about the addresses in the file if a running program may have others,
    /// else `None`.
    #[must_use]
    pub fn address_words(&self) -> Option<&'static str> {
        match self.kind {
            Linkage::Object | Linkage::Executable => None,
            Linkage::Module => Some("addresses are made up: the kernel's loader chooses them"),
            Linkage::PositionIndependent if self.base() == 0 => {
                Some("addresses are offsets from where it is loaded")
            }
            Linkage::PositionIndependent => {
                Some("addresses as linked; all move by one distance when it is loaded")
            }
        }
    }

    /// Returns the lowest address that is loaded.
    fn base(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.address)
    }

    /// Returns the distance by which all addresses move if the file is loaded at `loaded_at`, or
    /// `None` if the file is linked for fixed addresses.
    pub(crate) fn distance_to(&self, loaded_at: u64) -> Option<u64> {
        (self.kind == Linkage::PositionIndependent).then(|| loaded_at.wrapping_sub(self.base()))
    }

    /// Returns the section that has this number in the file, if it is loaded.
    pub(crate) fn section(&self, index: usize) -> Option<&Section<'d>> {
        let at = self.sections.partition_point(|section| section.index < index);
        self.sections.get(at).filter(|section| section.index == index)
    }

    /// Returns the first section of this name.
    pub(crate) fn section_named(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Returns the section of a linked file that has an address, or `None` if no section or
    /// several have it.
    pub(crate) fn section_at(&self, address: u64) -> Option<&Section<'d>> {
        self.sections.get(self.addresses.section(address)?.0)
    }

    /// Checks that no two sections share an address in `start..end`. `words` describes what lies
    /// there, for the message.
    pub(crate) fn claimed_once(
        &self,
        start: u64,
        end: u64,
        words: impl Fn() -> String,
    ) -> Result<(), FileError> {
        let shared = self.addresses.shared(start, end);
        let section = |at: usize| self.sections.get(at);
        let Some((Some(a), Some(b))) = shared.map(|(a, b)| (section(a), section(b))) else {
            return Ok(());
        };
        Err(FileError::new(format!(
            "sections {} ({:#x}..{:#x}) and {} ({:#x}..{:#x}) overlap in memory, and {} lies \
             there: which of them is loaded cannot be told",
            a.name,
            a.address,
            a.end(),
            b.name,
            b.address,
            b.end(),
            words()
        )))
    }

    /// Returns `len` bytes of a linked file from an address on, or `None` unless all of them are
    /// in the file and in one section that shares none of these addresses.
    pub(crate) fn bytes_at(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let (at, end) = self.addresses.section(address)?;
        let section = self.sections.get(at).filter(|_| end - address >= len)?;
        slice(section.data, address.checked_sub(section.address)?, len)
    }

    /// Returns the offset in the file of the byte at an address.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        let section = self.section_at(address)?;
        section.offset.checked_add(address - section.address)
    }

    /// Returns the address that a 32-bit field at `place` stands for, which is relative to its
    /// own address. Addresses wrap at the width.
    pub(crate) fn relative(&self, place: u64, offset: u32) -> u64 {
        let address = place.wrapping_add_signed(i64::from(offset.cast_signed()));
        match self.width {
            Width::Bits32 => address & 0xffff_ffff,
            Width::Bits64 => address,
        }
    }

    /// Returns the relocations whose address is in `start..end`.
    pub(crate) fn relocations_in(&self, start: u64, end: u64) -> &[Relocation] {
        let from = self.relocations.partition_point(|relocation| relocation.address < start);
        let to = self.relocations.partition_point(|relocation| relocation.address < end);
        self.relocations.get(from..to).unwrap_or_default()
    }

    /// Returns the pointer at an address, as it is in memory if the file is loaded at the address
    /// it was linked for: a loader may write it, by a relocation.
    pub(crate) fn pointer_at(&self, address: u64) -> Option<u64> {
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
