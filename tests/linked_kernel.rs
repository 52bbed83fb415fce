//! Checks the patchlets in the fat-LTO test kernels: the native set, the set by CPU feature and the
//! kernel's own patchlets are complete, in order, with the right bytes, and in a segment that is not executable.

mod support {
    #[allow(dead_code, reason = "only the bytes of the set are needed")]
    pub mod by_feature;
    pub mod elf;
    pub mod kernel;
    pub mod layout;
    pub mod meaning;
    pub mod table;
}

use support::kernel::build;
use support::layout::{Found, inspect_linked};
use support::table::{Width, native};
use support::{by_feature, elf};

/// Checks all patchlets of a kernel, whose own patchlets are `own`.
fn kernel(width: Width, own: &[(&str, &[u8])]) {
    let file = build(width, "fat");
    let found = inspect_linked(&file, width);
    let native = native(width);
    let is_native = |found: &&Found| native.iter().any(|row| row.name == found.name);
    let (by_feature, others): (Vec<_>, Vec<_>) = found
        .iter()
        .filter(|found| !is_native(found))
        .map(|found| (found.name.as_str(), &found.bytes[..]))
        .partition(|(name, _)| name.starts_with("cpu_"));
    let set = by_feature::set(width);
    let set: Vec<_> = set.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    assert_eq!(by_feature, set, "the ready-made set by CPU feature");
    let blobs = ["start_cpu", "hypercall_page"];
    let (blobs, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|(name, _)| blobs.contains(name));
    assert_eq!(others, own, "the kernel's own");
    assert_eq!(found.len(), native.len() + own.len() + by_feature.len() + blobs.len());

    // The output section of asm/patchlet.ld contains only patchlets.
    let section = elf::read(&file).section;
    let size: usize = found.iter().map(|found| found.bytes.len()).sum();
    assert_eq!((section.name.as_str(), section.bytes.len()), (".rodata.patchlets", size));
}

#[test]
fn kernel_64() {
    kernel(Width::Bits64, &[("invlpg", &[0x0f, 0x01, 0x3f]), ("rdtsc", &[0x0f, 0x31])]);
}

#[test]
fn kernel_32() {
    kernel(Width::Bits32, &[("invlpg", &[0x0f, 0x01, 0x38]), ("rdtsc", &[0x0f, 0x31])]);
}
