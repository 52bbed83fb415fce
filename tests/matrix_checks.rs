//! Tests the matrix: it covers all pairs of factors, and its checks find every fault in programs
//! that are broken on purpose. `make matrix` runs this test.

// This test builds programs of both widths, so it runs on one width only.
#![cfg(target_pointer_width = "64")]

mod support {
    #[allow(dead_code, reason = "only the bytes of the set are needed")]
    pub mod by_feature;
    #[allow(dead_code, reason = "hex alone is needed")]
    pub mod meaning;
    pub mod table;
}

#[allow(dead_code, reason = "the rest is for the runner")]
#[path = "programs/matrix/binary.rs"]
mod binary;
#[path = "programs/matrix/checks.rs"]
mod checks;
#[path = "programs/matrix/command.rs"]
mod command;
#[allow(dead_code, reason = "one of its two programs")]
#[path = "programs/matrix/construct.rs"]
mod construct;
#[allow(dead_code, reason = "the rest is for the runner")]
#[path = "programs/matrix/factors.rs"]
mod factors;
#[path = "programs/matrix/pairs.rs"]
mod pairs;
#[allow(dead_code, reason = "the rest is for the runner")]
#[path = "programs/matrix/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use binary::{Binary, Section, Site};
use checks::{PLACES, check, second_copies};
use factors::{Config, FACTORS, FULL, Failing, factor};
use pairs::{completable, pairs_of};
use tools::Tools;

#[test]
fn every_pair_of_values_is_covered() {
    for width in [0, 1] {
        let plan = pairs::full(width, FULL);
        let covered: BTreeSet<_> = plan.configs.iter().flat_map(pairs_of).collect();
        let impossible: BTreeSet<_> = plan.impossible.iter().copied().collect();
        let mut all = 0;
        for (one, left) in FACTORS.iter().enumerate() {
            for (other, right) in FACTORS.iter().enumerate().skip(one + 1) {
                for a in (0..left.values.len()).filter(|a| one != 0 || *a == width) {
                    for b in 0..right.values.len() {
                        let pair = ((one, a), (other, b));
                        assert!(covered.contains(&pair) != impossible.contains(&pair), "{pair:?}");
                        all += 1;
                    }
                }
            }
        }
        assert_eq!(all, covered.len() + impossible.len());
        assert!(plan.configs.iter().all(|config| config.impossible().is_none()));
    }
}

#[test]
fn every_combination_of_the_three_factors_is_built() {
    for width in [0, 1] {
        let plan = pairs::full(width, FULL);
        let [lto, opt, linker] = ["lto", "opt", "linker"].map(factor);
        let mut count = 0;
        for a in 0..FACTORS[lto].values.len() {
            for b in 0..FACTORS[opt].values.len() {
                for c in 0..FACTORS[linker].values.len() {
                    let mut partial = vec![None; FACTORS.len()];
                    partial[0] = Some(width);
                    (partial[lto], partial[opt], partial[linker]) = (Some(a), Some(b), Some(c));
                    let built = plan.configs.iter().any(|config| {
                        (config.0[lto], config.0[opt], config.0[linker]) == (a, b, c)
                    });
                    assert_eq!(built, completable(&partial));
                    count += usize::from(built);
                }
            }
        }
        // Off, thin and fat with four linkers, linker-plugin LTO with one.
        assert_eq!(count, (3 * 4 + 1) * 6);
    }
}

#[test]
fn the_short_run_has_every_value() {
    let configs: Vec<Config> = [0, 1]
        .into_iter()
        .flat_map(|width| pairs::short(width, &["lto", "linker"]).configs)
        .collect();
    for (index, factor) in FACTORS.iter().enumerate() {
        for value in 0..factor.values.len() {
            let name = factor.values[value];
            assert!(
                configs.iter().any(|config| config.0[index] == value),
                "{} {name}",
                factor.name
            );
        }
    }
}

#[test]
fn a_plan_is_the_same_every_time() {
    assert_eq!(pairs::full(0, FULL).configs, pairs::full(0, FULL).configs);
}

