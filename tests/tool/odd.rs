//! Runs the tool on files that are not what they seem. Each command must say so in one sentence,
//! without findings about something else, and must not succeed.

use patchlet::Width;
use patchlet::inspect::Exit;

use crate::sample::{
    ALLOC, DATA, EXECUTE, I386, NOBITS, PROGBITS, Sample, Section, TEXT, WRITE, X86_64,
};
use crate::tool::{Output, file, findings, tool};

const WIDTHS: [Width; 2] = [Width::Bits64, Width::Bits32];

/// Runs every command on a file.
fn every_command(path: &str) -> Vec<(&'static str, Output)> {
    let out = format!("{path}.out");
    vec![
        ("list", tool(&["list", path])),
        ("sites", tool(&["sites", path])),
        ("verify", tool(&["verify", path])),
        ("plan", tool(&["plan", path, "--platform", "native"])),
        ("apply", tool(&["apply", path, "-o", &out])),
        ("raw", tool(&["raw", path])),
        ("diff", tool(&["diff", path, path])),
    ]
}

/// Checks that each command refuses the file with one sentence.
#[track_caller]
fn refused(name: &str, bytes: &[u8], why: &str) {
    let path = file("odd", name, bytes);
    for (command, output) in every_command(&path) {
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{command} {name}");
        assert!(output.err.contains(why), "{command} {name}: {}", output.err);
        assert_eq!(output.err.lines().count(), 1, "{command} {name}: {}", output.err);
    }
}

/// Makes a program that was built without the crate.
fn foreign(width: Width) -> Sample {
    let mut sample = Sample::new(width);
    let crates = ["patchlet_index", "patchlet_sites", ".rodata.patchlets"];
    sample.sections.retain(|section| !crates.contains(&section.name));
    sample.symbols.clear();
    sample.sites.clear();
    sample.symbol("main", TEXT, 8, crate::sample::FUNC, ".text");
    sample
}

#[test]
fn a_file_without_anything_of_the_crate() {
    for width in WIDTHS {
        for (name, sample) in [("foreign", foreign(width)), ("bare", foreign(width).stripped())] {
            let path = file("odd", name, &sample.bytes());
            for (command, output) in every_command(&path) {
                let words = "there is no patchlet, no site and no ops table in it";
                match command {
                    "list" => assert!(output.out.ends_with(", 0 patchlets\n"), "{}", output.out),
                    "diff" => {
                        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""));
                        assert!(output.err.contains(words), "{}", output.err);
                    }
                    _ => {
                        assert_eq!(output.exit, Exit::Finding, "{command}");
                        assert!(output.out.starts_with("nothing-here: ELF"), "{}", output.out);
                        assert!(output.out.contains(words), "{}", output.out);
                    }
                }
                // `apply` prints one more line, which says that nothing was written.
                let lines = output.out.lines().chain(output.err.lines()).count();
                assert_eq!(lines, if command == "apply" { 2 } else { 1 }, "{command}");
            }
        }
    }
}

/// Checks 64-bit code in a 32-bit file, as `objcopy -O elf32-i386 kernel wrapper` makes it, and the
/// other way round.
#[test]
fn code_of_the_other_width() {
    for width in WIDTHS {
        let (other, machine, words) = match width {
            Width::Bits64 => (Width::Bits32, I386, "64-bit code in an ELF32 file"),
            Width::Bits32 => (Width::Bits64, X86_64, "32-bit code in an ELF64 file"),
        };
        let mut sample = Sample::new(width);
        (sample.width, sample.machine) = (other, machine);
        refused("wrapper", &sample.bytes(), words);
        refused("wrapper-stripped", &sample.clone().stripped().bytes(), words);
        // Without patchlets, only the sites show the width.
        sample.section_mut("patchlet_index").name = "other_index";
        sample.symbols.retain(|symbol| symbol.name.contains("patchlet_sites"));
        let path = file("odd", "wrapper-sites", &sample.bytes());
        for command in ["sites", "verify"] {
            let output = tool(&[command, &path]);
            assert_eq!(output.exit, Exit::Failed, "{}", output.out);
            assert!(output.err.contains("the sites are calls and jumps"), "{}", output.err);
        }
    }
}

