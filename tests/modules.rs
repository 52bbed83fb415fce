//! Loads the module of the test kernel into plain memory, by the loader of the test kernel: the
//! fields that the linker left open get the right values, at any address, and what cannot be loaded
//! is refused.

#[path = "kernel/src/module/load/mod.rs"]
mod load;
mod support {
    #[allow(dead_code, reason = "the kernels are for other tests")]
    pub mod kernel;
    pub mod module;
    #[allow(dead_code, reason = "the native set is for other tests")]
    pub mod table;
}

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use object::LittleEndian;
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;

use load::{LoadError, PAGE_SIZE, Placed, Region};
use support::module::{built, module};
use support::table::Width;

/// The addresses of the symbols that the module takes from the kernel.
const PV_OPS: u64 = 0x0012_3450;
const KERNEL_OPS: u64 = 0x0023_4560;
const KERNEL_KEY: u64 = 0x0034_5678;
/// The address of the module.
const BASE: u64 = 0x0400_0000;

fn exported(name: &str) -> Option<u64> {
    match name {
        "patchlet_pv_ops" => Some(PV_OPS),
        "test_kernel_ops" => Some(KERNEL_OPS),
        "test_kernel_key" => Some(KERNEL_KEY),
        _ => None,
    }
}

/// A module in plain memory.
struct Loaded {
    /// The size of an address, in bytes.
    word: usize,
    base: u64,
    memory: Vec<u8>,
    text: Range<u64>,
    sites: Range<u64>,
    branches: Range<u64>,
    keys: Range<u64>,
    interface: u64,
    own_ops: u64,
}

impl Loaded {
    fn new<'d, E: FileHeader<Endian = LittleEndian>>(
        file: &'d [u8],
        base: u64,
        exported: impl Fn(&str) -> Option<u64>,
    ) -> Result<Self, LoadError<'d>> {
        let placed = Placed::<E>::new(file, base)?;
        let range = placed.memory();
        assert_eq!(range.start, base);
        // So that what nobody writes is seen.
        let mut memory = vec![0xaa; (range.end - range.start) as usize];
        placed.write(&mut memory, exported)?;
        let regions = [Region::Text, Region::ReadOnly, Region::Data];
        let mut end = base;
        for region in regions.map(|region| placed.region(region)) {
            assert!(region.start == end && region.start.is_multiple_of(PAGE_SIZE), "{region:x?}");
            end = region.end;
        }
        assert_eq!(end, range.end);
        Ok(Self {
            word: if E::is_type_64_sized() { 8 } else { 4 },
            base,
            memory,
            text: placed.region(Region::Text),
            sites: placed.section("patchlet_sites").expect("it has sites"),
            branches: placed.section("patchlet_branches").expect("it has branches"),
            keys: placed.section("patchlet_keys").expect("it has a key"),
            interface: placed.symbol("TEST_MODULE").expect("it has an interface"),
            own_ops: placed.symbol("test_module_ops").expect("it has ops"),
        })
    }

    fn bytes(&self, address: u64, length: usize) -> &[u8] {
        &self.memory[(address - self.base) as usize..][..length]
    }

    fn word(&self, address: u64, bytes: usize) -> u64 {
        self.bytes(address, bytes).iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// Returns the address that a field tells relative to itself.
    fn relative(&self, address: u64) -> u64 {
        let distance = (self.word(address, 4) as u32).cast_signed();
        let target = address.wrapping_add_signed(distance.into());
        // Addresses wrap at their own size.
        if self.word == 4 { target & 0xffff_ffff } else { target }
    }
}

fn load(width: Width, file: &[u8], base: u64) -> Result<Loaded, LoadError<'_>> {
    match width {
        Width::Bits64 => Loaded::new::<FileHeader64<LittleEndian>>(file, base, exported),
        Width::Bits32 => Loaded::new::<FileHeader32<LittleEndian>>(file, base, exported),
    }
}