#[test]
fn a_configuration_can_be_written_and_read() {
    for config in pairs::full(1, FULL).configs {
        assert_eq!(Config::parse(&config.to_string()).as_ref(), Ok(&config));
        assert_eq!(Config::parse(&config.short()).as_ref(), Ok(&config));
    }
    assert_eq!(
        Config::parse("lto=thick"),
        Err(r#"`lto` has the values ["off", "thin", "fat", "plugin"]"#.into())
    );
    assert_eq!(Config::parse("glue=fat"), Err("there is no factor `glue`".into()));
}

/// Checks that an exception of the matrix applies only to the versions of tools it was seen with.
#[test]
fn a_rule_is_for_the_versions_it_was_seen_with() {
    let failing = Failing { tool: "clang", up_to: 14, builds_from: 19 };
    let builds = [13, 14, 15, 18, 19, 20].map(|major| failing.builds(major));
    assert_eq!(builds, [Some(false), Some(false), None, None, Some(true), Some(true)]);
    let mut tools = Tools::find().expect("the tools of the matrix");
    tools.versions = vec![("clang".to_owned(), "Debian clang version 19.1.7 (3+b1)".to_owned())];
    assert_eq!(tools.major("clang"), Ok(19));
    tools.versions[0].1 = "gcc (Debian 12.2.0-14+deb12u1) 12.2.0".to_owned();
    assert_eq!(tools.major("clang"), Ok(12));
    assert!(tools.major("tcc").is_err());
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("matrix").join(name);
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    folder
}

/// Builds the program of a plain configuration.
fn program(name: &str, config: &str) -> (Binary, Config) {
    let config = Config::parse(config).expect("a configuration");
    let tools = Tools::find().expect("the tools of the matrix");
    let file = construct::build(&tools, &config, &folder(name), &mut Vec::new());
    let file = fs::read(file.expect("it builds")).expect("the program");
    (Binary::read(&file).expect("it can be read"), config)
}

/// Puts faults into a correct program, one at a time, and checks the message about each.
#[test]
fn every_fault_is_seen() {
    type Fault = fn(&mut Binary);
    fn patchlet<'a>(binary: &'a mut Binary, name: &str) -> &'a mut binary::Patchlet {
        binary.patchlets.iter_mut().find(|patchlet| patchlet.name == name).expect("a patchlet")
    }
    fn section(binary: &mut Binary, address: u64) -> &mut Section {
        let inside = |section: &&mut Section| {
            (section.address..section.address + section.bytes.len() as u64).contains(&address)
        };
        binary.sections.iter_mut().find(inside).expect("a section")
    }
    fn site(binary: &Binary, capacity: u8) -> Site {
        *binary.sites.iter().find(|site| site.capacity == capacity).expect("a site")
    }
    let faults: &[(Fault, &str)] = &[
        (
            |binary| binary.patchlets.retain(|patchlet| patchlet.name != "read_cr2"),
            "patchlet `read_cr2` is missing",
        ),
        (
            |binary| binary.patchlets.retain(|patchlet| patchlet.name != "irq_disable"),
            "patchlet `irq_disable` is missing",
        ),
        (
            |binary| patchlet(binary, "restore_fl").bytes[0] = 0x50,
            "patchlet `restore_fl` is 50 9d, not 57 9d",
        ),
        (
            |binary| patchlet(binary, "save_fl").native_bytes[1] ^= 1,
            "patchlet `save_fl` is 9c 58, but its native function 9c 59",
        ),
        (|binary| patchlet(binary, "save_fl").address += 1, ", not behind `irq_enable`"),
        (|binary| binary.patchlets.extend_from_within(..1), "there are 20 patchlets, not 19"),
        (
            |binary| {
                let address = patchlet(binary, "ud2").address;
                section(binary, address).flags |= 4;
            },
            "is not in read-only data",
        ),
        (
            |binary| {
                let address = patchlet(binary, "ud2").native;
                section(binary, address).flags = 2;
            },
            "the native function of `",
        ),
        (
            |binary| {
                let at = patchlet(binary, "write_cr3").address;
                binary.relocations.push(at);
            },
            "patchlet `write_cr3` is relocated",
        ),
        (
            |binary| {
                let index = binary.section("patchlet_sites").expect("the records").address;
                binary.relocations.push(index + 8);
            },
            "patchlet_sites is relocated",
        ),
        (|binary| binary.sites.retain(|site| site.capacity != 9), " has no record"),
        (|binary| binary.sites.clear(), "the records name 0 tables"),
        (|binary| binary.sites.extend_from_within(..1), "begins inside the site before it"),
        (|binary| binary.sites[0].capacity = 33, "has capacity 33 and kind 0"),
        (|binary| binary.sites[0].kind = 2, "and kind 2"),
        (|binary| binary.sites[0].kind ^= 1, " is ff 15 "),
        (|binary| binary.sites[0].address += 1, "site 0x"),
        (|binary| binary.sites[0].address = 0x10, "is not in text"),
        (|binary| binary.sites[0].op += 1, "the records name 4 tables"),
        (
            |binary| {
                let address = site(binary, 9).address;
                let section = section(binary, address);
                let at = usize::try_from(address - section.address).expect("an offset");
                section.bytes[at + 8] = 0xcc;
            },
            "90 90 cc",
        ),
        (|binary| binary.sites.retain(|site| site.capacity != 32), " has no record"),
    ];
    let (binary, config) = program("every_fault_is_seen", "width=64,gc=start-stop");
    let summary = check(&binary, &config).expect("the program is right");
    assert_eq!((summary.patchlets, summary.dead, summary.twice), (19, 0, 0));
    for (fault, reason) in &faults[..faults.len() - 1] {
        let mut broken = binary.clone();
        fault(&mut broken);
        let said = check(&broken, &config).expect_err(reason);
        assert!(said.contains(reason), "{said}, not {reason}");
    }

    // Without garbage collection, a function that no code calls keeps its records. Where it should
    // have been dropped, these are too many.
    let (binary, config) = program("every_fault_is_seen", "width=64,gc=off");
    assert_eq!(check(&binary, &config).expect("the program is right").dead, 3);
    let (fault, reason) = &faults[faults.len() - 1];
    let mut broken = binary.clone();
    fault(&mut broken);
    assert!(check(&broken, &config).expect_err(reason).contains(reason));
    let mut other = config.clone();
    other.set("gc", "start-stop");
    assert_eq!(check(&binary, &other), Err("3 sites of dead functions are left".to_owned()));
}