/// Checks that a single patchlet with the bytes of the other width is a finding about that
/// patchlet.
#[test]
fn one_patchlet_of_the_other_width_is_a_finding() {
    let mut sample = Sample::new(Width::Bits64);
    for symbol in ["patchlet_restore_fl_start", "patchlet_native_restore_fl"] {
        let address = sample.address_of(symbol);
        sample.at(address)[0] = 0x50;
    }
    let found = findings(&sample.bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].to_string().contains("has the bytes 50 9d"), "{found:?}");
}

/// Checks a debug file, as `objcopy --only-keep-debug kernel debug` makes it.
#[test]
fn a_debug_file() {
    for width in WIDTHS {
        let mut sample = Sample::new(width);
        for section in &mut sample.sections {
            section.size = Some(section.data.len() as u64);
            (section.kind, section.data) = (NOBITS, vec![]);
        }
        refused("debug", &sample.bytes(), "a debug file: section .text has 0x");
    }
}

fn section(name: &'static str, flags: u64, address: u64, data: Vec<u8>) -> Section {
    let (kind, link, info, size, offset) = (PROGBITS, 0, 0, None, None);
    Section { name, kind, flags, address, data, link, info, size, offset }
}

/// Checks that sections may share addresses, as overlays and per-CPU data that is linked for
/// address 0.
#[test]
fn sections_that_share_addresses_where_nothing_of_the_crate_lies() {
    for width in WIDTHS {
        let mut sample = Sample::new(width);
        let code = ALLOC | EXECUTE;
        // The second starts in the middle of an instruction of the first.
        sample.sections.push(section(".overlay.a", code, 0x20_0000, vec![0xb8, 1, 2, 3, 4, 0xc3]));
        sample.sections.push(section(".overlay.b", code, 0x20_0002, vec![0x90, 0x90, 0x90, 0xc3]));
        sample.sections.push(section(".percpu.a", ALLOC | WRITE, 0, vec![1; 64]));
        sample.sections.push(section(".percpu.b", ALLOC | WRITE, 0, vec![2; 16]));
        sample.symbol("in_a", 0x20_0000, 6, crate::sample::FUNC, ".overlay.a");
        sample.symbol("in_b", 0x20_0002, 4, crate::sample::FUNC, ".overlay.b");
        for sample in [sample.clone(), sample.stripped()] {
            assert_eq!(findings(&sample.bytes()), [], "{width:?}");
            let path = file("odd", "overlay", &sample.bytes());
            for (command, output) in every_command(&path) {
                assert_eq!(output.exit, Exit::Holds, "{command}: {}{}", output.out, output.err);
            }
        }
    }
}

/// Checks that a call through an ops table without a record is found in an overlay as well.
#[test]
fn an_overlay_is_swept() {
    let mut sample = Sample::new(Width::Bits64);
    sample.sections.push(section(".overlay.a", ALLOC | EXECUTE, 0x20_0000, vec![]));
    sample.sections.push(section(".overlay.b", ALLOC | EXECUTE, 0x20_0001, vec![0xc3; 9]));
    sample.text = ".overlay.a";
    let slot = sample.slot("own_ops", 1);
    let call = sample.indirect(0x20_0000, slot, 0);
    sample.code(&call);
    // `movabs $…,%rax`, whose operand would be another such call. A function of the other overlay
    // starts at the address of the operand.
    let operand = sample.indirect(0x20_0008, slot, 0);
    sample.code(&[0x48, 0xb8]);
    sample.code(&operand);
    sample.code(&[0x90, 0x90, 0xc3]);
    sample.symbol("in_b", 0x20_0008, 2, crate::sample::FUNC, ".overlay.b");
    let found = findings(&sample.bytes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].to_string().starts_with("unrecorded: 0x200000 (tick"), "{}", found[0]);
}

