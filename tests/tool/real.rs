//! Runs the tool on real files: this test program, the tool itself, and objects of gcc and clang.
//! The crate `goblin` reads the same facts for comparison.
#![allow(unsafe_code, reason = "this program plans the patching of its own text")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use goblin::elf::Elf;
use patchlet::cpu::{Feature, Features};
use patchlet::inspect::{Exit, Model, SiteState, map, native_set, parse, patchlets_of};
use patchlet::{Goal, Patcher, SecondMapping, Sites, Width, native, pv};

use crate::sample::Sample;
use crate::tool::{file, findings, folder, tool};

/// Executes a site of this program in a function that is not inlined.
#[inline(never)]
fn flags() -> usize {
    pv::save_fl()
}

/// A feature of this program's own.
mod own {
    pub const RARE: super::Feature = super::Feature::own(5);
}

patchlet::keys! {
    /// Off in the file, so that the tool can switch it on.
    static WANTED: off;
    /// On in the file.
    static UNWANTED: on;
}

extern "C" fn one() -> usize {
    1
}

extern "C" fn two() -> usize {
    2
}

extern "C" fn three() -> usize {
    3
}

patchlet::ops! {
    /// An op with variants.
    mod chosen as "patchlet_tool_chosen" {
        choice {
            /// Tells which variant it is.
            number: c fn() -> usize = function one,
                if [ERMS] => function two,
                if [ERMS, own::RARE] => function three;
        }
    }
}

/// Tells what this program's text does at present: which sides of two branches it takes, and which
/// variant it has.
#[inline(never)]
fn directions() -> (bool, bool, usize) {
    let wanted = patchlet::branch!(WANTED);
    let unwanted = patchlet::branch!(UNWANTED);
    (wanted, unwanted, chosen::number())
}

/// Where [`a_copy_of_this_program_is_patched_and_executed`] looks for what a copy printed.
const SAYS: &str = "the directions are";

/// The variable that tells a copy which feature to select variants by, beside ERMS.
const SELECT: &str = "PATCHLET_SELECT";

patchlet::site_set! {
    /// Every site of this program.
    static PROGRAM = [pv, chosen], branches;
}

/// Returns how many sites this program's own patching would change now, or `None` if it refuses.
fn changes() -> Option<usize> {
    let records = || PROGRAM.parts().iter().flat_map(|part| part.sites().records());
    let first = records().map(|record| record.site()).min().expect("a site");
    let end = records().map(|record| record.site()).max().expect("a site") + 32;
    // SAFETY: these are addresses of this program's text, which can be read. A plan writes nothing,
    // so nothing is asked of the alias.
    let platform = unsafe { SecondMapping::new(first..end, 0) };
    let patcher = Patcher::new(&PROGRAM, platform);
    let plan = patcher.plan(Goal::Patched).ok()?;
    Some(plan.outcomes().filter(|outcome| outcome.old_bytes != outcome.new_bytes).count())
}

/// Executes the sites of this program, or of a patched copy of it, and prints what they did, and what
/// patching would do after a selection.
#[test]
fn says_its_directions() {
    let directions = directions();
    let mut features = Features::EMPTY;
    match env::var(SELECT).as_deref() {
        Ok("erms") => features = features.with(Feature::ERMS),
        Ok("rare") => features = features.with(Feature::ERMS).with(own::RARE),
        _ => {}
    }
    if features != Features::EMPTY {
        // SAFETY: no variant needs what its condition names, and in a copy no other test runs.
        unsafe { chosen::select(&features) };
    }
    println!("{SAYS} {directions:?}, changes: {:?}", changes());
}

