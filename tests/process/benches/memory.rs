//! The benchmark of copying and filling memory: each variant of `cpu_ops::copy` and `cpu_ops::fill`
//! that this CPU has, at a patched site, against libc, and against what a 64-bit kernel in Rust
//! gets by default: the `memcpy` and `memset` of `compiler_builtins`, read from Rust's own library
//! for `x86_64-unknown-none`. (Rust's libraries for 32 bit have none of their own.)
//!
//! All figures of a row are of one run, in ticks of the time-stamp counter. The ways are measured in
//! turns, round after round, and the best result of each counts, because other work of the machine
//! can only add time. The benchmark fails if a variant is slower than the default that it replaces,
//! by more than noise.

#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::{fs, ptr};

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol};
use patchlet::cpu::Features;
use patchlet::ops::Target;
use patchlet::{OneCpu, Patcher, SecondMapping, cpu_ops};
use patchlet_process::{PROCESS, remap};
use support::{only_a_test, time};

/// The lengths in bytes.
const LENGTHS: [usize; 26] = [
    1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 64, 80, 127, 128, 256, 512, 767, 1024, 2048, 4096, 16384,
    65536, 262_144, 524_288, 1_048_576,
];
/// The offsets of target and source in their pages: both aligned, and both not.
const OFFSETS: [(usize, usize, &str); 2] = [(0, 0, "aligned"), (1, 3, "unaligned")];
const ROOM: usize = 1_048_576 + 4096;
const ROUNDS: usize = 12;

/// Two ranges that begin at pages.
struct Memory {
    to: *mut u8,
    from: *mut u8,
}

impl Memory {
    fn new() -> Self {
        let [to, from] = [(); 2].map(|()| {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
            // SAFETY: maps new memory.
            let page = unsafe { libc::mmap(ptr::null_mut(), ROOM, protection, flags, -1, 0) };
            assert_ne!(page, libc::MAP_FAILED);
            page.cast::<u8>()
        });
        Self { to, from }
    }
}

/// A way to copy and to fill.
struct Way {
    name: String,
    /// What the slot of the op holds, or `None` if the site is not used.
    target: Option<Target>,
    /// The function that is called instead of the site.
    function: Option<Function>,
}

type Memcpy = unsafe extern "C" fn(*mut u8, *const u8, usize) -> *mut u8;
type Memset = unsafe extern "C" fn(*mut u8, i32, usize) -> *mut u8;

#[derive(Clone, Copy)]
enum Function {
    Copy(Memcpy),
    Fill(Memset),
}

/// Returns the ticks that one copy or fill takes, the best of some measurements.
fn measure(memory: &Memory, way: &Way, fill: bool, length: usize, offsets: (usize, usize)) -> f64 {
    let turns = (20_000 / (length + 100)).max(4);
    // SAFETY: both ranges are inside of their mappings, which do not overlap.
    let (to, from) = unsafe { (memory.to.add(offsets.0), memory.from.add(offsets.1)) };
    let ticks = match (way.function, fill) {
        // SAFETY: as above.
        (None, false) => time(|| {
            for _ in 0..turns {
                unsafe { cpu_ops::copy(black_box(to), from, black_box(length)) };
            }
        }),
        // SAFETY: as above.
        (None, true) => time(|| {
            for _ in 0..turns {
                unsafe { cpu_ops::fill(black_box(to), 7, black_box(length)) };
            }
        }),
        // SAFETY: as above.
        (Some(Function::Copy(copy)), _) => time(|| {
            for _ in 0..turns {
                unsafe { black_box(copy)(black_box(to), from, black_box(length)) };
            }
        }),
        // SAFETY: as above.
        (Some(Function::Fill(fill)), _) => time(|| {
            for _ in 0..turns {
                unsafe { black_box(fill)(black_box(to), 7, black_box(length)) };
            }
        }),
    };
    ticks as f64 / turns as f64
}

/// Returns the code of a function of `compiler_builtins` for kernels, in executable memory.
/// `None` if Rust's library for that target is not installed.
fn of_rust(name: &str) -> Option<*const ()> {
    if cfg!(not(target_arch = "x86_64")) {
        return None;
    }
    let rustc = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "x86_64-unknown-none"])
        .output()
        .ok()?;
    let folder = String::from_utf8(rustc.stdout).ok()?;
    let mut files = fs::read_dir(folder.trim()).ok()?.filter_map(Result::ok).map(|e| e.path());
    let file = files.find(|path| {
        path.extension().is_some_and(|end| end == "rlib")
            && path.to_string_lossy().contains("libcompiler_builtins-")
    })?;
    let bytes = fs::read(file).ok()?;
    let archive = ArchiveFile::parse(&*bytes).ok()?;
    for member in archive.members() {
        let Ok(object) = object::File::parse(member.ok()?.data(&*bytes).ok()?) else { continue };
        let Some(symbol) = object.symbol_by_name(name).filter(|found| found.is_definition()) else {
            continue;
        };
        let section = object.section_by_index(symbol.section_index()?).ok()?;
        // Only such code can be copied elsewhere.
        assert_eq!(section.relocations().count(), 0, "{name} has relocations");
        let code = section.data_range(symbol.address(), symbol.size()).ok()??;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: maps new memory, writes the code there, and makes it executable.
        unsafe {
            let page = libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len());
            assert_eq!(libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC), 0);
            return Some(page.cast_const().cast());
        }
    }
    None
}

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
    fn memset(to: *mut u8, value: i32, len: usize) -> *mut u8;
}

