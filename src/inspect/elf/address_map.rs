//! A map from the addresses of a linked file to its sections.
//!
//! Sections can share addresses: overlays do, and so do the per-CPU areas of some kernels, which
//! are linked for address 0. The file does not say which of them is loaded at such an address.
//! The map therefore cuts the addresses into ranges that belong to one section or to several,
//! and names a section only for a range that belongs to one:
//!
//! ```text
//! .text      0x1000 ├──────────────────┤ 0x3000
//! .overlay           0x2000 ├────┤ 0x2800
//! ranges     [.text 0x1000) [shared 0x2000) [.text 0x2800)
//! ```

use std::collections::BTreeSet;

use super::section::Section;

/// A range of addresses, and the sections that lie there.
#[derive(Clone, Copy, Debug)]
struct AddressRange {
    start: u64,
    end: u64,
    /// Position of the section in the list of sections; of the first one if there are several.
    section: usize,
    /// Position of a second section at the same addresses, if there is one.
    shared_with: Option<usize>,
}

/// The ranges of a file, sorted by address. No two overlap.
#[derive(Debug, Default)]
pub(crate) struct AddressMap {
    ranges: Vec<AddressRange>,
}

impl AddressMap {
    /// Makes the map of these sections. Sections of size 0 are left out: they cover no address.
    ///
    /// It goes through the start and end addresses of all sections in order and keeps the set of
    /// sections that are open. Between two such addresses that set does not change, so it
    /// is one range.
    pub(super) fn new(sections: &[Section<'_>]) -> Self {
        // Each is (address, whether the section starts there, position of the section).
        let mut edges = Vec::new();
        for (at, section) in sections.iter().enumerate().filter(|(_, section)| section.size > 0) {
            edges.push((section.address, true, at));
            edges.push((section.end(), false, at));
        }
        edges.sort_unstable();
        let mut ranges: Vec<AddressRange> = Vec::new();
        let mut open = BTreeSet::new();
        let mut from = 0;
        for (address, starts, at) in edges {
            let mut here = open.iter().copied();
            if let (Some(section), true) = (here.next(), from < address) {
                ranges.push(AddressRange {
                    start: from,
                    end: address,
                    section,
                    shared_with: here.next(),
                });
            }
            if starts {
                open.insert(at);
            } else {
                open.remove(&at);
            }
            from = address;
        }
        Self { ranges }
    }

    fn range(&self, address: u64) -> Option<&AddressRange> {
        let behind = self.ranges.partition_point(|range| range.start <= address);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (address < range.end).then_some(range)
    }

    /// Returns the position of the only section at an address, and the first address behind it
    /// that does not belong to this section alone. Returns `None` if no section or several have
    /// the address.
    pub(super) fn section(&self, address: u64) -> Option<(usize, u64)> {
        let range = self.range(address).filter(|range| range.shared_with.is_none())?;
        Some((range.section, range.end))
    }

    /// Returns the positions of two sections that share an address in `start..end`, if there are
    /// such.
    pub(super) fn shared(&self, start: u64, end: u64) -> Option<(usize, usize)> {
        let from = self.ranges.partition_point(|range| range.end <= start);
        let mut here = self.ranges.get(from..).into_iter().flatten();
        let here = here.by_ref().take_while(|range| range.start < end);
        here.filter_map(|range| Some((range.section, range.shared_with?))).next()
    }
}

#[cfg(test)]
mod tests {
    use super::AddressMap;
    use crate::inspect::elf::Section;

    fn section(address: u64, size: u64) -> Section<'static> {
        Section { name: "", index: 0, address, size, offset: 0, flags: 0, data: &[] }
    }

    /// Looks up addresses in the figure above, with a third section behind it and one of size 0.
    #[test]
    fn an_address_has_the_section_that_alone_claims_it() {
        let sections = [
            section(0x1000, 0x2000),
            section(0x2000, 0x800),
            section(0x3000, 0x10),
            section(0x2100, 0),
        ];
        let map = AddressMap::new(&sections);
        for (address, expected) in [
            (0xfff, None),
            (0x1000, Some((0, 0x2000))),
            (0x1fff, Some((0, 0x2000))),
            (0x2000, None),
            (0x27ff, None),
            (0x2800, Some((0, 0x3000))),
            (0x3000, Some((2, 0x3010))),
            (0x3010, None),
        ] {
            assert_eq!(map.section(address), expected, "{address:#x}");
        }
        for (start, end, expected) in [
            (0x1000, 0x2000, None),
            (0x1fff, 0x2001, Some((0, 1))),
            (0x27ff, 0x2800, Some((0, 1))),
            (0x2800, 0x4000, None),
            (0, u64::MAX, Some((0, 1))),
        ] {
            assert_eq!(map.shared(start, end), expected, "{start:#x}..{end:#x}");
        }
    }
}
