//! Tests what the tool says and does of keys, branch sites and variants, on the sample that has them.

use std::fs;
use std::process::Command;

use patchlet::Width;
use patchlet::inspect::{BranchForm, Exit, Model, parse};

use crate::sample::{KEY_WORDS, NOP5, Sample, jump};
use crate::tool::{file, findings, tool};

const WIDTHS: [Width; 2] = [Width::Bits64, Width::Bits32];

fn sample(width: Width) -> Sample {
    Sample::new(width).with_op_records().with_variants_and_branches()
}

/// Returns the samples of every kind, with names.
fn all() -> Vec<(String, Sample)> {
    let mut all = Vec::new();
    for width in WIDTHS {
        all.push((format!("{width:?}"), sample(width)));
        all.push((format!("{width:?}-stripped"), sample(width).stripped()));
    }
    all.push(("pie".to_owned(), sample(Width::Bits64).position_independent()));
    all.push(("pie-stripped".to_owned(), sample(Width::Bits64).position_independent().stripped()));
    all
}

#[test]
fn good_files_have_no_finding() {
    for (name, sample) in all() {
        assert_eq!(findings(&sample.bytes()), [], "{name}");
    }
}

/// Checks that what the model says of keys, branch sites and variants is what the sample was made
/// of.
#[test]
fn everything_is_read() {
    for (name, sample) in all() {
        let bytes = sample.bytes();
        let model = Model::new(parse(&bytes).expect("ELF")).expect("linked");
        let keys: Vec<_> = model
            .keys()
            .iter()
            .map(|key| (key.name, key.address, key.initially_on, key.is_counted, key.state))
            .collect();
        let expected = [
            ("TRACE", Some(KEY_WORDS), false, false, Some(0)),
            ("DEBUG", Some(KEY_WORDS + 8), true, true, Some(1)),
        ];
        assert_eq!(keys, expected, "{name}");
        let branches: Vec<_> = model
            .branches()
            .iter()
            .map(|branch| {
                let key = model.key(branch).expect("a key").name;
                (branch.site, key, branch.jumps_when(), model.branch_form(branch))
            })
            .collect();
        let [trace, debug, at_end] = sample.branches[..] else { panic!("three branch sites") };
        let expected = [
            (trace, "TRACE", Some(true), BranchForm::Nop),
            (debug, "DEBUG", Some(false), BranchForm::Nop),
            (at_end, "DEBUG", Some(true), BranchForm::Jump),
        ];
        assert_eq!(branches, expected, "{name}");
        // The site of `ticks_low` is the fourth.
        let variants: Vec<_> = model
            .variants_of(model.records()[3].slot)
            .iter()
            .map(|variant| (variant.place, variant.requirements().collect::<Vec<_>>()))
            .collect();
        let expected = [
            (0, vec![("SMAP_ENABLED", true)]),
            (1, vec![("ERMS", true), ("BROKEN", false)]),
            (2, vec![("FSRM", true)]),
        ];
        assert_eq!(variants, expected, "{name}");
    }
}

