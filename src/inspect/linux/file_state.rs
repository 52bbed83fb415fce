//! The state of a kernel that is not running: its variables have the values of the file, but for some
//! that are said to have others.

use std::collections::HashSet;

use super::features::KernelFeatures;
use super::kernel::LinuxKernel;
use super::state::{FeaturesFrom, State};
use crate::inspect::explain::{Located, Memory, Region};

/// Returns what `work` makes of the state of a kernel as its file has it. `overrides` are addresses
/// with the bytes that are taken in place of those of the file.
pub(super) fn in_file<T>(
    kernel: &LinuxKernel<'_>,
    features: &KernelFeatures,
    overrides: &[(u64, Vec<u8>)],
    work: impl FnOnce(&State<'_, '_>) -> T,
) -> T {
    let mut regions: Vec<Region<'_>> = Vec::new();
    let mut add = |address, bytes| {
        let virtual_address = Some(address);
        regions.push(Region { virtual_address, physical_address: None, bytes });
    };
    for section in kernel.image.sections().iter().filter(|section| !section.data.is_empty()) {
        add(section.address, section.data);
    }
    // Of two regions, the one that begins nearer to an address has it.
    overrides.iter().for_each(|(address, bytes)| add(*address, bytes));
    let memory = Memory::new(regions, None);
    let located = Located::as_linked(&memory);
    let (features, features_from) = (features.clone(), FeaturesFrom::CommandLine);
    let (width, kprobes) = (kernel.image.width(), HashSet::new());
    work(&State { located: &located, width, features, features_from, kprobes })
}
