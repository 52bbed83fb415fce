//! Runs the tool on files that are made to cost much time and memory: of nothing but names,
//! records, relocations or sections. Every command must end, with memory in proportion to the file.
#![cfg(feature = "inspect")]
#![allow(unsafe_code, reason = "an allocator that counts")]

#[allow(dead_code, reason = "the other half of it is for tests/tool.rs")]
#[path = "tool/sample.rs"]
mod sample;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use patchlet::Width;
use patchlet::inspect::{Exit, Terminal, parse, run};
use sample::{ALLOC, DYNAMIC, EXECUTE, FUNC, PROGBITS, Sample, Section, TEXT};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator; counting does not change them.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: by the contract of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by the contract of this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs every command. Returns the largest amount of memory that one of them had at once, in bytes.
fn most_memory(name: &str, bytes: &[u8]) -> usize {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{name}"));
    std::fs::write(&path, bytes).expect("a file below CARGO_TARGET_TMPDIR");
    let path = path.to_str().expect("UTF-8");
    let out = format!("{path}.out");
    // The file as the memory of a machine, with text where it is linked.
    let offset = parse(bytes).ok().and_then(|image| {
        image.sections().iter().find(|section| section.name == ".text").map(|text| text.offset)
    });
    let base = format!("{:#x}", TEXT - offset.unwrap_or(0));
    let mut most = 0;
    for arguments in [
        &["list", path][..],
        &["list", "--json", path],
        &["sites", path],
        &["sites", "--json", path],
        &["verify", path],
        &["plan", path, "--platform", "native"],
        &["apply", path, "-o", &out],
        &["raw", path],
        &["raw", "--json", path],
        &["explain", path, "--memory", path, "--base", &base],
        &["explain", path, "--memory", path, "--base", &base, "--module", path],
        &["diff", path, path],
    ] {
        let before = NOW.load(Relaxed);
        PEAK.store(before, Relaxed);
        let (mut sink, mut err) = (io::sink(), Vec::new());
        let mut terminal = Terminal::new(&mut sink, &mut err);
        (terminal.colour, terminal.width, terminal.progress) = (true, Some(80), true);
        let exit = run(["patchlet"].iter().chain(arguments).copied(), &mut terminal);
        most = most.max(PEAK.load(Relaxed) - before);
        let err = String::from_utf8_lossy(&err);
        assert_eq!(exit == Exit::Failed, !err.is_empty(), "{name}, {arguments:?}: {err}");
    }
    most
}

fn section(name: &'static str, kind: u32, flags: u64, address: u64, data: Vec<u8>) -> Section {
    Section { name, kind, flags, address, data, link: 0, info: 0, size: None, offset: None }
}

/// An address behind all of the sample.
const BEHIND: u64 = 0x100_0000;

/// Makes a file with a table of names that has no zero byte.
fn names() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    for number in 0..16_000 {
        sample.symbol(&format!("_RNvC{number}"), TEXT + number, 1, FUNC, ".text");
    }
    let mut bytes = sample.bytes();
    let from = bytes.windows(10).position(|window| window == b"_RNvC1000\0").expect("a name");
    let to = bytes.windows(10).rposition(|window| window == b"_RNvC1599\0").expect("a name");
    for byte in &mut bytes[from..to] {
        if *byte == 0 {
            *byte = b'_';
        }
    }
    bytes
}

/// Makes a file of SHT_RELR, with 63 relocations in each word.
fn packed_relocations() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    let mut data = BEHIND.to_le_bytes().to_vec();
    data.resize(1 << 20, 0xff);
    sample.sections.push(section(".relr.dyn", sample::RELR, ALLOC, BEHIND, data));
    sample.bytes()
}

/// Makes a file of records with arbitrary addresses.
fn records() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64).stripped();
    let mut number: u32 = 1;
    let mut data = Vec::new();
    while data.len() < 12 << 14 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.extend((number >> 8 & 0xff_ffff).to_le_bytes());
    }
    sample.section_mut("patchlet_sites").data = data;
    sample.bytes()
}

/// Makes a file of as many correct sites as fit.
fn sites() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    sample.sections.push(section(".text.more", PROGBITS, ALLOC | EXECUTE, BEHIND, vec![]));
    sample.text = ".text.more";
    for _ in 0..10_000 {
        sample.site("own_ops", 1, 6, 0);
    }
    sample.bound_records();
    sample.bytes()
}