/// Checks keys and variants that the tool puts into a copy of this program: the copy does what they
/// say, and its keys' memory agrees.
#[test]
fn a_copy_of_this_program_is_patched_and_executed() {
    let path = own_executable();
    let path = path.to_str().expect("UTF-8");
    assert_eq!(directions(), (false, true, 1));
    // In the first place what the copy is patched for, then what it selects, and then what it does
    // and how many of its sites its own patching would change.
    for (arguments, selects, expected, changes) in [
        (&["--key", "WANTED=on", "--cpu", "Haswell"][..], "erms", (true, true, 2), Some(0)),
        (
            &["--key", "WANTED=on", "--key", "UNWANTED=off", "--cpu", "Haswell,+rare"],
            "rare",
            (true, false, 3),
            Some(0),
        ),
        // Another selection than the file was patched for: it is refused.
        (&["--cpu", "Haswell,+rare"], "erms", (false, true, 3), None),
    ] {
        let copy = folder("real").join("copy");
        let copy = copy.to_str().expect("UTF-8");
        let output = tool(&[&["apply", path, "-o", copy][..], arguments].concat());
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        let run = Command::new(copy)
            .args(["real::says_its_directions", "--exact", "--nocapture"])
            .env(SELECT, selects)
            .output()
            .expect("the copy starts");
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{run:?}");
        let expected = format!("{SAYS} {expected:?}, changes: {changes:?}\n");
        assert!(said.contains(&expected), "{arguments:?}: {said}");

        // This verifies the copy first.
        let back = format!("{copy}.back");
        let output = tool(&["apply", "--revert", copy, "-o", &back]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        let same = fs::read(&back).expect("written") == fs::read(path).expect("this program");
        assert!(same, "{arguments:?}: a revert gives another file");
    }
}

fn own_executable() -> PathBuf {
    // These ops may be used in user mode.
    let _ = (flags(), pv::vcpu_is_preempted(0), pv::ident(1), directions());
    env::current_exe().expect("the system knows it")
}

/// Checks that the tool reads from the file what this program has in memory.
#[test]
fn its_own_executable() {
    let path = own_executable();
    let data = map(&path).expect("it can be read");
    let model = Model::new(parse(&data).expect("ELF")).expect("linked");
    assert_eq!(model.image().width(), Width::NATIVE);
    assert_eq!(findings(&data), []);

    let in_memory: BTreeMap<_, _> =
        native::ALL.iter().map(|patchlet| (patchlet.name(), patchlet.bytes())).collect();
    let in_file: BTreeMap<_, _> =
        model.patchlets().iter().map(|patchlet| (patchlet.name, patchlet.bytes)).collect();
    assert_eq!(in_file, in_memory);

    // The program may be loaded at another address; all its addresses differ by the same distance.
    let records = Sites::linked().records();
    assert!(records.len() >= 3);
    let distance = |site: usize, address: u64| (site as u64).wrapping_sub(address);
    let first = records.clone().next().expect("there is one");
    let moved = distance(first.site(), model.records()[0].site);
    assert_eq!(records.len(), model.records().len());
    for (record, read) in records.zip(model.records()) {
        assert_eq!(distance(record.site(), read.site), moved);
        assert_eq!(distance(record.subject(), read.slot), moved);
        assert_eq!((record.number(), record.capacity()), (read.op, read.capacity));
        assert_eq!(record.kind().ok(), read.kind());
        assert_eq!(model.state(read), SiteState::Indirect);
    }
    let output = tool(&["sites", path.to_str().expect("UTF-8"), "--function", "real::flags"]);
    assert!(output.out.contains("save_fl"), "{}", output.out);
}

#[test]
fn the_tool_itself() {
    let path = env!("CARGO_BIN_EXE_patchlet");
    let output = tool(&["verify", path]);
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    let data = map(Path::new(path)).expect("it can be read");
    agree_with_goblin(&data);
}

fn compile(compiler: &str, width: Width) -> PathBuf {
    let (source, flag, triple) = match width {
        Width::Bits64 => ("patch_64.S", "-m64", "x86_64-unknown-none-elf"),
        Width::Bits32 => ("patch_32.S", "-m32", "i686-unknown-none-elf"),
    };
    let out = folder("objects").join(format!("{compiler}-{source}.o"));
    let mut command = Command::new(compiler);
    if compiler == "clang" {
        command.arg(format!("--target={triple}"));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("asm").join(source);
    let status = command.arg(flag).arg("-c").arg(source).arg("-o").arg(&out).status();
    assert!(status.expect(compiler).success(), "{compiler} does not assemble it");
    out
}

/// Checks that the objects of both compilers give the same list, which is the native set.
#[test]
fn objects_of_gcc_and_clang() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut lists = Vec::new();
        for compiler in ["gcc", "clang"] {
            let path = compile(compiler, width);
            let data = fs::read(&path).expect("an object");
            let (found, defects) = patchlets_of(&parse(&data).expect("ELF")).expect("of its width");
            assert!(defects.is_empty());
            let found: Vec<_> = found.iter().map(|found| (found.name, found.bytes)).collect();
            assert_eq!(found, native_set(width), "{compiler}");
            agree_with_goblin(&data);
            let path = path.to_str().expect("UTF-8");
            let output = tool(&["list", path]);
            assert_eq!(output.exit, Exit::Holds);
            lists.push(output.out.replace(path, "object"));
            // An object is not linked, so it has no sites that could be patched.
            let output = tool(&["sites", path]);
            assert_eq!(output.exit, Exit::Failed);
            assert!(output.err.contains("an object: its sites have no addresses"));
        }
        assert_eq!(lists[0], lists[1]);
    }
}

