//! Runs the tool on the test kernels of every width and kind of link-time optimization, stripped
//! and not. A kernel that is patched ahead of boot must have the same text as one that has patched
//! itself, and must boot.
#![cfg(feature = "inspect")]

mod support {
    #[allow(dead_code, reason = "the sites that a kernel prints are for tests/boot.rs")]
    pub mod boot;
    pub mod kernel;
    pub mod table;
}
#[allow(dead_code, reason = "golden files are for tests/tool.rs")]
#[path = "tool/run.rs"]
mod tool;

use std::fs;
use std::path::Path;
use std::process::Command;

use patchlet::inspect::{Exit, FindingCode, Model, Reference, SiteState, parse, verify};
use support::boot::{self, Log};
use support::kernel::build;
use support::table::{Width, native};
use tool::{folder, tool};

#[test]
fn kernels_64_are_read_and_hold() {
    every_link(Width::Bits64);
}

#[test]
fn kernels_32_are_read_and_hold() {
    every_link(Width::Bits32);
}

fn every_link(width: Width) {
    for lto in ["fat", "thin", "off"] {
        let file = build(width, lto);
        let name = format!("{width} {lto}");
        let facts = facts(&name, &file);
        // Of a stripped kernel fewer facts may be known, but no different ones.
        let stripped = folder("kernels").join(format!("{width}-{lto}-stripped"));
        let strip = Command::new("strip").arg(&file).arg("-o").arg(&stripped).status();
        assert!(strip.expect("strip").success());
        assert_eq!(facts, self::facts(&format!("{name}, stripped"), &stripped));
    }
}

/// The facts about a kernel: its patchlets by name, its sites by address and op.
#[derive(Debug, PartialEq)]
struct Facts {
    patchlets: Vec<(String, Vec<u8>)>,
    sites: Vec<(u64, String)>,
}

fn facts(name: &str, file: &Path) -> Facts {
    let path = file.to_str().expect("UTF-8");
    let mut arguments = vec!["verify", path, "--require", "invlpg,rdtsc"];
    let own = ["own.S", "ap.S", "hypercall.S"].map(|name| format!("tests/kernel/asm/{name}"));
    // Also those of the ready-made set: kept by the bytes, and fit for the ops whose variants they are.
    let by_feature = if name.starts_with("64") { "asm/cpu_64.S" } else { "asm/cpu_32.S" };
    let sources = own.into_iter().chain([by_feature.to_owned()]).collect::<Vec<_>>();
    arguments.extend(sources.iter().flat_map(|source| ["--contracts", source]));
    let output = tool(&arguments);
    assert_eq!(output.exit, Exit::Holds, "{name}: {}{}", output.out, output.err);
    let data = fs::read(file).expect("it can be read");
    let model = Model::new(parse(&data).expect("ELF")).expect("linked");
    let mut patchlets: Vec<(String, Vec<u8>)> =
        model.patchlets().iter().map(|found| (found.name.into(), found.bytes.into())).collect();
    patchlets.sort();
    // The built-in table, the one by CPU feature, and the kernel's own.
    assert_eq!(model.tables().len(), 3, "{name}");
    let site = |record: &patchlet::inspect::SiteImage| {
        let op = model.op(record).expect("each record is of an op");
        assert_eq!(model.state(record), SiteState::Indirect, "{name}, {:#x}", record.site);
        (record.site, model.op_name(op))
    };
    let sites: Vec<_> = model.records().iter().map(site).collect();
    assert!(sites.len() >= 1000, "{name}: {} sites", sites.len());
    for op in ["irq.save_fl", "mmu.ident", "tlb.flush_page", "time.ticks_low"] {
        assert!(sites.iter().any(|site| site.1 == op), "{name}: no site of {op}");
    }
    Facts { patchlets, sites }
}