/// Makes a file of as many sites as fit, of an op that has all variants which one can have.
fn variants() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64).with_op_records().with_variants_and_branches();
    let halt = sample.address_of("patchlet_native_halt");
    for place in 3..64 {
        sample.variant(1, place, "FSRM", halt, sample::PATCHLET);
    }
    sample.sections.push(section(".text.more", PROGBITS, ALLOC | EXECUTE, BEHIND, vec![]));
    sample.text = ".text.more";
    for _ in 0..5_400 {
        sample.site("own_ops", 1, 6, 0);
    }
    sample.bound_records();
    sample.bytes()
}

/// Makes a file of variants of slots that are none.
fn variants_of_nothing() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    let word = sample.slot("own_ops", 0);
    let mut data = Vec::new();
    while data.len() < 12 << 14 {
        let at = BEHIND + data.len() as u64;
        data.extend(&(TEXT + at).wrapping_sub(at).to_le_bytes()[..4]);
        data.extend(&word.wrapping_sub(at + 4).to_le_bytes()[..4]);
        data.extend([0, 1, b'A', 0]);
    }
    sample.sections.push(section("patchlet_variants", PROGBITS, ALLOC, BEHIND, data));
    sample.bytes()
}

/// Makes a file of records of branch sites with arbitrary addresses.
fn branches() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    let mut number: u32 = 1;
    let mut data = Vec::new();
    while data.len() < 16 << 13 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.extend((number >> 8 & 0xff_ffff).to_le_bytes());
    }
    sample.sections.push(section("patchlet_branches", PROGBITS, ALLOC, BEHIND, data));
    sample.bytes()
}

/// Makes a file of keys, all at one address and of one name.
fn keys() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    let word = sample.slot("own_ops", 0);
    let mut data = Vec::new();
    while data.len() < 12 << 14 {
        let at = BEHIND + data.len() as u64;
        data.extend(&word.wrapping_sub(at).to_le_bytes()[..4]);
        data.extend([0, 0, 0, 1, b'A', 0, 0, 0]);
    }
    sample.sections.push(section("patchlet_keys", PROGBITS, ALLOC, BEHIND, data));
    sample.bytes()
}

/// Makes a file of raw instructions only.
fn raw() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    sample.sections.push(section(
        ".text.more",
        PROGBITS,
        ALLOC | EXECUTE,
        BEHIND,
        vec![0xfa; 1 << 17],
    ));
    sample.bytes()
}

/// Makes a file of executable sections of one byte, each with a segment of its own.
fn sections() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    for number in 0..8_000 {
        let flags = ALLOC | EXECUTE;
        let text = section("t", PROGBITS, flags, BEHIND + 2 * number, vec![0x90]);
        sample.sections.push(text);
    }
    sample.bytes()
}

/// Makes a file of relocations that are all of the same place.
fn relocations() -> Vec<u8> {
    let mut sample = Sample::new(Width::Bits64);
    let address = sample.slot("patchlet_pv_ops", 2);
    let mut data = Vec::new();
    while data.len() < 24 << 15 {
        data.extend(address.to_le_bytes());
        data.extend(8_u64.to_le_bytes());
        data.extend(TEXT.to_le_bytes());
    }
    sample.sections.push(section(".rela.dyn", sample::RELA, ALLOC, BEHIND.max(DYNAMIC), data));
    sample.bytes()
}

/// Makes an archive of headers only.
fn archive() -> Vec<u8> {
    let member = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "a/", 0, 0, 0, 644, 0);
    let mut bytes = b"!<arch>\n".to_vec();
    while bytes.len() < 1 << 20 {
        bytes.extend(member.as_bytes());
    }
    bytes
}

/// Checks all files. It is one test, because memory is counted for the whole process.
#[test]
fn memory_is_in_proportion_to_the_file() {
    for (name, bytes) in [
        ("names", names()),
        ("packed-relocations", packed_relocations()),
        ("records", records()),
        ("sites", sites()),
        ("sections", sections()),
        ("raw", raw()),
        ("variants", variants()),
        ("variants-of-nothing", variants_of_nothing()),
        ("branches", branches()),
        ("keys", keys()),
        ("relocations", relocations()),
        ("archive", archive()),
    ] {
        assert!(bytes.len() > 100_000, "{name}: only {} bytes", bytes.len());
        let most = most_memory(name, &bytes);
        println!("{name}: {} bytes, {most} of memory", bytes.len());
        // For a record of 12 bytes, the tool needs about 32 bytes, 64 for its op, and 100 for a
        // line of output.
        assert!(most < 40 * bytes.len(), "{name}: {most} bytes for a file of {}", bytes.len());
    }
}