#[test]
fn an_object_as_reference() {
    let kernel = file("against", "kernel", &Sample::new(Width::Bits64).bytes());
    let object = compile("gcc", Width::Bits64);
    let object = object.to_str().expect("UTF-8");
    let output = tool(&["verify", &kernel, "--against", object]);
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);

    let archive = folder("against").join("lib.a");
    let _ = fs::remove_file(&archive);
    let status = Command::new("ar").arg("rcs").arg(&archive).arg(object).status();
    assert!(status.expect("ar").success());
    let archive = archive.to_str().expect("UTF-8");
    assert_eq!(tool(&["verify", &kernel, "--against", archive]).exit, Exit::Holds);
    assert!(tool(&["list", archive]).out.contains("16 patchlets"));

    let other = compile("gcc", Width::Bits32);
    let output = tool(&["verify", &kernel, "--against", other.to_str().expect("UTF-8")]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("ELF32 object, but"), "{}", output.err);

    let mut without = Sample::new(Width::Bits64);
    without.symbols.retain(|symbol| !symbol.name.starts_with("patchlet_cli"));
    let object = file("against", "none.o", &without.stripped().bytes());
    let output = tool(&["verify", &kernel, "--against", &object]);
    assert_eq!(output.exit, Exit::Holds, "its index names the same patchlets");
}

/// Checks a link script with PHDRS that has the line INCLUDE patchlet.ld behind text, so that the
/// sections are put into the segment of text, and one that has it behind the read-only data.
#[test]
fn the_segment_of_the_patchlets() {
    let asm = Path::new(env!("CARGO_MANIFEST_DIR")).join("asm");
    for width in [Width::Bits64, Width::Bits32] {
        for (name, behind_text, behind_rodata) in
            [("right", "", "INCLUDE patchlet.ld"), ("wrong", "INCLUDE patchlet.ld", "")]
        {
            let text = format!(
                "PHDRS {{ text PT_LOAD FLAGS(5); rodata PT_LOAD FLAGS(4); data PT_LOAD FLAGS(6); }}\n\
                 SECTIONS {{\n. = 1M;\n.text : {{ *(.text .text.*) }} :text\n{behind_text}\n\
                 . = ALIGN(4096);\n.rodata : {{ LONG(0) *(.rodata) }} :rodata\n{behind_rodata}\n\
                 . = ALIGN(4096);\n.data : {{ *(.data) }} :data\n\
                 /DISCARD/ : {{ *(.note*) *(.eh_frame*) }}\n}}\n"
            );
            let script = folder("phdrs").join(format!("{name}.ld"));
            fs::write(&script, text).expect("a file below CARGO_TARGET_TMPDIR");
            let more =
                [format!("-Wl,-L,{}", asm.display()), format!("-Wl,-T,{}", script.display())];
            let program = crate::raw::link(name, width, &more.each_ref().map(|more| &**more));
            let lines = tool(&["verify", &program]).out;
            let flags = lines.lines().filter(|line| line.starts_with("segment-flags: ")).count();
            if name == "right" {
                assert_eq!(flags, 0, "{width:?} {lines}");
                continue;
            }
            for what in ["patchlets", "the index of patchlets", "the records of the sites"] {
                let words = format!(
                    "holds {what} and is loaded by the segment at 0x100000, which is executable"
                );
                assert!(lines.contains(&words), "{width:?}: no `{words}` in\n{lines}");
            }
            assert_eq!(flags, 3, "{width:?} {lines}");
        }
    }
}

