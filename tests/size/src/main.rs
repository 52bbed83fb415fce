//! What the crate adds to a kernel: bytes of text, read-only data, data and stack;
//! bytes per site; seconds and crates of a cold build.
//!
//! `kernel/` is built with fat LTO in several variants, and each is compared with
//! the one that has not heard of the crate. All of them have `memcpy` and its like.
//! The stack is the deepest chain of direct calls from the function in question, by
//! the frame sizes that the compiler gives (`-Z emit-stack-sizes`).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TARGETS: [(&str, &str); 2] =
    [("x86_64-unknown-none", "64 bit"), ("i686-unknown-linux-gnu", "32 bit")];
const LEVELS: [&str; 2] = ["s", "3"];

/// Feature of the kernel, what it is called here, the roots of its stack.
const VARIANTS: [(&str, &str, &[&str]); 6] = [
    ("unused", "a dependency, nothing used", &[]),
    ("boot", "patching at boot", &["boot"]),
    ("message", "and printing the error", &["message"]),
    ("rendezvous", "boot, and live by rendezvous", &["rendezvous"]),
    ("int3", "boot, and live by INT3", &["int3", "breakpoint"]),
    ("int3,rendezvous", "boot, and live both ways", &["int3", "rendezvous", "breakpoint"]),
];

/// Sites that the feature `sites` adds.
const SITES: i64 = 100;

/// The goal for patching at boot, in bytes of text.
const GOAL: i64 = 4096;

fn main() -> Result<()> {
    if env::args().any(|argument| argument == "build") { cold_build() } else { sizes() }
}

fn kernel() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel")
}

fn target_directory() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target").into();
    PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(default)).join("size")
}

fn cargo(target: &str, directory: &Path) -> Command {
    let upper = target.replace('-', "_").to_uppercase();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // A text relocation would need an absolute slot in a position-independent file.
    let flags = "-C relocation-model=static -C linker-flavor=ld.lld -Z emit-stack-sizes";
    cargo
        .args(["build", "--release", "--quiet", "--target", target])
        .current_dir(kernel())
        .env("CARGO_TARGET_DIR", directory)
        .env(format!("CARGO_TARGET_{upper}_LINKER"), "rust-lld")
        .env(format!("CARGO_TARGET_{upper}_RUSTFLAGS"), flags)
        // For `-Z` on a stable compiler. It changes nothing but that section.
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo
}

fn build(target: &str, level: &str, features: &str) -> Result<Vec<u8>> {
    let directory = target_directory();
    let mut cargo = cargo(target, &directory);
    cargo.args(["--features", features]).env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level);
    if !cargo.status()?.success() {
        return Err(format!("the kernel with {features:?} for {target} was not built").into());
    }
    Ok(fs::read(directory.join(target).join("release/size-kernel"))?)
}

/// Bytes in memory: code, read-only, writable; and of the table of sites.
#[derive(Clone, Copy, Default)]
struct Sizes {
    text: i64,
    rodata: i64,
    data: i64,
    records: i64,
}

impl Sizes {
    fn of(elf: &object::File<'_>) -> Self {
        let mut sizes = Self::default();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let size = i64::try_from(section.size()).unwrap_or(0);
            let [write, alloc, exec] = [1, 2, 4].map(|flag| sh_flags.0 & flag != 0);
            if section.name() == Ok("patchlet_sites") {
                sizes.records += size;
            } else if alloc && exec {
                sizes.text += size;
            } else if alloc && write {
                sizes.data += size;
            } else if alloc {
                sizes.rodata += size;
            }
        }
        sizes
    }

    fn less(self, base: Self) -> Self {
        Self {
            text: self.text - base.text,
            rodata: self.rodata - base.rodata,
            data: self.data - base.data,
            records: self.records - base.records,
        }
    }
}

fn sizes() -> Result<()> {
    let mut worst = 0;
    for (target, width) in TARGETS {
        for level in LEVELS {
            let base = Sizes::of(&object::File::parse(&*build(target, level, "")?)?);
            println!("\n| {width}, opt-level {level} | text | read-only data | data | stack |");
            println!("|---|--:|--:|--:|--:|");
            let mut boot = Sizes::default();
            for (features, name, roots) in VARIANTS {
                let file = build(target, level, features)?;
                let elf = object::File::parse(&*file)?;
                let sizes = Sizes::of(&elf).less(base);
                let Sizes { text, rodata, data, .. } = sizes;
                let stack: Vec<_> =
                    roots.iter().map(|root| depth(&elf, root)).collect::<Result<_>>()?;
                let stack = if stack.is_empty() { "–".into() } else { stack.join(", ") };
                println!("| {name} | {text} | {rodata} | {data} | {stack} |");
                if features == "boot" {
                    boot = sizes;
                    worst = worst.max(text);
                }
            }
            let file = build(target, level, "sites")?;
            let more = Sizes::of(&object::File::parse(&*file)?).less(base).less(boot);
            println!(
                "\nA site has {} bytes of text and a record of {} bytes.",
                (more.text + SITES / 2) / SITES,
                (more.records + SITES / 2) / SITES
            );
        }
    }
    println!("\nPatching at boot: at most {worst} bytes of text; the goal is under {GOAL}.");
    if worst < GOAL { Ok(()) } else { Err("the goal is not reached".into()) }
}