/// Checks that two equal records are accepted only where mold's --icf folds functions: it keeps the
/// records of both. Two different records of one site are never accepted.
#[test]
fn a_record_that_is_there_twice_is_right_where_mold_folds() {
    let (mut binary, config) = program("twice", "width=64,gc=off");
    let mut folds = config.clone();
    folds.set("linker", "mold");
    folds.set("icf", "all");
    let nine = binary.sites.iter().position(|site| site.capacity == 9).expect("a site");
    binary.sites.push(binary.sites[nine]);
    let shared = |said: Result<checks::Summary, String>| {
        said.is_err_and(|said| said.contains("begins inside the site before it"))
    };
    assert_eq!(check(&binary, &folds).map(|summary| summary.twice), Ok(1));
    assert!(shared(check(&binary, &config)));
    binary.sites[nine].capacity = 6;
    assert!(shared(check(&binary, &folds)));
}

/// Checks that a lost record is reported with the place of its site.
#[test]
fn a_place_without_a_record_is_named() {
    let (mut binary, config) = program("a_place_without_a_record", "width=32,gc=start-stop");
    let (twin, _) = PLACES.iter().enumerate().find(|(_, (name, _))| *name == "twin").expect("it");
    let lost: Vec<u64> = binary
        .sites
        .iter()
        .filter(|site| usize::from(site.op) == twin)
        .map(|site| site.address)
        .collect();
    assert!(!lost.is_empty());
    // The code is overwritten as well, otherwise a site without a record would be reported.
    for section in &mut binary.sections {
        for address in lost.iter().filter_map(|address| address.checked_sub(section.address)) {
            let at = usize::try_from(address).expect("an offset");
            if let Some(byte) = section.bytes.get_mut(at) {
                *byte = 0x90;
            }
        }
    }
    binary.sites.retain(|site| !lost.contains(&site.address) || site.capacity != 6);
    let said = check(&binary, &config).expect_err("a place is lost");
    assert!(said == "place `twin` has 0 records" || said.starts_with("the built-in op"), "{said}");
}