/// Compares the tool with goblin on executables of this crate and on every kind of sample.
#[test]
fn goblin_reads_the_same() {
    agree_with_goblin(&fs::read(own_executable()).expect("it can be read"));
    for width in [Width::Bits64, Width::Bits32] {
        agree_with_goblin(&Sample::new(width).bytes());
        agree_with_goblin(&Sample::new(width).position_independent().bytes());
    }
}

/// Checks that labels, bytes, section flags, records and slots are the same as read by goblin.
fn agree_with_goblin(data: &[u8]) {
    let elf = Elf::parse(data).expect("goblin reads it");
    let image = parse(data).expect("object reads it");
    assert_eq!(elf.is_64, image.width() == Width::Bits64);

    let mut labels: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let mut bytes_of: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for symbol in &elf.syms {
        let name = elf.strtab.get_at(symbol.st_name).unwrap_or_default();
        let Some(name) = name.strip_prefix("patchlet_") else { continue };
        let start = name.strip_suffix("_start").filter(|_| symbol.st_size > 0);
        let end = name.strip_suffix("_end");
        let Some(name) = start.or(end) else { continue };
        labels.entry(name).or_default()[usize::from(end.is_some())] = symbol.st_value;
        if start.is_some() {
            let section = &elf.section_headers[symbol.st_shndx];
            let at = (section.sh_offset + symbol.st_value - section.sh_addr) as usize;
            bytes_of.insert(name, &data[at..at + symbol.st_size as usize]);
        }
    }
    let (found, _) = patchlets_of(&image).expect("of the width it says");
    let ours: BTreeMap<_, _> =
        found.iter().map(|found| (found.name, [found.address, found.end()])).collect();
    assert_eq!(ours, labels);
    let ours: BTreeMap<_, _> = found.iter().map(|found| (found.name, found.bytes)).collect();
    assert_eq!(ours, bytes_of);

    let Ok(model) = Model::new(image) else { return };
    let name = |at: usize| elf.shdr_strtab.get_at(at).unwrap_or_default();
    let table =
        elf.section_headers.iter().find(|section| name(section.sh_name) == "patchlet_sites");
    let (start, size) = table.map_or((0, 0), |table| (table.sh_offset, table.sh_size));
    let address = table.map_or(0, |table| table.sh_addr);
    let mut count = 0;
    for (at, record) in (0..size).step_by(12).zip(model.records()) {
        let bytes = &data[(start + at) as usize..][..12];
        let word = |from: usize| i32::from_le_bytes(bytes[from..from + 4].try_into().expect("4"));
        let site = (address + at).wrapping_add_signed(i64::from(word(0)));
        let slot = (address + at + 4).wrapping_add_signed(i64::from(word(4)));
        assert_eq!((record.site, record.slot), (site, slot));
        assert_eq!(record.op, u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!([record.capacity, record.kind], bytes[10..12]);
        let native = model.op(record).and_then(|op| op.native);
        assert_eq!(native, slot_by_goblin(&elf, data, slot), "slot {slot:#x}");
        count += 1;
    }
    assert_eq!((count, size % 12), (model.records().len(), 0));
}

/// Returns the value of a slot once the file is loaded: that of a relocation, or the bytes in the
/// file.
fn slot_by_goblin(elf: &Elf<'_>, data: &[u8], slot: u64) -> Option<u64> {
    let relocated = elf.dynrelas.iter().chain(elf.dynrels.iter());
    let sections =
        elf.shdr_relocs.iter().filter(|(at, _)| elf.section_headers[*at].sh_flags & 2 != 0);
    let sections = sections.flat_map(|(_, relocations)| relocations.iter());
    for relocation in relocated.chain(sections) {
        if relocation.r_offset == slot
            && let Some(addend) = relocation.r_addend
        {
            return u64::try_from(addend).ok();
        }
    }
    let inside = |section: &&goblin::elf::SectionHeader| {
        section.sh_flags & 2 != 0 && section.vm_range().contains(&(slot as usize))
    };
    let section = elf.section_headers.iter().find(inside)?;
    let at = (section.sh_offset + slot - section.sh_addr) as usize;
    let size = if elf.is_64 { 8 } else { 4 };
    Some(data[at..at + size].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
