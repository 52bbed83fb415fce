//! Boots the test kernels, dumps their memory in each of their states, and explains their text: nothing
//! is unexplained. Then bytes are changed at random, and each is found.
#![cfg(feature = "inspect")]

mod support {
    pub mod kernel;
    pub mod qmp;
    #[allow(dead_code, reason = "the tests of the native set use all of it")]
    pub mod table;
}
#[path = "running/core_file.rs"]
mod core_file;
#[path = "running/flips.rs"]
mod flips;
#[path = "running/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;

use machine::Machine;
use patchlet::inspect::{
    Explained, Explanation, Model, ModuleFile, RawAddress, SlideEvidence, Verdict, explain_running,
    parse,
};
use support::kernel;
use support::table::Width;

/// The states in which the kernel stops, in this order, each with the causes that must be there and
/// no others. Batch 1 switches a key; those from 3 on switch ops: from the native functions to a call
/// and back and so on; 11 reverts, 12 patches again, and 13 goes from a call to another.
const STATES: &[(&str, &[(&str, Verdict)])] = {
    use Verdict::{Allowed, Proven};
    const OPS: (&str, Verdict) = ("op", Proven);
    const BRANCHES: (&str, Verdict) = ("branch", Proven);
    const BATCH: (&str, Verdict) = ("live-batch", Allowed);
    const PENDING: (&str, Verdict) = ("pending", Allowed);
    const UNPATCHED: (&str, Verdict) = ("unpatched", Allowed);
    &[
        ("unpatched", &[UNPATCHED]),
        ("native", &[OPS]),
        ("installed", &[OPS, PENDING]),
        ("guest", &[OPS]),
        ("mixed", &[OPS]),
        ("reverted", &[UNPATCHED]),
        ("native-at-last", &[OPS]),
        ("selected", &[OPS]),
        ("1/published", &[OPS, PENDING]),
        ("1/int3-written", &[BATCH, OPS]),
        ("1/tails-synced", &[BATCH, OPS]),
        ("1/first-synced", &[BRANCHES, OPS]),
        ("module", &[OPS]),
        ("3/published", &[OPS, PENDING]),
        ("3/int3-written", &[BATCH, OPS]),
        ("3/int3-synced", &[BATCH, OPS]),
        ("3/tails-written", &[BATCH, OPS]),
        ("3/tails-synced", &[BATCH, OPS]),
        ("3/first-written", &[OPS]),
        ("11/int3-synced", &[BATCH, OPS]),
        ("11/tails-synced", &[BATCH, OPS]),
        ("11/first-synced", &[OPS, UNPATCHED]),
        ("12/tails-synced", &[BATCH, OPS]),
        ("13/int3-synced", &[BATCH, OPS]),
        ("18/tails-synced", &[BATCH, OPS]),
        ("traced", &[BRANCHES, OPS]),
    ]
};

fn explain(kernel: &Path, dump: &[u8], raw: Option<RawAddress>) -> Explanation {
    let file = fs::read(kernel).expect("the kernel");
    let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
    explain_running(&model, &file, dump, raw, &[], true).unwrap_or_else(|error| panic!("{error}"))
}

fn nothing_is_unexplained(state: &str, explanation: &Explanation) {
    let total = explanation.total(Verdict::Unexplained);
    let list = explanation.list.iter().filter(|of| of.verdict == Verdict::Unexplained);
    assert_eq!(total.ranges, 0, "{state}: {:x?}", list.take(3).collect::<Vec<_>>());
    assert_eq!(explanation.missing, 0);
}

fn every_state(width: Width) {
    let kernel = kernel::build(width, "fat");
    let names: Vec<&str> = STATES.iter().map(|(name, _)| *name).collect();
    let mut machine = Machine::start(&kernel, "max", &names);
    for (state, causes) in STATES {
        let dump = machine.dump(state, *state == "mixed");
        let explanation = explain(&kernel, &dump, None);
        nothing_is_unexplained(state, &explanation);
        let found: Vec<(&str, Verdict)> = explanation.counts.keys().copied().collect();
        assert_eq!(found, *causes, "{width}, {state}");
        assert_eq!((explanation.slide, explanation.slide_evidence), (0, SlideEvidence::PageTables));
        assert_eq!(explanation.not_executable, 0);
        let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
        assert!(ranges > 1500, "{width}, {state}: {ranges} sites");
        if ["module", "18/tails-synced"].contains(state) {
            with_module(&kernel, &dump, &explanation);
        }
        if *state == "native" {
            without_header(&kernel, &dump, &explanation);
            let other_states = flips::each_is_found(&kernel, &dump);
            println!("{width}: {other_states} changed bytes make another state");
        }
        machine.go_on();
    }
}