/// Returns all ways: the default first, then the variants that this CPU has, then others.
fn ways(op: cpu_ops::Id) -> Vec<Way> {
    let features = Features::detect();
    let site = |name: String, target| Way { name, target: Some(target), function: None };
    let table = &cpu_ops::TABLE;
    let mut ways = vec![site("default".into(), table.ops()[op as usize].native())];
    for variant in table.variants().iter().filter(|variant| variant.op() == op as usize) {
        if variant.is_eligible(&features) {
            let names = variant.condition().iter().map(|requirement| format!("{requirement:?}"));
            ways.push(site(names.collect::<Vec<_>>().join("+"), variant.target()));
        }
    }
    let fill = op == cpu_ops::Id::fill;
    let function =
        |name: &str, function| Way { name: name.into(), target: None, function: Some(function) };
    if let Some(code) = of_rust(if fill { "memset" } else { "memcpy" }) {
        // SAFETY: the code is that of a function of this type, without a relocation.
        let code = unsafe {
            if fill {
                Function::Fill(std::mem::transmute::<*const (), Memset>(code))
            } else {
                Function::Copy(std::mem::transmute::<*const (), Memcpy>(code))
            }
        };
        ways.push(function("compiler_builtins", code));
    }
    ways.push(function("libc", if fill { Function::Fill(memset) } else { Function::Copy(memcpy) }));
    ways
}

/// Measures one op. Returns what was slower than the default.
fn table(
    patcher: &mut Patcher<'static, SecondMapping>,
    memory: &Memory,
    op: cpu_ops::Id,
) -> Vec<String> {
    let fill = op == cpu_ops::Id::fill;
    let rounds = if only_a_test() { 1 } else { ROUNDS };
    let ways = ways(op);
    let points: Vec<_> = LENGTHS
        .into_iter()
        .flat_map(|length| OFFSETS.map(|(to, from, name)| (length, (to, from), name)))
        .collect();
    let mut best = vec![vec![f64::INFINITY; ways.len()]; points.len()];
    for _ in 0..rounds {
        for (column, way) in ways.iter().enumerate() {
            if let Some(target) = way.target {
                // SAFETY: the target is the default of the op or a variant that this CPU has.
                unsafe { cpu_ops::install(&[(op, target)]) };
                // SAFETY: this is the only thread, and no signal handler has a site.
                unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) }
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            for (point, row) in points.iter().zip(&mut best) {
                for _ in 0..3 {
                    row[column] = row[column].min(measure(memory, way, fill, point.0, point.1));
                }
            }
        }
    }
    let mut slower = Vec::new();
    println!("\n{op:?}, ticks");
    let names: Vec<_> = ways.iter().map(|way| way.name.as_str()).collect();
    println!(
        "| bytes | |{}|",
        names.iter().map(|n| format!(" {n} ")).collect::<Vec<_>>().join("|")
    );
    println!("|--:|---|{}", "--:|".repeat(names.len()));
    for ((length, _, alignment), row) in points.iter().zip(&best) {
        let cells: Vec<_> = row.iter().map(|ticks| format!(" {ticks:.1} ")).collect();
        println!("| {length} | {alignment} |{}|", cells.join("|"));
        for (way, ticks) in ways.iter().zip(row).filter(|(way, _)| way.target.is_some()) {
            if *ticks > row[0] * 1.25 + 5.0 {
                slower.push(format!(
                    "{op:?} by {}: {length} bytes, {alignment}: {ticks:.1} ticks against {:.1}",
                    way.name, row[0]
                ));
            }
        }
    }
    slower
}

fn main() -> ExitCode {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    let mut patcher = Patcher::new(&PROCESS, platform);
    let memory = Memory::new();
    let mut slower = table(&mut patcher, &memory, cpu_ops::Id::copy);
    slower.extend(table(&mut patcher, &memory, cpu_ops::Id::fill));
    if only_a_test() || slower.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("slower than the default:\n{}", slower.join("\n"));
    ExitCode::FAILURE
}
