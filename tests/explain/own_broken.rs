//! The command on kernels with this crate: what it prints, and that no damage of a file or a dump makes
//! it panic.

use patchlet::Width;
use patchlet::inspect::{Exit, Model, ModuleFile, RawAddress, explain_running, parse};

use crate::kernel::{Kernel, core};
use crate::own::{Own, SAVE};
use crate::sample::{DATA, KEY_WORDS, TEXT};
use crate::tool::{file, tool};

#[test]
fn the_command_says_what_it_found() {
    let mut own = Own::new(Width::Bits64);
    own.patch();
    let elf = file("explain-own", "kernel", &own.sample.bytes());
    let dump = file("explain-own", "ram", &own.memory);
    let arguments = ["explain", &elf, "--memory", &dump, "--base", "0x100000"];
    let output = tool(&arguments);
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    for part in [
        "a kernel with patchlet, ELF64 executable",
        "9 sites of 6 ops, 6 slots read; 3 branch sites of 2 keys, 2 keys read",
        "op     proven        9",
        "nothing unexplained",
    ] {
        assert!(output.out.contains(part), "{part}: {}", output.out);
    }
    let json = tool(&[&arguments[..], &["--json"]].concat());
    for part in [r#""kernel": "a kernel with patchlet"#, r#""release": null"#, r#""cause": "op""#] {
        assert!(json.out.contains(part), "{part}: {}", json.out);
    }
    own.fill(SAVE[1], &[0xcc]);
    let dump = file("explain-own", "changed", &own.memory);
    let output = tool(&["explain", &elf, "--memory", &dump, "--base", "0x100000"]);
    assert_eq!(output.exit, Exit::Finding);
    assert!(output.out.contains("1 range unexplained"), "{}", output.out);

    // Another build, and a module that is in no dump without page tables.
    let output = tool(&["explain", &elf, "--memory", &elf, "--phys", "0x0"]);
    assert_eq!(output.exit, Exit::Failed);
    let module = file("explain-own", "module.o", b"text");
    let output = tool(&[&arguments[..], &["--module", &module]].concat());
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("module.o: "), "{}", output.err);

    // Options for the other kind of kernel.
    let output = tool(&[&arguments[..], &["--cpu", "Haswell"]].concat());
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("--cpu is for Linux"), "{}", output.err);
    let linux = file("explain-own", "vmlinux", &Kernel::new(Width::Bits64).file_and_memory().0);
    let output = tool(&["explain", &linux, "--memory", &dump, "--module", &module]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("--module is for kernels with patchlet"), "{}", output.err);
}

/// Returns what the fuzzer starts from: a name, a file, a dump, and whether that has no header.
pub fn seeds() -> Vec<(String, Vec<u8>, Vec<u8>, bool)> {
    let mut seeds = vec![];
    for width in [Width::Bits64, Width::Bits32] {
        let mut own = Own::new(width);
        own.patch();
        let part = |address: u64, size: usize| {
            let at = (address - TEXT) as usize;
            (address, &own.memory[at..at + size])
        };
        let size = |name: &str| own.sample.section(name).data.len();
        let text = part(TEXT, size(".text"));
        let dump = core(&[text, part(DATA, size(".data")), part(KEY_WORDS, size(".keys"))], 0);
        let file = own.sample.bytes();
        seeds.push((format!("{width:?}-core"), file.clone(), dump, false));
        seeds.push((format!("{width:?}-raw"), file, text.1.to_vec(), true));
    }
    seeds
}

#[test]
fn no_damage_makes_it_panic() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut own = Own::new(width);
        own.patch();
        let (file, memory) = (own.sample.bytes(), own.memory.clone());
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 8) as usize % below
        };
        let mut read = 0;
        for round in 0..200 {
            let (mut file, mut memory) = (file.clone(), memory.clone());
            for _ in 0..round % 5 {
                let at = next(file.len());
                file[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)];
            }
            for _ in 0..next(40) {
                // Text, slots, keys.
                let at = [next(0x1000), 0x1_4000 + next(0x400), 0x3_8000 + next(16)][next(3)];
                memory[at] = [0, 1, 0xcc, 0xe8, 0xff][next(5)];
            }
            let Ok(model) = parse(&file).and_then(Model::new) else { continue };
            let raw = Some(RawAddress::Virtual(TEXT));
            let modules = [ModuleFile::new("itself", &file)];
            for modules in [&[][..], &modules] {
                read += usize::from(
                    explain_running(&model, &file, &memory, raw, modules, round % 2 == 0).is_ok(),
                );
            }
        }
        assert!(read > 50, "only {read} were explained");
    }
}