/// The module is found in the dump, and each of its sites is judged as those of the kernel are.
fn with_module(kernel: &Path, dump: &[u8], alone: &Explanation) {
    const NAME: &str = "patchlet-test-module.o";
    let file = fs::read(kernel).expect("the kernel");
    let object = fs::read(kernel.with_file_name(NAME)).expect("the module");
    let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
    let modules = [ModuleFile::new(NAME, &object)];
    let explain = |dump: &[u8]| explain_running(&model, &file, dump, None, &modules, true);
    let explanation = explain(dump).unwrap_or_else(|error| panic!("{error}"));
    nothing_is_unexplained("with the module", &explanation);
    let in_module = |of: &&Explained| of.function.starts_with(NAME);
    let sites: Vec<&Explained> = explanation.list.iter().filter(in_module).collect();
    assert!(explanation.compared > alone.compared + 0x1000);
    let count = |explanation: &Explanation| explanation.list.len();
    assert_eq!(count(&explanation), count(alone) + sites.len());
    let by_own_table = sites.iter().filter(|of| of.depends.contains("module.answer = ")).count();
    let by_kernels = sites.iter().filter(|of| of.depends.starts_with("live.zero = ")).count();
    assert!(by_own_table >= 5 && by_kernels >= 5, "{by_own_table}, {by_kernels}");

    // A byte of its text, outside of sites, and one of a site.
    let memory = core_file::pieces(dump);
    let site = sites.iter().find(|of| of.depends.contains("module.answer = ")).expect("one");
    for address in [site.address + 1, site.address + site.seen.len() as u64] {
        let mut changed = dump.to_vec();
        changed[core_file::offset(&memory, address)] ^= 0x40;
        let explanation = explain(&changed).unwrap_or_else(|error| panic!("{error}"));
        let mut list = explanation.list.iter();
        let found = list.find(|of| of.verdict == Verdict::Unexplained).expect("it is found");
        assert!(found.function.starts_with(NAME) && found.address <= address, "{found:x?}");
        assert_eq!(explanation.total(Verdict::Unexplained).ranges, 1);
    }
    damaged_modules(&model, &file, dump, &object);
    // One that is not loaded.
    let plain = core_file::plain(dump, 0x10_0000, 0x20_0000);
    let raw = Some(RawAddress::Physical(0x10_0000));
    let error = explain_running(&model, &file, &plain, raw, &modules, true).expect_err("no tables");
    assert!(error.to_string().starts_with(NAME), "{error}");
}

/// A damaged object is refused or explained, and nothing else.
fn damaged_modules(model: &Model<'_>, file: &[u8], dump: &[u8], object: &[u8]) {
    const DAMAGED: usize = 12;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 8) as usize % below
    };
    // Behind text, whose bytes are looked for and no more: records, relocations, symbols, sections.
    let behind_text = object.len() / 2;
    for number in 0..DAMAGED {
        let mut object = object.to_vec();
        for _ in 0..=number % 4 {
            let at = behind_text + next(object.len() - behind_text);
            object[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)];
        }
        let modules = [ModuleFile::new("damaged", &object)];
        if let Ok(explanation) = explain_running(model, file, dump, None, &modules, true) {
            let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
            assert_eq!(ranges, explanation.list.len());
        }
    }
}

/// Plain memory has no page tables; the rest is the same.
fn without_header(kernel: &Path, dump: &[u8], of_core: &Explanation) {
    let plain = core_file::plain(dump, 0x10_0000, 0x20_0000);
    let explanation = explain(kernel, &plain, Some(RawAddress::Physical(0x10_0000)));
    assert!(!explanation.has_page_tables);
    assert!(matches!(explanation.slide_evidence, SlideEvidence::Pointers { agree: 100.., .. }));
    assert_eq!((explanation.slide, &explanation.counts), (0, &of_core.counts));
    let explanation = explain(kernel, &plain, Some(RawAddress::Virtual(0x10_0000)));
    assert_eq!(explanation.slide_evidence, SlideEvidence::Addresses);
    assert_eq!((explanation.slide, &explanation.counts), (0, &of_core.counts));
}

#[test]
fn every_state_of_the_64_bit_kernel_is_explained() {
    every_state(Width::Bits64);
}

#[test]
fn every_state_of_the_32_bit_kernel_is_explained() {
    every_state(Width::Bits32);
}

/// What variants a CPU selects is read from the slots, whatever CPU it is.
#[test]
fn every_cpu_is_explained() {
    let mut seen = vec![];
    for (width, cpu) in [
        (Width::Bits64, "Nehalem"),
        (Width::Bits64, "Haswell"),
        (Width::Bits64, "EPYC"),
        (Width::Bits32, "Opteron_G1"),
        (Width::Bits32, "Haswell"),
    ] {
        let kernel = kernel::build(width, "fat");
        let mut machine = Machine::start(&kernel, cpu, &["selected"]);
        let explanation = explain(&kernel, &machine.dump("selected", false), None);
        nothing_is_unexplained(cpu, &explanation);
        assert_eq!(explanation.total(Verdict::Allowed).ranges, 0, "{cpu}");
        let of = |op: &str| {
            let sites = explanation.list.iter().find(|of| of.depends.starts_with(op));
            sites.unwrap_or_else(|| panic!("{cpu}: no site of {op}")).depends.clone()
        };
        seen.push(of("state.save_state ="));
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() >= 3, "{seen:?}");
}
