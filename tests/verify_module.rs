//! Runs `patchlet verify --module` on the module of the test kernel: it holds, of both widths and by
//! both linkers; and each defect that a loader would meet is found before.
#![cfg(feature = "inspect")]

mod support {
    #[allow(dead_code, reason = "the kernels are for other tests")]
    pub mod kernel;
    pub mod module;
    #[allow(dead_code, reason = "the native set is for other tests")]
    pub mod table;
}

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rela};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol};
use patchlet::inspect::{Exit, Model, PlacedModule, Reference, Terminal, run, verify};

use support::kernel;
use support::module::{built, module};
use support::table::Width;

const ENDIAN: LittleEndian = LittleEndian;

/// Returns the codes of what is found, each with the words.
fn findings(file: &[u8]) -> Result<Vec<String>, String> {
    let placed = PlacedModule::new(file).map_err(|error| error.to_string())?;
    let model = placed.image().and_then(Model::new).map_err(|error| error.to_string())?;
    let findings = verify(&model, &Reference::native(&model), &mut |_, _| ());
    Ok(findings.sorted().iter().map(ToString::to_string).collect())
}

/// Checks that this is found, and nothing else.
fn finds(file: &[u8], expected: &str) {
    let found = findings(file).unwrap_or_else(|error| panic!("{expected}: {error}"));
    assert!(!found.is_empty(), "not found: {expected}");
    for finding in &found {
        assert!(finding.contains(expected), "{expected}: {finding}");
    }
}

/// Returns the range of a section in the file.
fn section(file: &[u8], name: &str) -> std::ops::Range<usize> {
    let object = object::File::parse(file).expect("an object");
    let section = object.section_by_name(name).unwrap_or_else(|| panic!("no section {name}"));
    let (start, size) = section.file_range().expect("it has bytes");
    start as usize..(start + size) as usize
}

/// Returns where in the file the relocation stands that fills the field at this offset of a section.
fn relocation(file: &[u8], name: &str, offset: u64) -> usize {
    let header = FileHeader64::<LittleEndian>::parse(file).expect("an ELF file");
    let sections = header.sections(ENDIAN, file).expect("sections");
    let (index, _) = sections.section_by_name(ENDIAN, name.as_bytes()).expect("a section");
    for section in sections.iter().filter(|section| section.sh_info.get(ENDIAN) == index.0 as u32) {
        use object::read::elf::SectionHeader;
        let Ok(Some((all, _))) = section.rela(ENDIAN, file) else { continue };
        if let Some(at) = all.iter().position(|rela| {
            rela.r_offset(ENDIAN) == offset && rela.r_type(ENDIAN, false) != elf::R_X86_64_NONE
        }) {
            return section.sh_offset.get(ENDIAN) as usize + 24 * at;
        }
    }
    panic!("no relocation of {name}+{offset:#x}");
}

/// Adds to the addend of a relocation.
fn move_target(file: &mut [u8], name: &str, offset: u64, by: i64) {
    let at = relocation(file, name, offset) + 16;
    let addend = i64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
    file[at..at + 8].copy_from_slice(&(addend + by).to_le_bytes());
}

#[test]
fn the_module_of_the_test_kernel_holds() {
    for width in [Width::Bits64, Width::Bits32] {
        assert_eq!(findings(module(width)), Ok(vec![]), "{width}");
    }
    assert_eq!(findings(&built(Width::Bits64, "ld")), Ok(vec![]));
}

/// Links a module by the script of the test module which has sites and not one patchlet of its own.
#[test]
fn a_module_without_a_patchlet_holds() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bare-module");
    fs::create_dir_all(&scratch).expect("a folder below CARGO_TARGET_TMPDIR");
    let source = scratch.join("bare.S");
    let text = "#include \"patchlet.h\"\n\t.globl work\nwork:\tPATCHLET_CALL irq_disable\n\tret\n";
    fs::write(&source, text).expect("a file below CARGO_TARGET_TMPDIR");
    let succeed = |command: &mut Command| {
        let output = command.output().expect("the program starts");
        assert!(
            output.status.success(),
            "{command:?}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    for (bits, emulation) in [("-m64", "elf_x86_64"), ("-m32", "elf_i386")] {
        let object = scratch.join(format!("bare{bits}.o"));
        let include = repository.join("asm");
        let mut gcc = Command::new("gcc");
        succeed(gcc.args([bits, "-c", "-I"]).args([&include, &source]).arg("-o").arg(&object));
        for linker in ["ld.lld", "ld.bfd"] {
            let module = scratch.join(format!("{linker}{bits}.o"));
            let mut link = Command::new(linker);
            link.args(["-r", "-m", emulation, "-L"]).arg(&include).arg("-T");
            let script = repository.join("tests/module/module.ld");
            succeed(link.args([&script, &object]).arg("-o").arg(&module));
            let file = fs::read(&module).expect("the module");
            assert_eq!(findings(&file), Ok(vec![]), "{linker} {bits}");
            let placed = PlacedModule::new(&file).expect("a module");
            let model = placed.image().and_then(Model::new).expect("a model");
            assert_eq!(model.records().len(), 1, "{linker} {bits}");
        }
    }
}