/// A table that was lost, by a link in two steps or a tool behind the linker, does not look like a
/// complete one: each of its sites is a call that no record says.
#[test]
fn a_lost_table_of_sites_is_noticed() {
    for width in [Width::Bits64, Width::Bits32] {
        let file = build(width, "fat");
        let data = fs::read(&file).expect("it can be read");
        let model = Model::new(parse(&data).expect("ELF")).expect("linked");
        let mut sites: Vec<u64> = model.records().iter().map(|record| record.site).collect();
        sites.sort_unstable();
        sites.dedup();
        let lost = folder("lost").join(format!("{width}"));
        let stripped = folder("lost").join(format!("{width}-stripped"));
        for (path, more) in [(&lost, None), (&stripped, Some("--strip-all"))] {
            let mut objcopy = Command::new("objcopy");
            objcopy.arg("--remove-section=patchlet_sites").args(more).arg(&file).arg(path);
            assert!(objcopy.status().expect("objcopy").success());
            let data = fs::read(path).expect("objcopy wrote it");
            let model = Model::new(parse(&data).expect("ELF")).expect("linked");
            let findings = verify(&model, &Reference::native(&model), &mut |_, _| ());
            let counts = findings.counts().into_iter();
            let unrecorded = counts.filter(|(code, _)| *code == FindingCode::Unrecorded);
            let unrecorded: Vec<usize> = unrecorded.map(|(_, count)| count).collect();
            assert_eq!(unrecorded, [sites.len()], "{width}, {more:?}");
        }
    }
}

#[test]
fn the_64_bit_kernel_patched_ahead_of_boot() {
    ahead_of_boot(Width::Bits64);
}

#[test]
fn the_32_bit_kernel_patched_ahead_of_boot() {
    ahead_of_boot(Width::Bits32);
}

fn ahead_of_boot(width: Width) {
    let file = build(width, "fat");
    let path = file.to_str().expect("UTF-8");
    let folder = folder(&format!("ahead-of-boot-{width}"));
    let patched = folder.join("patched");
    let patched_path = patched.to_str().expect("UTF-8");
    let output = tool(&["apply", path, "-o", patched_path]);
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    assert_eq!(tool(&["verify", patched_path]).exit, Exit::Holds);

    // The text must be byte for byte that of the kernel after it has patched itself.
    let log = boot::boot(&file, &["-append", "modules=0"]);
    assert_eq!(hash_of_text(&file), printed(&log, "unpatched"));
    assert_eq!(hash_of_text(&patched), printed(&log, "native"));

    // The patched kernel boots, finds nothing left to patch, and passes the same tests.
    let log = boot::boot(&patched, &["-append", "patched=1 modules=0"]);
    assert_eq!(printed(&log, "unpatched"), printed(&log, "native"));
    let report = log.lines("report").find(|line| line.starts_with("native: ")).expect("a report");
    assert!(report.contains(" 0 changed: "), "{report}");
    assert!(log.lines("executed").count() >= native(width).len());

    let back = folder.join("back");
    let output = tool(&["apply", "--revert", patched_path, "-o", back.to_str().expect("UTF-8")]);
    assert_eq!(output.exit, Exit::Holds, "{}", output.err);
    assert!(fs::read(&back).expect("back") == fs::read(&file).expect("the kernel"));
}

/// Returns the hash of text that the kernel printed for a state, `text native: 0x…`.
fn printed(log: &Log, state: &str) -> u64 {
    let prefix = format!("{state}: 0x");
    let digits = log.lines("text").find_map(|line| line.strip_prefix(&*prefix));
    let digits = digits.unwrap_or_else(|| panic!("no hash of text {state} in\n{log}"));
    u64::from_str_radix(digits, 16).expect("hex")
}

/// Returns the hash FNV-1a of all of text in a file, computed as in `tests/kernel/src/patching.rs`.
fn hash_of_text(file: &Path) -> u64 {
    let data = fs::read(file).expect("it can be read");
    let image = parse(&data).expect("ELF");
    let address = |name: &str| {
        let symbols = image.symbols();
        let found = symbols.list().iter().find(|symbol| symbols.name(symbol) == name);
        found.unwrap_or_else(|| panic!("no symbol {name}")).address
    };
    let (start, end) = (address("__text_start"), address("__text_end"));
    let text = image.sections().iter().find(|section| section.name == ".text").expect(".text");
    let bytes = text.bytes(start, end - start).expect("text is in .text");
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