/// Checks every site of a loaded module: its record names it, it lies in text, and it is the
/// indirect call or jump through the slot that the record names.
fn check(width: Width, file: &[u8], base: u64) {
    let module = load(width, file, base).unwrap_or_else(|error| panic!("{width}: {error}"));
    let word = if width == Width::Bits64 { 8 } else { 4 };
    let mut through = [0; 3];
    for record in module.sites.clone().step_by(12) {
        let (site, slot) = (module.relative(record), module.relative(record + 4));
        assert!(module.text.contains(&site), "{width}: {site:#x}");
        let kind = module.bytes(record + 11, 1)[0];
        assert_eq!(module.bytes(site, 2), [0xff, [0x15, 0x25][usize::from(kind)]], "{site:#x}");
        let operand = match width {
            Width::Bits64 => module.relative(site + 2) + 4,
            Width::Bits32 => module.word(site + 2, 4),
        };
        assert_eq!(operand, slot, "{width}: {site:#x}");
        let index = module.word(record + 8, 2);
        let tables = [PV_OPS, KERNEL_OPS, module.own_ops];
        let table = tables.iter().position(|table| table + index * word == slot);
        through[table.unwrap_or_else(|| panic!("{width}: {slot:#x} is no slot"))] += 1;
    }
    // Sites of the built-in table and of the module's in Rust, and those of `asm/own.S`.
    assert_eq!(through, [4, 13, 7], "{width}");
    check_branches(width, &module);
    // The interface leads to the table, and its slots to text.
    let table = module.word(module.interface, word as usize);
    let slots = module.word(table + 2 * word, word as usize);
    assert_eq!(slots, module.own_ops, "{width}");
    for slot in 0..2 {
        let function = module.word(slots + slot * word, word as usize);
        assert!(module.text.contains(&function), "{width}: {function:#x}");
    }
}

/// Checks the branches: each is a NOP in text, leads to text, and is by the key that its record
/// names; and the record of the module's key has the key's address and name.
fn check_branches(width: Width, module: &Loaded) {
    let key = module.relative(module.keys.start);
    assert_ne!(key, KERNEL_KEY);
    assert_eq!(module.bytes(module.keys.start + 4, 7), [&[0, 1, 0, 3][..], b"OWN"].concat());
    let mut by_key = Vec::new();
    for record in module.branches.clone().step_by(16) {
        let [branch, by, target] = [0, 4, 12].map(|field| module.relative(record + field));
        assert!(module.text.contains(&branch) && module.text.contains(&target), "{width}");
        assert_eq!(module.bytes(branch, 5), [0x0f, 0x1f, 0x44, 0x00, 0x00], "{width}");
        by_key.push(by);
    }
    assert_eq!(by_key.len(), 2, "{width}");
    assert!(by_key.contains(&KERNEL_KEY) && by_key.contains(&key), "{width}: {by_key:x?}");
    // What the interface says is the key's address, too.
    let word = module.word as u64;
    assert_eq!(module.word(module.interface + word, module.word), key, "{width}");
}

#[test]
fn every_site_of_a_loaded_module_goes_through_its_slot() {
    for width in [Width::Bits64, Width::Bits32] {
        for base in [BASE, BASE + 7 * PAGE_SIZE, PAGE_SIZE] {
            check(width, module(width), base);
        }
    }
    // At the end of the reach of a sign-extended address, and with the other linker. (GNU ld 2.40
    // does not link the 32-bit module: tests/module/build.sh.)
    check(Width::Bits64, module(Width::Bits64), 0x7fff_0000 - 0x1_0000);
    check(Width::Bits32, module(Width::Bits32), 0xffff_0000 - 0x1_0000);
    check(Width::Bits64, &built(Width::Bits64, "ld"), BASE);
}

#[test]
fn a_module_out_of_reach_is_refused() {
    // The module is too far away, or the kernel.
    let file = module(Width::Bits64);
    let error = load(Width::Bits64, file, 0x1_0000_0000).err();
    let Some(LoadError::OutOfReach { value, .. }) = error else { panic!("{error:?}") };
    assert!(value < i64::from(i32::MIN), "{value:#x}");
    let far = |name: &str| exported(name).map(|address| address + 0x1_0000_0000);
    let error = Loaded::new::<FileHeader64<LittleEndian>>(file, BASE, far).err();
    let Some(LoadError::OutOfReach { value, .. }) = error else { panic!("{error:?}") };
    assert!(value > i64::from(i32::MAX), "{value:#x}");
    // Addresses of 32 bits wrap: everything is in reach.
    check(Width::Bits32, module(Width::Bits32), 0x8000_0000);
}

#[test]
fn what_the_kernel_does_not_export_is_named() {
    for width in [Width::Bits64, Width::Bits32] {
        let not_all = |name: &str| exported(name).filter(|_| name != "test_kernel_ops");
        let file = module(width);
        let error = match width {
            Width::Bits64 => Loaded::new::<FileHeader64<LittleEndian>>(file, BASE, not_all),
            Width::Bits32 => Loaded::new::<FileHeader32<LittleEndian>>(file, BASE, not_all),
        };
        assert_eq!(error.err(), Some(LoadError::UnknownSymbol("test_kernel_ops")), "{width}");
    }
}