// ---- programs that are broken on purpose ------------------------------------

/// Assembles the native set with changes in the headers or in the source, and links it by GNU ld
/// with `flags`. A change replaces all of its first text, which must be there, by its second.
fn broken(name: &str, header: &[(&str, &str)], source: &[(&str, &str)], flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder(name);
    let text_of = |file: &str| fs::read_to_string(root.join("asm").join(file)).expect("a source");
    let changed = |file: &str, changes: &[(&str, &str)]| {
        let mut text = text_of(file);
        for (from, to) in changes {
            assert!(text.contains(from), "{file} has no {from:?} any more");
            text = text.replace(from, to);
        }
        fs::write(folder.join(file), text).expect("a file below CARGO_TARGET_TMPDIR");
    };
    // A change of a header belongs to the one of the two that has its text.
    let (of_sites, of_patchlets): (Vec<_>, Vec<_>) =
        header.iter().copied().partition(|(from, _)| text_of("site.h").contains(from));
    changed("site.h", &of_sites);
    changed("patchlet.h", &of_patchlets);
    // The program has no blob.
    changed("blob.h", &[]);
    changed("patch_64.S", source);
    // The program refers to one patchlet and has one site.
    let start = "#include \"patchlet.h\"\n.globl _start\n_start:\n\
                 leaq patchlet_irq_disable_start(%rip), %rax\nPATCHLET_CALL save_fl\n\
                 .data\npatchlet_pv_ops: .skip 128\n";
    fs::write(folder.join("start.S"), start).expect("a file below CARGO_TARGET_TMPDIR");
    let program = folder.join("program");
    let output = Command::new("gcc")
        .args(["-nostdlib", "-static", "-no-pie", "-fuse-ld=bfd"])
        .args(flags)
        .args(["start.S", "patch_64.S", "-o"])
        .arg(&program)
        .current_dir(&folder)
        .output()
        .expect("gcc starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn read(program: &Path) -> Result<Binary, String> {
    Binary::read(&fs::read(program).expect("the program"))
}

/// Checks the native set in a program that has nothing else of the matrix.
fn native(binary: &Binary) -> Result<(), String> {
    checks::native_set(binary, support::table::Width::Bits64)?;
    checks::sections(binary)?;
    second_copies(&binary.patchlets)
}

#[test]
fn the_native_set_unbroken() {
    let program = broken("unbroken", &[], &[], &["-Wl,--gc-sections"]);
    assert_eq!(read(&program).and_then(|binary| native(&binary)), Ok(()));
}

/// Checks that a program without a site links and has an empty table. If input sections of the
/// table differ in their flags, mold makes two tables.
#[test]
fn a_program_without_a_site_has_an_empty_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder("no_site");
    let start = ".globl _start\n_start:\nleaq __stop_patchlet_sites(%rip), %rdi\n\
                 leaq __start_patchlet_sites(%rip), %rax\nsubq %rax, %rdi\n\
                 movl $60, %eax\nsyscall\n";
    fs::write(folder.join("start.S"), start).expect("a file below CARGO_TARGET_TMPDIR");
    for linker in ["bfd", "lld", "mold"] {
        for gc in ["--gc-sections", "--no-gc-sections"] {
            let output = Command::new("gcc")
                .args(["-nostdlib", "-static", "-no-pie", "start.S", "-o", "program"])
                .arg(root.join("asm/patch_64.S"))
                .args([format!("-fuse-ld={linker}"), format!("-Wl,{gc}")])
                .current_dir(&folder)
                .output()
                .expect("gcc starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{linker} {gc}: {said}");
            let status = Command::new(folder.join("program")).status().expect("it starts");
            assert_eq!(status.code(), Some(0), "bytes of records, {linker} {gc}");
        }
    }
}

