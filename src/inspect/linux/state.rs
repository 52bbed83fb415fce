//! The state of a running kernel that decides what its text should be, read from the dump.

use std::collections::HashSet;

use super::btf::Types;
use super::features::KernelFeatures;
use super::kernel::LinuxKernel;
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::explain::Located;

/// Reads the words where the types of this build say that they are in `boot_cpu_data`.
fn features_by_type(
    types: Option<Types<'_>>,
    located: &Located<'_, '_>,
    address: u64,
) -> Option<KernelFeatures> {
    /// More words than there are.
    const MOST: u32 = 64;
    let member = types?.member("cpuinfo_x86", "x86_capability")?;
    let count = member.elements.filter(|count| (18..=MOST).contains(count))?;
    let bytes = located.bytes(address.checked_add(member.offset)?, count as usize * 4)?;
    let words: Vec<u32> = bytes.chunks_exact(4).map(|word| little_endian(word) as u32).collect();
    // Every CPU that is left has a floating-point unit.
    words.first().is_some_and(|first| first & 1 == 1).then(|| KernelFeatures::new(words))
}

/// Finds the words in the bytes of `boot_cpu_data`. Where they stand in it depends on the
/// version and on how it was configured, but not what is around them: the largest number for
/// CPUID's extended leaves and the one for its basic leaves in front of them, with or without
/// zeros up to an alignment of eight, and the name of the CPU's vendor behind them.
fn find_features(bytes: &[u8]) -> Option<KernelFeatures> {
    const VENDORS: &[&[u8]] = &[
        b"GenuineIntel",
        b"AuthenticAMD",
        b"HygonGenuine",
        b"CentaurHauls",
        b"  Shanghai  ",
        b"CyrixInstead",
        b"GenuineTMx86",
        b"Geode by NSC",
        b"Vortex86 SoC",
    ];
    let is_vendor = |&at: &usize| {
        bytes.get(at..).is_some_and(|rest| VENDORS.iter().any(|name| rest.starts_with(name)))
    };
    (0..bytes.len()).step_by(4).filter(is_vendor).find_map(|vendor| features_before(bytes, vendor))
}

/// Finds the words in front of the vendor's name, which stands at `vendor`.
fn features_before(bytes: &[u8], vendor: usize) -> Option<KernelFeatures> {
    let word = |at: usize| Some(little_endian(bytes.get(at..at + 4)?) as u32);
    // At least 18 words of features and one of faults, at most 64.
    let mut starts = (19..=64).filter_map(|words: usize| vendor.checked_sub(4 * words));
    let is_start = |&at: &usize| {
        let before = |distance: usize| at.checked_sub(distance).and_then(word);
        let (Some(a), Some(b), Some(c)) = (before(12), before(8), before(4)) else {
            return false;
        };
        let (extended, basic) = if c == 0 { (a, b) } else { (b, c) };
        let order = |extended: u32, basic: u32| {
            (extended >> 16 == 0x8000 || extended == 0) && (1..0x100).contains(&basic)
        };
        // The lowest bit of the first word is the FPU, which every CPU has that is left.
        order(extended, basic) && word(at).is_some_and(|first| first & 1 == 1)
    };
    let start = starts.find(is_start)?;
    let words = bytes.get(start..vendor)?.chunks_exact(4);
    Some(KernelFeatures::new(words.map(|word| little_endian(word) as u32).collect()))
}

/// The origin of the features of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FeaturesFrom {
    /// What the kernel has in memory.
    Dump,
    /// What the command line says of the CPU.
    CommandLine,
    Nowhere,
}

/// The state of a kernel in a dump.
#[derive(Debug)]
pub(crate) struct State<'a, 'd> {
    pub located: &'a Located<'a, 'd>,
    pub width: Width,
    pub features: KernelFeatures,
    pub features_from: FeaturesFrom,
    /// The addresses of the file at which there are probes.
    pub kprobes: HashSet<u64>,
}

