//! The memory of a machine as a dump has it: ranges of bytes, each with the physical address, the
//! virtual address, or both.

/// A range of memory in a dump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'d> {
    /// Virtual address of the first byte, if the dump says it.
    pub virtual_address: Option<u64>,
    /// Physical address of the first byte, if the dump says it.
    pub physical_address: Option<u64>,
    /// The bytes.
    pub bytes: &'d [u8],
}

/// The registers of a CPU that say where its page tables are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlRegisters {
    pub cr3: u64,
    pub cr4: u64,
}

/// All memory that a dump has.
#[derive(Debug, Default)]
pub(crate) struct Memory<'d> {
    regions: Vec<Region<'d>>,
    /// Positions in `regions`, sorted by physical address, of those that have one.
    by_physical: Vec<(u64, usize)>,
    /// Positions in `regions`, sorted by virtual address, of those that have one.
    by_virtual: Vec<(u64, usize)>,
    /// The registers of the first CPU, if the dump has them.
    pub registers: Option<ControlRegisters>,
}

impl<'d> Memory<'d> {
    /// Makes the memory of these regions.
    pub(crate) fn new(regions: Vec<Region<'d>>, registers: Option<ControlRegisters>) -> Self {
        let sorted = |address: fn(&Region<'d>) -> Option<u64>| {
            let mut list: Vec<(u64, usize)> = regions
                .iter()
                .enumerate()
                .filter_map(|(at, region)| Some((address(region)?, at)))
                .collect();
            list.sort_unstable();
            list
        };
        let by_physical = sorted(|region| region.physical_address);
        let by_virtual = sorted(|region| region.virtual_address);
        Self { regions, by_physical, by_virtual, registers }
    }

    /// Returns the regions, in the order of the dump.
    pub(crate) fn regions(&self) -> &[Region<'d>] {
        &self.regions
    }

    /// Returns whether the dump has physical addresses.
    pub(crate) fn is_physical(&self) -> bool {
        !self.by_physical.is_empty()
    }

    /// Returns the bytes from a physical address to the end of their region.
    pub(crate) fn physical_onwards(&self, address: u64) -> Option<&'d [u8]> {
        self.onwards(&self.by_physical, address)
    }

    /// Returns the bytes from a virtual address to the end of their region.
    pub(crate) fn virtual_onwards(&self, address: u64) -> Option<&'d [u8]> {
        self.onwards(&self.by_virtual, address)
    }

    /// Returns `len` bytes from a physical address on, if one region has them.
    pub(crate) fn physical(&self, address: u64, len: usize) -> Option<&'d [u8]> {
        self.physical_onwards(address)?.get(..len)
    }

    fn onwards(&self, sorted: &[(u64, usize)], address: u64) -> Option<&'d [u8]> {
        /// How many regions before an address are looked at. Regions of a sound dump do not
        /// overlap, so the nearest one decides; the others are for an empty one beside it.
        const NEAR: usize = 4;
        let behind = sorted.partition_point(|&(start, _)| start <= address);
        let near = sorted.get(behind.saturating_sub(NEAR)..behind)?;
        near.iter().rev().find_map(|&(start, at)| {
            let bytes = self.regions.get(at)?.bytes;
            bytes.get(usize::try_from(address - start).ok()?..).filter(|rest| !rest.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Region};

    #[test]
    fn bytes_are_found_by_the_address_that_their_region_has() {
        let region = |virtual_address, physical_address, bytes| Region {
            virtual_address,
            physical_address,
            bytes,
        };
        let memory = Memory::new(
            vec![
                region(Some(0xc000_1000), Some(0x1000), b"abcd"),
                region(None, Some(0x1004), b"efgh"),
                region(Some(0xc000_1000), None, b""),
            ],
            None,
        );
        assert_eq!(memory.physical(0x1002, 2), Some(&b"cd"[..]));
        assert_eq!(memory.physical(0x1002, 3), None, "a read does not go on in another region");
        assert_eq!(memory.physical(0x1004, 4), Some(&b"efgh"[..]));
        assert_eq!(memory.physical(0xfff, 1), None);
        assert_eq!(memory.physical(0x1008, 1), None);
        assert_eq!(memory.virtual_onwards(0xc000_1003), Some(&b"d"[..]));
        assert_eq!(memory.virtual_onwards(0xc000_1004), None);
    }
}