/// Checks that a missing patchlet is reported: with a section for each patchlet and without the
/// flag to retain it, the linker drops those that no code refers to.
#[test]
fn a_patchlet_dropped_by_gc_is_named() {
    let header = [
        (
            ".pushsection PATCHLET_SECTION",
            ".pushsection .rodata.patchlets.\\name, \"a\", @progbits",
        ),
        (
            ".pushsection PATCHLET_INDEX",
            ".pushsection patchlet_index, \"ao\", @progbits, patchlet_\\name\\()_start",
        ),
    ];
    let program = broken("dropped", &header, &[], &["-Wl,--gc-sections"]);
    assert_eq!(
        read(&program).and_then(|binary| native(&binary)),
        Err("patchlet `irq_enable` is missing".to_owned())
    );
}

#[test]
fn a_patchlet_out_of_order_is_named() {
    let source = [
        ("PATCHLET(irq_disable)\n\tcli\nEND_PATCHLET(irq_disable)\n", ""),
        (
            "END_PATCHLET(irq_enable)\n",
            "END_PATCHLET(irq_enable)\nPATCHLET(irq_disable)\n\tcli\nEND_PATCHLET(irq_disable)\n",
        ),
    ];
    let program = broken("reordered", &[], &source, &[]);
    assert_eq!(
        read(&program).and_then(|binary| native(&binary)),
        Err("patchlet `save_fl` is where `irq_enable` belongs".to_owned())
    );
}

/// Checks that a relocation in a patchlet is reported: in a static PIE, a loader would write an
/// address into it.
#[test]
fn a_relocated_patchlet_is_named() {
    let source = [("PATCHLET(ud2)\n\tud2\n", "PATCHLET(ud2)\n\tmovabsq $_start, %rax\n")];
    let program = broken("relocated", &[], &source, &["-static-pie", "-Wl,-z,notext"]);
    let binary = read(&program).expect("it can be read");
    assert_eq!(checks::sections(&binary), Err("patchlet `ud2` is relocated".to_owned()));
}

/// Flips each bit of each patchlet and of each native function in a stripped program. The check,
/// which has neither symbols nor the source, must report each.
#[test]
fn a_flipped_bit_in_a_stripped_binary_is_named() {
    let program = broken("stripped", &[], &[], &["-s"]);
    let file = fs::read(&program).expect("the program");
    let binary = Binary::read(&file).expect("it can be read");
    assert!(binary.stripped);
    assert_eq!(second_copies(&binary.patchlets), Ok(()));
    let mut flipped = 0;
    for patchlet in &binary.patchlets {
        for start in [patchlet.address, patchlet.native] {
            for address in start..start + patchlet.bytes.len() as u64 {
                let section = binary.section_at(address).expect("a section");
                let at = section.offset + usize::try_from(address - section.address).expect("it");
                for bit in 0..8 {
                    let mut file = file.clone();
                    file[at] ^= 1 << bit;
                    let said =
                        Binary::read(&file).and_then(|binary| second_copies(&binary.patchlets));
                    let said = said.expect_err("a bit is flipped");
                    assert!(
                        said.starts_with(&format!("patchlet `{}` is ", patchlet.name)),
                        "{said}"
                    );
                    flipped += 1;
                }
            }
        }
    }
    assert_eq!(flipped, 2 * 8 * 39);
}

/// Flips each bit of each record of the index except padding, and checks that each is reported. One
/// flip is not: the address of a native function can become one with the same bytes, since `swapgs`
/// begins like `usergs_sysret64`.
#[test]
fn a_flipped_bit_in_the_index_is_seen() {
    let program = broken("index", &[], &[], &["-s"]);
    let file = fs::read(&program).expect("the program");
    let binary = Binary::read(&file).expect("it can be read");
    let index = binary.section("patchlet_index").expect("the index");
    let mut at = index.offset;
    for patchlet in &binary.patchlets {
        let len = 12 + patchlet.name.len();
        for byte in (at..at + 4).chain(at + 8..at + len) {
            for bit in 0..8 {
                let mut file = file.clone();
                file[byte] ^= 1 << bit;
                let said = Binary::read(&file).and_then(|binary| native(&binary));
                assert!(said.is_err(), "byte {} of `{}`, bit {bit}", byte - at, patchlet.name);
            }
        }
        at += len.next_multiple_of(4);
    }
    assert_eq!(at, index.offset + index.bytes.len());
}
