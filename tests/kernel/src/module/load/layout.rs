//! The places of the sections in memory.

use core::ops::Range;

use object::{LittleEndian, elf, read::elf::FileHeader};

use super::{error::LoadError, object_file::ObjectFile};

pub const PAGE_SIZE: u64 = 4096;

/// The largest number of sections that an object can have.
const SECTIONS: usize = 64;

/// A part of the memory of an object whose pages have the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    Text,
    ReadOnly,
    Data,
}

impl Region {
    /// In the order in which they lie in memory.
    const ALL: [Self; 3] = [Self::Text, Self::ReadOnly, Self::Data];

    fn of(flags: elf::SectionFlags) -> Option<Self> {
        let is = |flag| flags.contains(flag);
        match (is(elf::SHF_EXECINSTR), is(elf::SHF_WRITE)) {
            (true, true) => None,
            (true, false) => Some(Self::Text),
            (false, false) => Some(Self::ReadOnly),
            (false, true) => Some(Self::Data),
        }
    }
}

/// The address of each section.
pub struct Layout {
    /// 0 for a section that is not loaded.
    addresses: [u64; SECTIONS],
    /// The first address of the first region, and the address behind each.
    bounds: [u64; 1 + Region::ALL.len()],
}

impl Layout {
    pub fn new<'d, E: FileHeader<Endian = LittleEndian>>(
        object: &ObjectFile<'d, E>,
        base: u64,
    ) -> Result<Self, LoadError<'d>> {
        assert!(base != 0 && base.is_multiple_of(PAGE_SIZE), "base {base:#x}");
        if object.section_count() > SECTIONS {
            return Err(LoadError::Malformed("too many sections"));
        }
        let mut layout = Self { addresses: [0; SECTIONS], bounds: [base; 4] };
        let mut next = base;
        for (number, region) in Region::ALL.into_iter().enumerate() {
            for (index, section) in object.sections() {
                let of = Region::of(section.flags);
                let alignment = section.alignment;
                if of.is_none() || alignment > PAGE_SIZE || !alignment.is_power_of_two() {
                    return Err(LoadError::Section(section.name));
                }
                if of == Some(region) {
                    layout.addresses[index] = next.next_multiple_of(alignment);
                    // Sizes are those of data in the file, but for data that is all zeros.
                    next = layout.addresses[index]
                        .checked_add(section.size)
                        .filter(|end| *end <= u64::MAX - PAGE_SIZE)
                        .ok_or(LoadError::Malformed("size of a section"))?;
                }
            }
            next = next.next_multiple_of(PAGE_SIZE);
            layout.bounds[number + 1] = next;
        }
        Ok(layout)
    }

    /// Returns the address of the section of this index, if it is loaded.
    pub fn address(&self, index: usize) -> Option<u64> {
        self.addresses.get(index).copied().filter(|&address| address != 0)
    }

    pub fn region(&self, region: Region) -> Range<u64> {
        self.bounds[region as usize]..self.bounds[region as usize + 1]
    }

    pub fn memory(&self) -> Range<u64> {
        self.bounds[0]..self.bounds[Region::ALL.len()]
    }
}