#[test]
fn sections_that_share_addresses_where_something_of_the_crate_lies() {
    for (name, place, flags) in [
        ("site", None, ALLOC | EXECUTE),
        ("slot", Some(DATA + 16), ALLOC),
        ("section patchlet_sites", Some(crate::sample::SITES + 20), ALLOC),
        ("section .rodata.patchlets", Some(crate::sample::RODATA), ALLOC),
        ("native function of patchlet `irq_disable`", Some(TEXT), ALLOC | EXECUTE),
    ] {
        let mut sample = Sample::new(Width::Bits64);
        let place = place.unwrap_or(sample.sites[0].1 + 1);
        sample.sections.push(section(".overlay", flags, place, vec![0xcc; 4]));
        let path = file("odd", "overlap", &sample.bytes());
        for (command, output) in every_command(&path) {
            // `list` does not read sites and slots.
            if command == "list" && ["site", "slot"].contains(&name) {
                assert_eq!(output.exit, Exit::Holds);
                continue;
            }
            assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{command}, {name}");
            let words = format!("overlap in memory, and the {name}");
            let words = words.replace("the section", "section");
            assert!(output.err.contains(&words), "{command}, {name}: {}", output.err);
        }
    }
}

/// Returns a member of an archive.
fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let size = bytes.len();
    let mut all =
        format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644).into_bytes();
    all.extend(bytes);
    if !size.is_multiple_of(2) {
        all.push(b'\n');
    }
    all
}

#[test]
fn archives_in_every_command() {
    let object = Sample::new(Width::Bits64).bytes();
    let one = [&b"!<arch>\n"[..], &member("a.o/", &object)].concat();
    let two = [&one[..], &member("b.o/", &object), &member("text/", b"no ELF")].concat();
    for (name, bytes, why) in [
        ("one.a", one, "an archive (1 ELF file in it): its objects have no addresses"),
        ("two.a", two, "an archive (2 ELF files in it): its objects have no addresses"),
        (
            "none.a",
            [&b"!<arch>\n"[..], &member("text/", b"no ELF")].concat(),
            "without any ELF file",
        ),
        ("empty.a", b"!<arch>\n".to_vec(), "without any ELF file"),
        ("thin.a", b"!<thin>\n".to_vec(), "a thin archive"),
    ] {
        let path = file("odd", name, &bytes);
        for (command, output) in every_command(&path) {
            if command != "list" {
                assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{command} {name}");
                assert!(output.err.contains(why), "{command} {name}: {}", output.err);
                assert_eq!(output.err.lines().count(), 1);
            } else if matches!(name, "none.a" | "empty.a") {
                assert_eq!((output.exit, &*output.err), (Exit::Finding, ""), "{name}");
                let line = format!("archive-empty: archive {path}: has no ELF file in it; ");
                assert!(output.out.starts_with(&line), "{}", output.out);
                assert_eq!(output.out.lines().count(), 1);
                let json = tool(&["list", "--json", &path]);
                assert_eq!(json.exit, Exit::Finding);
                assert!(json.out.contains("\"code\": \"archive-empty\""), "{}", json.out);
            }
        }
    }
}

/// Checks a table that ends with half a record: the rest is shown, together with a finding.
#[test]
fn a_hurt_table_is_told_by_every_command() {
    let mut sample = Sample::new(Width::Bits64);
    sample.section_mut("patchlet_sites").data.extend([0; 4]);
    sample.symbol_mut("__stop_patchlet_sites").address += 4;
    let path = file("odd", "hurt", &sample.bytes());
    let words = "it has 76 bytes, which is no multiple of a record's 12";
    for (command, output) in every_command(&path) {
        match command {
            "list" => assert_eq!(output.exit, Exit::Holds),
            "diff" => {
                assert_eq!((output.exit, &*output.out), (Exit::Failed, ""));
                assert!(output.err.contains(words), "{}", output.err);
            }
            _ => {
                assert_eq!(output.exit, Exit::Finding, "{command}");
                assert!(output.out.contains(words), "{command}: {}", output.out);
            }
        }
    }
    for command in
        [&["sites", "--json", &path][..], &["plan", "--json", &path, "--platform", "native"]]
    {
        let output = tool(command);
        assert_eq!(output.exit, Exit::Finding);
        assert!(output.out.contains("\"code\": \"record-table\""), "{}", output.out);
    }
    // If the whole table is missing, no command may report 0 sites and succeed.
    let mut sample = Sample::new(Width::Bits64).stripped();
    sample.section_mut("patchlet_sites").name = ".rodata";
    let path = file("odd", "gone", &sample.bytes());
    let output = tool(&["sites", &path]);
    assert_eq!(output.exit, Exit::Finding);
    assert!(output.out.contains("record-table: table of records, section patchlet_sites"));
}