/// A function of the kernel: its frame, and whom it calls.
struct Function {
    frame: u64,
    callees: BTreeSet<u64>,
}

/// Bytes of stack that `root` and everything it calls need at the most, with the
/// return addresses.
fn depth(elf: &object::File<'_>, root: &str) -> Result<String> {
    let frames = frames(elf)?;
    let text = elf.section_by_name(".text").ok_or("no .text")?;
    let bytes = text.data()?;
    let mut functions = BTreeMap::new();
    let mut start = None;
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let address = symbol.address();
        if symbol.name() == Ok(root) {
            start = Some(address);
        }
        let from = usize::try_from(address - text.address())?;
        let code = bytes.get(from..from + usize::try_from(symbol.size())?).unwrap_or_default();
        let bitness = if elf.is_64() { 64 } else { 32 };
        let mut callees = BTreeSet::new();
        for instruction in Decoder::with_ip(bitness, code, address, DecoderOptions::NONE) {
            let to = instruction.near_branch_target();
            let leaves = !(address..address + symbol.size()).contains(&to);
            if leaves
                && matches!(
                    instruction.flow_control(),
                    FlowControl::Call
                        | FlowControl::ConditionalBranch
                        | FlowControl::UnconditionalBranch
                )
            {
                callees.insert(to);
            }
        }
        // Those in assembly have no frame size, and push a word or two.
        let frame = frames.get(&address).copied().unwrap_or(16);
        functions.insert(address, Function { frame, callees });
    }
    let start = start.ok_or_else(|| format!("no function {root}"))?;
    let pointer = if elf.is_64() { 8 } else { 4 };
    Ok(format!("{}", deepest(&functions, start, pointer, &mut Vec::new())))
}

fn deepest(functions: &BTreeMap<u64, Function>, at: u64, pointer: u64, path: &mut Vec<u64>) -> u64 {
    let Some(function) = functions.get(&at) else { return 0 };
    if path.contains(&at) {
        return 0;
    }
    path.push(at);
    let below = function.callees.iter().map(|&to| deepest(functions, to, pointer, path)).max();
    path.pop();
    function.frame + pointer + below.unwrap_or(0)
}

/// Address of each function, and its frame: `.stack_sizes` is address and ULEB128.
fn frames(elf: &object::File<'_>) -> Result<BTreeMap<u64, u64>> {
    let section = elf.section_by_name(".stack_sizes").ok_or("no .stack_sizes")?;
    let mut bytes = section.data()?;
    let width = if elf.is_64() { 8 } else { 4 };
    let mut frames = BTreeMap::new();
    while bytes.len() > width {
        let (address, rest) = bytes.split_at(width);
        let address = address.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        let end = rest.iter().position(|byte| byte & 0x80 == 0).ok_or("a broken .stack_sizes")?;
        let (frame, rest) = rest.split_at(end + 1);
        let frame = frame.iter().rev().fold(0, |value, &byte| value << 7 | u64::from(byte & 0x7f));
        frames.insert(address, frame);
        bytes = rest;
    }
    Ok(frames)
}

/// Builds the kernel with the crate, and without, from nothing; the sources of the
/// dependencies are there.
fn cold_build() -> Result<()> {
    let (target, _) = TARGETS[0];
    let mut times = [f64::INFINITY; 2];
    for _ in 0..3 {
        for (time, features) in times.iter_mut().zip(["", "boot"]) {
            let directory = target_directory().join("cold");
            if directory.exists() {
                fs::remove_dir_all(&directory)?;
            }
            let start = Instant::now();
            let status =
                cargo(target, &directory).args(["--offline", "--features", features]).status()?;
            if !status.success() {
                return Err("the kernel was not built; fetch its dependencies first".into());
            }
            *time = time.min(start.elapsed().as_secs_f64());
        }
    }
    let [without, with] = times;
    println!(
        "Cold build of a kernel, best of three: {without:.1} s without the crate, {with:.1} s with it."
    );
    let mut tree = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    tree.args(["tree", "--offline", "--features", "boot", "--target", target, "--edges"])
        .args(["normal,build", "--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .current_dir(kernel());
    let output = tree.output()?;
    let names: BTreeSet<&str> = std::str::from_utf8(&output.stdout)?
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|&name| name != "size-kernel")
        .collect();
    let names: Vec<_> = names.into_iter().collect();
    println!("{} crates are compiled for it: {}.", names.len(), names.join(", "));
    Ok(())
}