impl<'a, 'd> State<'a, 'd> {
    /// Reads the state of a kernel. The features that the command line says count if the dump says
    /// none.
    pub(crate) fn new(kernel: &LinuxKernel<'_>, located: &'a Located<'a, 'd>) -> Self {
        /// More than the structure has before the vendor's name.
        const SIZE: usize = 512;
        let LinuxKernel { image, names, types, .. } = kernel;
        let read = match names.address("boot_cpu_data") {
            Some(address) => features_by_type(*types, located, address).or_else(|| {
                let bytes = located.onwards(address)?;
                find_features(bytes.get(..SIZE).unwrap_or(bytes))
            }),
            // Without its name: in data, where the name of a vendor stands behind such words.
            None => image
                .sections()
                .iter()
                .filter(|section| !section.is_executable() && section.address != 0)
                .filter_map(|section| {
                    let len = usize::try_from(section.size).ok()?;
                    located.bytes(section.address, len)
                })
                .find_map(find_features),
        };
        let width = image.width();
        let (features, features_from) = match (read, &kernel.cpu) {
            (Some(features), _) => (features, FeaturesFrom::Dump),
            (None, Some(features)) => (features.clone(), FeaturesFrom::CommandLine),
            (None, None) => (KernelFeatures::unknown(), FeaturesFrom::Nowhere),
        };
        let mut state = Self { located, width, features, features_from, kprobes: HashSet::new() };
        state.kprobes = state.read_kprobes(kernel);
        state
    }

    /// Returns whether the CPU has a feature: as it is known, else as the text says.
    pub(crate) fn has(&self, number: u16) -> Option<bool> {
        self.features.has_or_inferred(number)
    }

    /// Returns the number of four bytes at an address of the file.
    pub(crate) fn number(&self, address: u64) -> Option<u32> {
        Some(little_endian(self.located.bytes(address, 4)?) as u32)
    }

    /// Returns the pointer at an address of the file, as it is in memory.
    pub(crate) fn pointer(&self, address: u64) -> Option<u64> {
        let size = usize::try_from(self.width.pointer_size()).ok()?;
        Some(little_endian(self.located.bytes(address, size)?))
    }

    /// Reads the addresses of the file at which there are probes. The list is a table of 64 chains;
    /// in a probe stand the links of the chain and of a list, a count of misses, and the address,
    /// each as large as a pointer, unless the types of the build say otherwise.
    fn read_kprobes(&self, kernel: &LinuxKernel<'_>) -> HashSet<u64> {
        const CHAINS: u64 = 64;
        /// Enough for every probe of a machine, and an end for a chain that is a circle.
        const LONGEST: usize = 1000;
        let size = self.width.pointer_size();
        let place = kernel.types.and_then(|types| types.member("kprobe", "addr"));
        let place = place.map_or(5 * size, |member| member.offset);
        let Some(table) = kernel.names.address("kprobe_table") else { return HashSet::new() };
        let read = |address: u64| {
            let bytes = self.located.virtual_bytes(address, usize::try_from(size).ok()?)?;
            Some(little_endian(bytes)).filter(|&pointer| pointer != 0)
        };
        let chains = (0..CHAINS).filter_map(|chain| {
            self.pointer(table.wrapping_add(chain * size)).filter(|&first| first != 0)
        });
        let probes = chains.flat_map(|first| {
            std::iter::successors(Some(first), |&probe| read(probe)).take(LONGEST)
        });
        let places = probes.filter_map(|probe| read(probe.wrapping_add(place)));
        places.map(|place| self.in_file(place)).collect()
    }

    /// Returns what the pointer at an address of the file leads to, as an address of the file. A
    /// null pointer is 0.
    pub(crate) fn target(&self, address: u64) -> Option<u64> {
        Some(match self.pointer(address)? {
            0 => 0,
            pointer => self.in_file(pointer),
        })
    }

    /// Returns the address of the file for one of the running kernel.
    pub(crate) fn in_file(&self, address: u64) -> u64 {
        let address = address.wrapping_sub(self.located.slide);
        match self.width {
            Width::Bits32 => address & 0xffff_ffff,
            Width::Bits64 => address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find_features;
    use crate::inspect::linux::features::{KernelFeatures, feature};

    #[test]
    fn features_stand_between_the_levels_and_the_vendor() {
        let mut bytes = vec![6, 0, 26, 3, 0, 0, 0, 0];
        bytes.extend(0x8000_0008_u32.to_le_bytes());
        bytes.extend(11_u32.to_le_bytes());
        let mut words = vec![0_u32; 21];
        words[0] = 0x0789_fbff;
        words[3] = 1 << 9;
        words[11] = 1 << 12;
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(b"GenuineIntel\0\0\0\0");
        let found = find_features(&bytes).expect("they are there");
        assert_eq!(found, KernelFeatures::new(words));
        for number in [3 * 32 + 9, feature::RETPOLINE] {
            assert_eq!(found.has(number), Some(true));
        }
        assert_eq!(found.has(feature::RETHUNK), Some(false));
        assert_eq!(found.has(u16::MAX), Some(false), "no kernel has so many");
        bytes.truncate(bytes.len() - 5);
        assert_eq!(find_features(&bytes), None);
    }
}