#[test]
fn other_files_are_refused() {
    let no_object = |width, file: &[u8]| match load(width, file, BASE) {
        Err(LoadError::Malformed(_)) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("loaded"),
    };
    no_object(Width::Bits32, module(Width::Bits64));
    no_object(Width::Bits64, module(Width::Bits32));
    no_object(Width::Bits64, &[]);
    // A program.
    let mut program = module(Width::Bits64).to_vec();
    program[16] = elf::ET_EXEC.0 as u8;
    no_object(Width::Bits64, &program);
    // An object for another machine.
    let mut foreign = module(Width::Bits64).to_vec();
    foreign[18] = elf::EM_AARCH64.0 as u8;
    no_object(Width::Bits64, &foreign);
}

/// A shared object cannot leave the slots to the kernel, as docs/modules.md says.
#[test]
fn no_shared_object_is_made_of_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (object, shared) = (folder.join("shared-module.o"), folder.join("shared-module.so"));
    fs::write(&object, module(Width::Bits64)).expect("a file below CARGO_TARGET_TMPDIR");
    for (linker, why) in [("ld", "hidden symbol"), ("ld.lld", "cannot be used against symbol")] {
        let output =
            Command::new(linker).arg("-shared").arg(&object).arg("-o").arg(&shared).output();
        let output = output.expect("the linker starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{linker}: {said}");
    }
}

#[test]
fn memory_that_is_too_small_is_refused() {
    let placed = Placed::<FileHeader64<LittleEndian>>::new(module(Width::Bits64), BASE);
    let placed = placed.unwrap_or_else(|error| panic!("{error}"));
    let needed = placed.memory().end - BASE;
    let mut memory = vec![0xaa; needed as usize - 1];
    let room = needed - 1;
    assert_eq!(placed.write(&mut memory, exported), Err(LoadError::NoRoom { needed, room }));
    assert!(memory.iter().all(|byte| *byte == 0xaa), "it was written");
}

/// Returns where in the file the relocations of a type for the section `patchlet_sites` stand.
fn relocation(file: &[u8]) -> usize {
    let header = FileHeader64::<LittleEndian>::parse(file).expect("an ELF file");
    let sections = header.sections(LittleEndian, file).expect("sections");
    let (index, _) = sections.section_by_name(LittleEndian, b"patchlet_sites").expect("sites");
    let of_sites = sections.iter().find(|section| {
        section.sh_type.get(LittleEndian) == elf::SHT_RELA
            && section.sh_info.get(LittleEndian) as usize == index.0
    });
    of_sites.expect("relocations").sh_offset.get(LittleEndian) as usize
}

#[test]
fn a_relocation_that_the_loader_does_not_know_is_refused() {
    let mut file = module(Width::Bits64).to_vec();
    let at = relocation(&file);
    // r_offset, r_info with the type in its low half, r_addend
    file[at + 8] = elf::R_X86_64_TPOFF64.0 as u8;
    let error = load(Width::Bits64, &file, BASE).err();
    let kind = elf::R_X86_64_TPOFF64.0;
    let expected = LoadError::UnknownRelocation { section: "patchlet_sites", offset: 0, kind };
    assert_eq!(error, Some(expected));
}

#[test]
fn a_relocation_outside_its_section_is_refused() {
    for offset in [24 * 12 - 3, u64::MAX - 1] {
        let mut file = module(Width::Bits64).to_vec();
        let at = relocation(&file);
        file[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        let error = load(Width::Bits64, &file, BASE).err();
        assert_eq!(error, Some(LoadError::OutsideSection { section: "patchlet_sites", offset }));
    }
}

/// Whatever the file holds, the loader returns: it is the kernel that would panic.
#[test]
fn damaged_files_are_loaded_or_refused() {
    fn is_refused<E: FileHeader<Endian = LittleEndian>>(file: &[u8], memory: &mut [u8]) -> bool {
        match Placed::<E>::new(file, BASE) {
            Ok(placed) => placed.write(memory, exported).is_err(),
            Err(_) => true,
        }
    }
    let mut memory = vec![0; 0x2_0000];
    let mut refused = 0;
    let mut attempt = |width, file: &[u8]| {
        refused += usize::from(match width {
            Width::Bits64 => is_refused::<FileHeader64<LittleEndian>>(file, &mut memory),
            Width::Bits32 => is_refused::<FileHeader32<LittleEndian>>(file, &mut memory),
        });
    };
    for width in [Width::Bits64, Width::Bits32] {
        let file = module(width);
        for end in (0..file.len()).step_by(61) {
            attempt(width, &file[..end]);
        }
        for at in 0..file.len() {
            // Text is a large part, and may be anything.
            if (0x1000..0x6000).contains(&at) && at % 61 != 0 {
                continue;
            }
            for value in [0x7f, 0xff] {
                let mut damaged = file.to_vec();
                damaged[at] = value;
                attempt(width, &damaged);
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}
