//! Checks the patchlets in the fat-LTO test kernels: the native set, the set by CPU feature and the
//! kernel's own patchlets are complete, in order, with the right bytes, and in a segment that is not
//! executable. And the trampolines of ops of any signature.

mod support {
    #[allow(dead_code, reason = "only the bytes of the set are needed")]
    pub mod by_feature;
    pub mod elf;
    pub mod kernel;
    pub mod layout;
    pub mod meaning;
    pub mod table;
}

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use support::kernel::build;
use support::layout::{Found, inspect_linked};
use support::table::{Width, native};
use support::{by_feature, elf};

/// The kernel's blobs, in the order of their names. What is in them, `patchlet verify` proves.
const BLOBS: [&str; 2] = ["hypercall_page", "start_cpu"];

/// Checks all patchlets of a kernel, whose own patchlets for sites are `own`.
fn kernel(width: Width, own: &[(&str, &[u8])]) {
    let file = build(width, "fat");
    let found = inspect_linked(&file, width);
    let native = native(width);
    let is_native = |found: &&Found| native.iter().any(|row| row.name == found.name);
    let is_blob = |found: &&Found| BLOBS.contains(&&*found.name);
    let mut blobs: Vec<&str> = found.iter().filter(is_blob).map(|found| &*found.name).collect();
    blobs.sort_unstable();
    assert_eq!(blobs, BLOBS);
    let (by_feature, others): (Vec<_>, Vec<_>) = found
        .iter()
        .filter(|found| !is_native(found) && !is_blob(found))
        .map(|found| (found.name.as_str(), &found.bytes[..]))
        .partition(|(name, _)| name.starts_with("cpu_"));
    let set = by_feature::set(width);
    let set: Vec<_> = set.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    assert_eq!(by_feature, set, "the ready-made set by CPU feature");
    assert_eq!(others, own, "the kernel's own");
    assert_eq!(found.len(), native.len() + own.len() + by_feature.len() + BLOBS.len());

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

/// Returns the bytes of a function, and those of a symbol's address.
fn function_and_address(kernel: &[u8], function: &str, symbol: &str) -> (Vec<u8>, u64, u64) {
    let file = object::File::parse(kernel).expect("an ELF file");
    let named = |name: &str| {
        let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
        found.unwrap_or_else(|| panic!("no symbol {name}"))
    };
    let code = named(function);
    let section = file.section_by_index(code.section_index().expect("of it")).expect("a section");
    let bytes = section.data_range(code.address(), code.size()).expect("its bytes");
    (bytes.expect("in the file").to_vec(), code.address(), named(symbol).address())
}

/// A trampoline is the jump through its op's slot and a return, with nothing before or between.
#[test]
fn trampolines() {
    for width in [Width::Bits64, Width::Bits32] {
        let kernel = std::fs::read(build(width, "fat")).expect("the kernel was built");
        for op in ["mix", "largest"] {
            let name = format!("test_kernel_ops.{op}");
            let (code, address, slot) =
                function_and_address(&kernel, &format!("{name}.trampoline"), &name);
            let operand = match width {
                Width::Bits64 => slot.wrapping_sub(address + 6),
                Width::Bits32 => slot,
            };
            let mut expected = vec![0xff, 0x25];
            expected.extend(&operand.to_le_bytes()[..4]);
            expected.push(0xc3);
            assert_eq!(code, expected, "{width}, {op}");
        }
    }
}

/// What names a slot in a debugger is the slot's symbol: that of an op's index is no variable, and
/// on 64 bit, where it has an address, is elsewhere.
#[test]
fn symbols_of_slots() {
    for width in [Width::Bits64, Width::Bits32] {
        let kernel = std::fs::read(build(width, "fat")).expect("the kernel was built");
        let file = object::File::parse(&*kernel).expect("an ELF file");
        let symbols = |at: u64| file.symbols().filter(move |symbol| symbol.address() == at);
        let slot = file.symbols().find(|symbol| symbol.name() == Ok("patchlet_pv_ops.read_cr2"));
        let names = symbols(slot.expect("of the slot").address()).map(|symbol| symbol.name());
        assert_eq!(names.collect::<Vec<_>>(), [Ok("patchlet_pv_ops.read_cr2")], "{width}");
        let index = file.symbols().find(|symbol| {
            symbol.name().is_ok_and(|name| name == "patchlet_pv_ops.read_cr2.index")
        });
        assert_eq!(index.expect("of the index").kind(), SymbolKind::Unknown, "{width}");
    }
}