/// Checks that `apply --key` changes the key's word and all of its sites, and nothing else, and that
/// `--revert` gives the original file back.
#[test]
fn a_key_is_applied_with_its_sites() {
    for (name, sample) in all() {
        let original = sample.bytes();
        let path = file("apply-key", &name, &original);
        let (out, back) = (format!("{path}.patched"), format!("{path}.back"));
        let arguments = ["apply", &path, "-o", &out, "--key", "TRACE=on", "--key", "DEBUG=off"];
        let output = tool(&arguments);
        assert_eq!(output.exit, Exit::Holds, "{name}: {}{}", output.out, output.err);
        assert!(
            output.out.ends_with("; 3 branch sites, 3 patched; 2 keys, 2 changed\n"),
            "{}",
            output.out
        );
        let patched = fs::read(&out).expect("it was written");
        assert_eq!(findings(&patched), [], "{name}");

        // The rest is what `apply` makes without keys.
        let native = format!("{path}.native");
        assert_eq!(tool(&["apply", &path, "-o", &native]).exit, Exit::Holds);
        let mut expected = sample.clone();
        let [trace, debug, at_end] = sample.branches[..] else { panic!("three branch sites") };
        let end = at_end + 7;
        let cold = (end + 2).next_multiple_of(16);
        expected.at(trace)[..5].copy_from_slice(&jump(trace, end));
        expected.at(debug)[..5].copy_from_slice(&jump(debug, cold));
        expected.at(at_end)[..5].copy_from_slice(&NOP5);
        expected.at(KEY_WORDS)[0] = 1;
        expected.at(KEY_WORDS + 8)[0] = 0;
        let native = fs::read(&native).expect("it was written");
        let expected = expected.bytes();
        assert_eq!(expected.len(), patched.len());
        for (at, byte) in patched.iter().enumerate() {
            // Either one of the bytes above, or what a patched site has.
            let is = *byte == expected[at] || (expected[at] == original[at] && *byte == native[at]);
            assert!(is, "{name}: {byte:#x} at offset {at:#x}");
        }
        assert!(patched != native, "{name}");

        let output = tool(&["apply", "--revert", &out, "-o", &back]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        assert_eq!(fs::read(&back).expect("it was written"), original, "{name}");
        let output = tool(&["apply", &out, "-o", &back, "--key", "TRACE=on"]);
        assert!(output.out.ends_with("3 branch sites, 0 patched; 2 keys, 0 changed\n"), "{name}");
    }
}

/// Checks the words of a command line that mean a key.
#[test]
fn keys_are_named_and_others_are_refused() {
    let mut sample = sample(Width::Bits64);
    sample.key("TRACE", false, false);
    sample.symbols.last_mut().expect("the key's").name = "OTHER_TRACE".to_owned();
    let path = file("keys", "kernel", &sample.bytes());
    let plan = |key: &str| tool(&["plan", &path, "--key", key]);
    let first = format!("{KEY_WORDS:#x}=on");
    for (key, line) in [
        ("DEBUG=off", "key DEBUG: on, 1 → off"),
        (&*first, "key TRACE: off → on"),
        ("OTHER_TRACE=on", "0x138010  key TRACE: off → on"),
    ] {
        let output = plan(key);
        assert_eq!(output.exit, Exit::Holds, "{key}: {}", output.err);
        assert_eq!(output.out.matches("  key ").count(), 1, "{key}: {}", output.out);
        assert!(output.out.contains(line), "{key}: {}", output.out);
    }
    for (key, why) in [
        (
            "TRACE=on",
            "`TRACE` is the name of several keys: say 0x138000 (TRACE) or 0x138010 (OTHER_TRACE)",
        ),
        ("NOTHING=on", "no key is called `NOTHING`; there are DEBUG, TRACE"),
        ("DEBUG", "`DEBUG` is no state of a key"),
        ("DEBUG=maybe", "`DEBUG=maybe` is no state of a key"),
        ("=on", "`=on` is no state of a key"),
    ] {
        let output = plan(key);
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{key}");
        assert!(output.err.contains(why), "{key}: {}", output.err);
    }
    let output = tool(&["sites", &path, "--key", "TRACE"]);
    assert!(output.out.contains("1 branch site of 3: 1 nop, 0 jump, 0 foreign"), "{}", output.out);
    assert!(!output.out.contains("indirect"), "{}", output.out);
    let output = tool(&["sites", &path, "--key", "DEBUG", "--op", "save_fl"]);
    assert!(output.out.contains("1 site of 6") && output.out.contains("2 branch sites of 3"));
    let output = tool(&["sites", &path, "--op", "save_fl"]);
    assert!(!output.out.contains("branch site"), "{}", output.out);
    let output = tool(&["sites", &path, "--function", "traced"]);
    assert!(output.out.contains("0 sites of 6") && output.out.contains("3 branch sites:"));
    let output = tool(&["sites", &path, "--key", "NOTHING"]);
    assert_eq!((output.exit, &*output.out), (Exit::Failed, ""));
}

/// Checks that a key in zeroed memory can be read, and not be changed in the file.
#[test]
fn a_key_in_zeroed_memory_has_no_bytes() {
    let mut sample = sample(Width::Bits64);
    let words = sample.section_mut(".keys");
    words.kind = crate::sample::NOBITS;
    words.size = Some(words.data.len() as u64);
    words.data.clear();
    // DEBUG is off now: its sites change, and what it is from the start.
    let [_, debug, at_end] = sample.branches[..] else { panic!("three branch sites") };
    let cold = (at_end + 9).next_multiple_of(16);
    sample.at(debug)[..5].copy_from_slice(&jump(debug, cold));
    sample.at(at_end)[..5].copy_from_slice(&NOP5);
    assert_eq!(findings(&sample.bytes()), []);
    let path = file("zeroed", "kernel", &sample.bytes());
    let output = tool(&["list", &path]);
    assert!(output.out.contains("counted  on         off"), "{}", output.out);
    let output = tool(&["apply", &path, "-o", &format!("{path}.out"), "--key", "TRACE=on"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(
        output.err.contains("the key `TRACE` at 0x138000 is in zeroed memory"),
        "{}",
        output.err
    );
}

/// Checks that 32-bit files for CPUs without NOPL keep the NOP of their branch sites, which is one
/// instruction.
#[test]
fn the_nop_of_a_branch_site_is_that_of_the_file() {
    const LEA: [u8; 5] = [0x3e, 0x8d, 0x74, 0x26, 0x00];
    let mut sample = sample(Width::Bits32);
    for site in sample.branches.clone() {
        if sample.at(site)[..5] == NOP5 {
            sample.at(site)[..5].copy_from_slice(&LEA);
        }
    }
    assert_eq!(findings(&sample.bytes()), []);
    let path = file("lea", "kernel", &sample.bytes());
    let output = tool(&["plan", &path, "--key", "DEBUG=off"]);
    assert!(output.out.contains("+ 3e 8d 74 26 00"), "{}", output.out);
    assert!(!output.out.contains("+ 0f 1f 44 00 00\n"), "{}", output.out);
    // In 64-bit code these bytes would change RSI.
    let mut wide = self::sample(Width::Bits64);
    let site = wide.branches[0];
    wide.at(site)[..5].copy_from_slice(&LEA);
    let found = findings(&wide.bytes());
    assert!(found.len() == 1 && found[0].to_string().starts_with("site-bytes"), "{found:?}");
}

/// Checks that a target is an instruction also where its bytes could be padding behind the end of a
/// function: `ud2` up to the alignment, and an instruction that begins with a zero.
#[test]
fn a_target_is_no_padding() {
    for width in WIDTHS {
        for (before, target) in [
            // ret; ud2 at the last two bytes before a multiple of 16.
            (&[0xc3][..], &[0x0f, 0x0b][..]),
            // ret; three zeros of which the last is that of `add %al, %al`.
            (&[0xc3, 0x00, 0x00], &[0x00, 0xc0]),
        ] {
            let mut sample = sample(width);
            let start = sample.begin(&[0x55]);
            let trace = sample.branch("TRACE", 0);
            let code = before.len() + target.len();
            while !(sample.here() + code as u64).is_multiple_of(16) {
                sample.code(&[0x90]);
            }
            sample.code(before);
            sample.land(trace, sample.here());
            sample.code(target);
            sample.end("padded", start);
            sample.symbol_mut("__stop_patchlet_branches").address += 16;
            assert_eq!(findings(&sample.bytes()), [], "{width:?} {target:02x?}");
            assert_eq!(findings(&sample.stripped().bytes()), [], "{width:?} {target:02x?}");
        }
    }
}

/// Checks that keys are listed before linking, too: those of objects, each with a section of its own,
/// and of archives.
#[test]
fn keys_of_objects_are_listed() {
    const SOURCE: &str = r#"
        .pushsection patchlet_keys, "a", @progbits
        .long FIRST - .
        .byte 1, 0, 0, 5
        .ascii "FIRST"
        .balign 4
        .popsection
        .pushsection patchlet_keys.second, "a", @progbits
        .long SECOND - .
        .byte 0, 1, 0, 6
        .ascii "SECOND"
        .balign 4
        .popsection
"#;
    let source = file("object-keys", "keys.s", SOURCE.as_bytes());
    for width in ["-m64", "-m32"] {
        let (object, archive) = (format!("{source}{width}.o"), format!("{source}{width}.a"));
        for command in
            [&["gcc", width, "-c", &source, "-o", &object][..], &["ar", "rcs", &archive, &object]]
        {
            let _ = fs::remove_file(&archive);
            let status = Command::new(command[0]).args(&command[1..]).status();
            assert!(status.expect("it starts").success(), "{command:?}");
        }
        for path in [&object, &archive] {
            let output = tool(&["list", path]);
            assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
            let rows: Vec<Vec<&str>> = output
                .out
                .lines()
                .filter(|line| line.starts_with('-'))
                .map(|line| line.split_whitespace().collect())
                .collect();
            let expected = [
                vec!["-", "FIRST", "plain", "on", "?", "-"],
                vec!["-", "SECOND", "counted", "off", "?", "-"],
            ];
            assert_eq!(rows, expected, "{}", output.out);
            assert!(output.out.contains("0 patchlets, 2 keys"), "{}", output.out);
        }
    }
}