#[test]
fn a_record_that_names_no_site_is_found() {
    let mut file = module(Width::Bits64).to_vec();
    // From the second site into the middle of it.
    move_target(&mut file, "patchlet_sites", 12, 2);
    let found = findings(&file).expect("it can be read");
    assert!(found.iter().any(|finding| finding.contains("site-bytes")), "{found:?}");
    // Behind all text.
    let mut file = module(Width::Bits64).to_vec();
    move_target(&mut file, "patchlet_sites", 12, 0x10_0000);
    let found = findings(&file).expect("it can be read");
    assert!(found.iter().any(|finding| finding.contains("site-outside-text")), "{found:?}");
}

#[test]
fn a_record_of_the_wrong_slot_is_found() {
    // The index of another op than the slot's, of the kernel's tables and the module's.
    for record in 0..24 {
        let mut file = module(Width::Bits64).to_vec();
        let at = section(&file, "patchlet_sites").start + 12 * record + 8;
        file[at] += 1;
        finds(&file, "record-slot");
    }
    // A site that calls through another slot than the record says.
    let mut file = module(Width::Bits64).to_vec();
    move_target(&mut file, "patchlet_sites", 4, 8);
    let at = section(&file, "patchlet_sites").start + 8;
    file[at] += 1;
    finds(&file, "site-bytes");
}

#[test]
fn a_site_that_holds_something_else_is_found() {
    let mut file = module(Width::Bits64).to_vec();
    let text = section(&file, ".text");
    let site = file[text.clone()].windows(2).position(|bytes| bytes == [0xff, 0x15]);
    file[text.start + site.expect("a site")] = 0x90;
    let found = findings(&file).expect("it can be read");
    assert!(found.iter().any(|finding| finding.contains("site-bytes")), "{found:?}");
}

#[test]
fn a_branch_by_no_key_is_found() {
    for record in 0..2 {
        let mut file = module(Width::Bits64).to_vec();
        move_target(&mut file, "patchlet_branches", 16 * record + 4, 4);
        finds(&file, "branch-key");
    }
    let mut file = module(Width::Bits64).to_vec();
    move_target(&mut file, "patchlet_branches", 12, 0x10_0000);
    finds(&file, "branch-target");
}

#[test]
fn a_slot_of_the_modules_own_without_a_function_is_found() {
    let mut file = module(Width::Bits64).to_vec();
    let object = object::File::parse(&*file).expect("an object");
    let slots = object.symbols().find(|symbol| symbol.name() == Ok("test_module_ops"));
    let offset = slots.expect("it has ops").address();
    move_target(&mut file, ".data", offset, 0x10_0000);
    let found = findings(&file).expect("it can be read");
    assert!(found.iter().any(|finding| finding.contains("slot-value")), "{found:?}");
}

#[test]
fn other_files_are_refused() {
    let refused = |file: &[u8], expected: &str| {
        let error = PlacedModule::new(file).expect_err("it is no module").to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(b"\x7fELX", "no ELF object");
    refused(&[], "no ELF object");
    let mut program = module(Width::Bits64).to_vec();
    program[16] = elf::ET_EXEC.0 as u8;
    refused(&program, "not a relocatable object");
}

#[test]
fn a_relocation_outside_its_section_is_refused() {
    for offset in [24 * 12 - 3, u64::MAX - 1] {
        let mut file = module(Width::Bits64).to_vec();
        let at = relocation(&file, "patchlet_sites", 0);
        file[at..at + 8].copy_from_slice(&u64::to_le_bytes(offset));
        let error = PlacedModule::new(&file).expect_err("it cannot be loaded").to_string();
        assert!(error.contains(&format!("at offset {offset:#x} of a section of 0x120")), "{error}");
    }
}

/// Whatever the file holds, there is an answer.
#[test]
fn damaged_files_are_read_or_refused() {
    let mut refused = 0;
    for width in [Width::Bits64, Width::Bits32] {
        let file = module(width);
        for end in (0..file.len()).step_by(997) {
            refused += usize::from(findings(&file[..end]).is_err());
        }
        // The header, and what lies behind text: records, symbols, relocations, sections.
        let text = section(file, ".text");
        for at in (0..64).chain((text.end..file.len()).step_by(59)) {
            for value in [0x7f, 0xff] {
                let mut damaged = file.to_vec();
                damaged[at] = value;
                refused += usize::from(findings(&damaged).is_err());
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

/// The command, on a file.
#[test]
fn the_command_knows_modules() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("verified-module.o");
    fs::write(&path, module(Width::Bits64)).expect("a file below CARGO_TARGET_TMPDIR");
    let say = |words: &[&str]| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let words = ["patchlet", "verify"].iter().chain(words).map(OsString::from);
        let words: Vec<_> = words.chain([path.clone().into_os_string()]).collect();
        let exit = run(words, &mut Terminal::new(&mut out, &mut err));
        out.extend(err);
        (exit, String::from_utf8(out).expect("UTF-8"))
    };
    let (exit, said) = say(&["--module", "--expect-sites", "24"]);
    assert_eq!(exit, Exit::Holds, "{said}");
    let counts = "ELF64 module, 1 patchlet, 24 sites, 3 ops tables, 2 branch sites, 1 key";
    assert!(said.contains(counts), "{said}");
    let (exit, said) = say(&[]);
    assert!(exit != Exit::Holds && said.contains("verify a module with --module"), "{said}");
    // A kernel is no module.
    let kernel = kernel::build(Width::Bits64, "fat");
    let error = PlacedModule::new(&fs::read(kernel).expect("a kernel")).expect_err("linked");
    assert!(error.to_string().contains("without --module"), "{error}");
}