/// Checks that addresses of a position-independent file are marked as such, and can be shown as
/// loaded.
#[test]
fn addresses_of_a_position_independent_file() {
    let sample = Sample::new(Width::Bits64).position_independent();
    let path = file("odd", "pie", &sample.bytes());
    let site = sample.sites[0].1;
    let linked = tool(&["sites", &path]);
    let words = "addresses as linked; all move by one distance when it is loaded\n";
    assert!(
        linked
            .out
            .lines()
            .next()
            .is_some_and(|line| words.starts_with(&line[line.len() - words.len() + 1..]))
    );
    assert!(linked.out.contains(&format!("{site:#x}  save_fl")), "{}", linked.out);
    // The first byte that is loaded is that of .text.
    let loaded = tool(&["sites", &path, "--loaded-at", "0xffff800000000000"]);
    let moved = 0xffff_8000_0000_0000 + (site - TEXT);
    assert!(loaded.out.contains(&format!("{moved:#x}  save_fl")), "{}", loaded.out);
    let slot = sample.slot("patchlet_pv_ops", 2) - TEXT + 0xffff_8000_0000_0000;
    assert!(loaded.out.contains(&format!("callq *{slot:#x}")), "{}", loaded.out);
    assert!(loaded.out.contains("; addresses as loaded at 0xffff800000000000\n"));
    assert!(loaded.out.contains("save_and_disable+0x1"), "{}", loaded.out);
    for command in ["list", "raw"] {
        let out = tool(&[command, &path]).out;
        assert!(out.lines().next().is_some_and(|line| line.ends_with(words.trim_end())), "{out}");
    }
    let json = tool(&["sites", "--json", &path]).out;
    assert!(json.contains("\"addresses\": \"addresses as linked;"), "{json}");

    let fixed = file("odd", "fixed", &Sample::new(Width::Bits64).bytes());
    let output = tool(&["sites", &fixed, "--loaded-at", "0x1000"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("linked for a fixed address"), "{}", output.err);
    assert_eq!(tool(&["sites", &path, "--loaded-at", "1000"]).exit, Exit::Failed);
}

/// Checks zeros between functions, with which mold pads text. Two of them are an instruction, and
/// without symbols only the padding shows where the next function starts.
#[test]
fn zeros_between_functions() {
    for width in WIDTHS {
        for behind in 0..16 {
            // The function behind the zeros starts with a site, or with a byte that a decoder out
            // of step would take for an operand. Before the zeros may be a call that does not
            // return.
            for (first, end) in [
                (&[][..], &[0xc3][..]),
                (&[0x55], &[0x0f, 0x0b]),
                (&[0x50, 0x51], &[0xe8, 0, 0, 0, 0]),
            ] {
                let mut sample = Sample::new(width);
                let start = sample.begin(&vec![0x90; behind]);
                sample.code(end);
                sample.end("before", start);
                while !sample.here().is_multiple_of(16) {
                    sample.code(&[0]);
                }
                let start = sample.begin(first);
                sample.site("own_ops", 1, 6, 0);
                sample.code(&[0xc3]);
                sample.end("behind", start);
                // Padding also follows the last function.
                sample.code(&[0; 33]);
                sample.bound_records();
                assert_eq!(findings(&sample.bytes()), [], "{width:?} {behind} {first:02x?}");
                let stripped = sample.stripped();
                assert_eq!(findings(&stripped.bytes()), [], "{width:?} {behind} {first:02x?}");
            }
        }
    }
}

/// Checks that zeros in code are not taken for padding: a site that starts inside of an instruction
/// is still a finding.
#[test]
fn zeros_in_code_are_no_padding() {
    for width in WIDTHS {
        let sample = Sample::new(width);
        // NOPs, then `add %al,(%rax)`, then the first byte of another: up to the site, or up to a
        // multiple of 16.
        for nops in [1, 13] {
            let mut sample = sample.clone();
            let start = sample.begin(&vec![0x90; nops]);
            sample.code(&[0, 0, 0]);
            sample.site("own_ops", 1, 6, 0);
            sample.code(&[0xc3]);
            sample.end("strange", start);
            sample.bound_records();
            for sample in [sample.clone(), sample.stripped()] {
                let found = findings(&sample.bytes());
                assert_eq!(found.len(), 1, "{width:?} {nops} {found:?}");
                assert!(found[0].to_string().contains("in the middle of the instruction"));
            }
        }
    }
}

/// Returns the bytes of a thunk in one of the forms that compilers use instead of indirect
/// branches.
fn thunk(width: Width, form: usize) -> Vec<u8> {
    // The retpoline: call over; pause; lfence; jmp back; then store the register and return.
    let store: &[u8] = match width {
        Width::Bits64 => &[0x48, 0x89, 0x04, 0x24],
        Width::Bits32 => &[0x89, 0x0c, 0x24],
    };
    let jump: &[u8] = if width == Width::Bits64 { &[0xff, 0xe0] } else { &[0xff, 0xe1] };
    let spin = [0xe8, 7, 0, 0, 0, 0xf3, 0x90, 0x0f, 0xae, 0xe8, 0xeb, 0xf9];
    match form {
        0 => [&spin[..], store, &[0xc3]].concat(),
        // The same in a kernel with return thunks: a jump to another thunk instead of `ret`.
        1 => [&spin[..], store, &[0xe9, 0, 0, 0, 0]].concat(),
        2 => jump.to_vec(),
        3 => [&[0x0f, 0xae, 0xe8], jump].concat(),
        // endbr64 or endbr32
        _ => [&[0xf3, 0x0f, 0x1e, if width == Width::Bits64 { 0xfa } else { 0xfb }], jump].concat(),
    }
}

/// Checks that calls through thunks are found without symbols.
#[test]
fn thunks_are_known_by_their_bytes() {
    for width in WIDTHS {
        for form in 0..5 {
            let mut sample = Sample::new(width);
            let thunk = sample.function("nobody_knows", &thunk(width, form));
            let start = sample.begin(&[0x90]);
            crate::defects::load(&mut sample);
            let at = sample.here();
            let distance = thunk.wrapping_sub(at + 5) as u32;
            sample.code(&[0xe8]);
            sample.code(&distance.to_le_bytes());
            sample.code(&[0xc3]);
            sample.end("caller", start);
            for sample in [sample.clone(), sample.stripped()] {
                let found = findings(&sample.bytes());
                assert_eq!(found.len(), 1, "{width:?} {form} {found:?}");
                let line = found[0].to_string();
                assert!(line.starts_with(&format!("unrecorded: {at:#x} (")), "{line}");
            }
        }
        // A function that is not a thunk, because it returns at once.
        let mut sample = Sample::new(width);
        let other = sample.function("other", &[0x90, 0xc3]);
        let start = sample.begin(&[0x90]);
        crate::defects::load(&mut sample);
        let distance = other.wrapping_sub(sample.here() + 5) as u32;
        sample.code(&[0xe8]);
        sample.code(&distance.to_le_bytes());
        sample.code(&[0xc3]);
        sample.end("caller", start);
        assert_eq!(findings(&sample.stripped().bytes()), []);
    }
}
