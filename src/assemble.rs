//! Assembling patchlets, and checking the object before anything links it.
//!
//! For build scripts, with feature `build` under `[build-dependencies]`. The
//! crate's own `build.rs` is the first user. A kernel with patchlets of its own
//! needs this much:
//!
//! ```no_run
//! // build.rs
//! if let Err(error) = patchlet::assemble::Assembly::new("src/own.S")
//!     .include_from_cargo()
//!     .compile("own_patchlets")
//! {
//!     println!("cargo::error={error}");
//!     std::process::exit(1);
//! }
//! ```
//!
//! What is checked of the object, because a mistake here would be executed in
//! ring 0 later: ELF of the target's width; the section read-only and not
//! executable; a start and an end label for every patchlet, hidden, in order;
//! no gap, no overlap and no byte outside a patchlet; no relocation, since a
//! linker may rewrite a relocated instruction and a displacement would be right
//! for the data's address, not for the site's; and a native function that begins
//! with the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

use object::read::elf::{ElfFile, ElfFile32, ElfFile64, ElfSection, FileHeader};
use object::{Object, ObjectSection, ObjectSymbol, SymbolFlags, elf};

/// The section that holds every patchlet.
const SECTION: &str = ".rodata.patchlets";

/// The two kinds of target there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// i686 and the like: ELF32, EM_386.
    Bits32,
    /// x86_64 with 64-bit pointers: ELF64, EM_X86_64.
    Bits64,
}

/// The target cargo builds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name, for messages.
    name: String,
    /// 32 or 64 bit.
    pub(crate) width: Width,
}

impl Target {
    /// Reads the variables cargo gives to a build script. Decides by the target,
    /// never by the host.
    ///
    /// # Errors
    /// [`Error::Target`] for anything but 32- and 64-bit x86 with ELF objects.
    pub(crate) fn from_cargo() -> Result<Self, Error> {
        let var = |name| env::var(name).unwrap_or_default();
        Self::new(
            var("TARGET"),
            &var("CARGO_CFG_TARGET_ARCH"),
            &var("CARGO_CFG_TARGET_POINTER_WIDTH"),
            &var("CARGO_CFG_TARGET_OS"),
        )
    }

    fn new(name: String, arch: &str, pointer_width: &str, os: &str) -> Result<Self, Error> {
        let elf = !matches!(
            os,
            "windows" | "uefi" | "macos" | "ios" | "tvos" | "watchos" | "visionos" | "cygwin"
        );
        match (arch, pointer_width) {
            ("x86_64", "64") if elf => Ok(Self { name, width: Width::Bits64 }),
            ("x86", "32") if elf => Ok(Self { name, width: Width::Bits32 }),
            _ => Err(Error::Target { name }),
        }
    }
}

/// One patchlet as it stands in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    /// The name between `patchlet_` and `_start`.
    name: String,
    /// Offset of its first byte in the section.
    start: u64,
    /// Offset behind its last byte.
    end: u64,
}

/// Why there is no library. Each is one sentence with the place, the values and
/// the likely fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Neither 32- nor 64-bit x86 ELF.
    Target {
        /// The target's name.
        name: String,
    },
    /// No C compiler, or it could not be started.
    Compiler {
        /// What was tried and what happened.
        reason: String,
    },
    /// The assembler found an error.
    Assembler {
        /// The source file.
        source: PathBuf,
        /// The assembler's first complaint.
        reason: String,
    },
    /// No archiver, or it could not make the library.
    Archiver {
        /// What was tried and what happened.
        reason: String,
    },
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word on it.
        reason: String,
    },
    /// The object is not what it must be.
    Object {
        /// The source file it was made from.
        source: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Target { name } => write!(
                f,
                "patchlet: target `{name}` is not supported: build for 32-bit or 64-bit x86 with ELF \
                 objects, such as x86_64-unknown-none or i686-unknown-linux-gnu"
            ),
            Error::Compiler { reason } => write!(
                f,
                "patchlet: no working C compiler to assemble with: {reason}; install gcc or clang, \
                 or name one in the variable CC"
            ),
            Error::Assembler { source, reason } => {
                write!(f, "patchlet: {} does not assemble: {reason}", source.display())
            }
            Error::Archiver { reason } => write!(
                f,
                "patchlet: no working archiver to make the library with: {reason}; install binutils \
                 or llvm, or name one in the variable AR"
            ),
            Error::Io { path, reason } => write!(f, "patchlet: {}: {reason}", path.display()),
            Error::Object { source, reason } => {
                write!(f, "patchlet: {}: {reason}", source.display())
            }
        }
    }
}

impl std::error::Error for Error {}

/// One `.S` file on its way to a static library.
#[derive(Clone, Debug)]
pub struct Assembly {
    source: PathBuf,
    include: Vec<PathBuf>,
}

impl Assembly {
    /// Of this source file, relative to the package's folder.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), include: Vec::new() }
    }

    /// Adds a folder in which `#include` looks.
    #[must_use]
    pub fn include(mut self, folder: impl Into<PathBuf>) -> Self {
        self.include.push(folder.into());
        self
    }

    /// Adds the folder of `patchlet.h`, as cargo hands it to packages that
    /// depend on `patchlet` directly.
    #[must_use]
    pub fn include_from_cargo(self) -> Self {
        match env::var_os("DEP_PATCHLET_INCLUDE") {
            Some(folder) => self.include(folder),
            None => self,
        }
    }

    /// Assembles, checks, and tells cargo to link the result whole as the static
    /// library `library`. Also prints a `rerun-if-changed` line for the source
    /// and for every header it includes.
    ///
    /// # Errors
    /// Every variant of [`Error`]; no library is left behind then.
    pub fn compile(&self, library: &str) -> Result<(), Error> {
        let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| Error::Io {
            path: "OUT_DIR".into(),
            reason: "not set, but only a build script can tell cargo what to link".into(),
        })?;
        let object = out.join(format!("{library}.o"));
        let archive = out.join(format!("lib{library}.a"));
        // A library of an earlier, better day must not be linked today.
        for stale in [&object, &archive] {
            if stale.exists() {
                fs::remove_file(stale).map_err(|error| io(stale, &error))?;
            }
        }
        let target = Target::from_cargo()?;
        println!("cargo::rerun-if-changed={}", self.source.display());
        let inputs = self.assemble(&object, &target)?;
        for input in inputs {
            println!("cargo::rerun-if-changed={}", input.display());
        }
        let bytes = fs::read(&object).map_err(|error| io(&object, &error))?;
        check(&bytes, target.width)
            .map_err(|reason| Error::Object { source: self.source.clone(), reason })?;
        // Whole: nothing in an archive member refers to the patchlets by a name
        // that a linker must resolve before it looks at the member.
        cc::Build::new()
            .object(&object)
            .link_lib_modifier("+whole-archive")
            .try_compile(library)
            .map_err(|error| {
                // It may have begun one.
                let _ = fs::remove_file(&archive);
                Error::Archiver { reason: one_line(&error.to_string()) }
            })
    }

    /// Runs the compiler; returns every file it read.
    fn assemble(&self, object: &Path, target: &Target) -> Result<Vec<PathBuf>, Error> {
        if !self.source.exists() {
            return Err(Error::Io { path: self.source.clone(), reason: "no such file".into() });
        }
        let mut build = cc::Build::new();
        // Nothing but what the file says: no optimization level, no debug
        // sections, no PIC flag matters to it.
        build.no_default_flags(true).warnings(false).includes(&self.include);
        let tool = build
            .try_get_compiler()
            .map_err(|error| Error::Compiler { reason: one_line(&error.to_string()) })?;
        let dependencies = object.with_extension("d");
        let mut command: Command = tool.to_command();
        // `cc` leaves the target to the default flags, which are off. A gcc is
        // for one architecture; a clang is for all, and must be told which.
        let (flag, triple) = match target.width {
            Width::Bits32 => ("-m32", "--target=i686-unknown-none-elf"),
            Width::Bits64 => ("-m64", "--target=x86_64-unknown-none-elf"),
        };
        command.arg(flag);
        if tool.is_like_clang() {
            command.arg(triple);
        }
        command
            .arg("-c")
            .arg(&self.source)
            .arg("-o")
            .arg(object)
            .arg("-MD")
            .arg("-MF")
            .arg(&dependencies);
        let output = command.output().map_err(|error| Error::Compiler {
            reason: format!("`{}`: {error}", tool.path().display()),
        })?;
        if !output.status.success() {
            let mut reason = first_complaint(&String::from_utf8_lossy(&output.stderr));
            if reason.is_empty() {
                reason = format!("`{}` ended with {}", tool.path().display(), output.status);
            }
            let text = fs::read_to_string(&self.source).unwrap_or_default();
            if let Some(missing) = unpaired(&text) {
                reason += &format!("; is {missing} missing?");
            }
            return Err(Error::Assembler { source: self.source.clone(), reason });
        }
        let text = fs::read_to_string(&dependencies).map_err(|error| io(&dependencies, &error))?;
        Ok(parse_dependencies(&text))
    }
}

fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), reason: error.to_string() }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first line that says "error", else the whole in one line. gcc and clang
/// both put the place before it; inside of a macro it is no place in the source,
/// and the lines behind it say where the macro was used, the outermost last.
fn first_complaint(stderr: &str) -> String {
    let is_error = |line: &&str| line.to_ascii_lowercase().contains("error:");
    let mut lines = stderr.lines().skip_while(|line| !is_error(line));
    let Some(first) = lines.next() else { return one_line(stderr) };
    let used_at = lines
        .take_while(|line| !is_error(line))
        .filter(|line| line.contains("macro invoked") || line.contains("macro instantiation"))
        .filter_map(|line| line.split_once(": "))
        .last();
    match used_at {
        Some((place, _)) => format!("{} (by the macro at {place})", one_line(first)),
        None => one_line(first),
    }
}

/// The first macro that a source lacks, a PATCHLET or an END_PATCHLET: where
/// these are unpaired, assemblers complain of something else.
fn unpaired(source: &str) -> Option<String> {
    let argument = |line: &str, macros: &[&str]| {
        let rest = macros.iter().find_map(|name| line.trim_start().strip_prefix(name))?;
        Some(rest.trim_start().strip_prefix('(')?.split_once(')')?.0.trim().to_owned())
    };
    let mut open: Option<String> = None;
    for line in source.lines() {
        if let Some(name) = argument(line, &["PATCHLET"]) {
            if let Some(before) = open.replace(name) {
                return Some(format!("END_PATCHLET({before})"));
            }
        } else if let Some(name) = argument(line, &["END_PATCHLET_JUMP", "END_PATCHLET"]) {
            match open.take() {
                None => return Some(format!("PATCHLET({name})")),
                Some(before) if before != name => return Some(format!("END_PATCHLET({before})")),
                Some(_) => {}
            }
        }
    }
    open.map(|name| format!("END_PATCHLET({name})"))
}

/// The file names of a make rule, `object: a b \`; a space in a name is `\ `.
fn parse_dependencies(rule: &str) -> Vec<PathBuf> {
    let names = rule.split_once(": ").map_or("", |(_, names)| names);
    let mut files = Vec::new();
    let mut name = String::new();
    let mut chars = names.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&'\n') => {}
            '\\' if chars.peek() == Some(&' ') => name.extend(chars.next()),
            c if c.is_whitespace() => {
                if !name.is_empty() {
                    files.push(PathBuf::from(core::mem::take(&mut name)));
                }
            }
            c => name.push(c),
        }
    }
    if !name.is_empty() {
        files.push(PathBuf::from(name));
    }
    files
}

/// Checks a relocatable object. An error is one sentence that names the patchlet
/// and the likely fix.
fn check(object: &[u8], width: Width) -> Result<(), String> {
    match width {
        Width::Bits32 => check_elf(ElfFile32::<object::Endianness>::parse(object), elf::EM_386),
        Width::Bits64 => check_elf(ElfFile64::<object::Endianness>::parse(object), elf::EM_X86_64),
    }
}

fn check_elf<'d, H: FileHeader<Endian = object::Endianness>>(
    file: object::Result<ElfFile<'d, H>>,
    machine: elf::Machine,
) -> Result<(), String> {
    let bits = if machine == elf::EM_386 { 32 } else { 64 };
    let wrong = |found: &str| {
        format!(
            "the assembler made {found} where the target needs a {bits}-bit x86 ELF object: \
             check that CC is a compiler for the target"
        )
    };
    let file = file.map_err(|error| wrong(&format!("something else ({error})")))?;
    let found = file.elf_header().e_machine(file.endian());
    if found != machine {
        return Err(wrong(&format!("an ELF object for machine {found}")));
    }
    let mut sections = file.sections().filter(|section| section.name() == Ok(SECTION));
    let section = sections.next().filter(|section| section.size() > 0);
    if sections.next().is_some() {
        return Err(format!(
            "there are several sections {SECTION}, with different flags: \
             define patchlets by the macros of patchlet.h only"
        ));
    }
    let section = section.ok_or_else(|| {
        format!("no patchlet in it ({SECTION} is missing or empty): define one with PATCHLET(name)")
    })?;
    let object::SectionFlags::Elf { sh_flags: flags, .. } = section.flags() else {
        return Err(format!("{SECTION} has no ELF flags"));
    };
    if flags.intersects(elf::SHF_WRITE.with(elf::SHF_EXECINSTR)) || !flags.contains(elf::SHF_ALLOC)
    {
        return Err(format!(
            "{SECTION} has flags {:#x}, but must be allocated, read-only and not executable: \
             define patchlets by the macros of patchlet.h only",
            flags.0
        ));
    }

    let labels = labels(&file, section.index())?;
    let ranges = ranges(labels)?;
    covered(&ranges, section.size())?;
    if let Some((offset, relocation)) = section.relocations().next() {
        let name = ranges
            .iter()
            .find(|range| range.start <= offset && offset < range.end)
            .map_or("?", |range| range.name.as_str());
        return Err(relocated(
            &file,
            name,
            &format!("at offset {offset:#x} of {SECTION}"),
            &relocation,
        ));
    }
    native(&file, &section, &ranges)
}

/// The native function of each patchlet is the second copy of its lines, in
/// another place, so what depends on the place shows here: GNU as knows the
/// distance between two patchlets, and makes a jump from one to the other
/// without a relocation.
fn native<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    section: &ElfSection<'d, '_, H>,
    ranges: &[Range],
) -> Result<(), String> {
    for Range { name, start, end } in ranges {
        let function = file.symbol_by_name(&format!("patchlet_native_{name}"));
        let text = function
            .and_then(|function| function.section_index())
            .and_then(|index| file.section_by_index(index).ok());
        let (Some(function), Some(text)) = (function, text) else {
            return Err(format!(
                "patchlet `{name}` has no native function: \
                 define patchlets by the macros of patchlet.h only"
            ));
        };
        let (at, len) = (function.address(), end - start);
        let copy = at..at.saturating_add(len);
        if let Some((_, relocation)) = text.relocations().find(|(at, _)| copy.contains(at)) {
            return Err(relocated(file, name, "in its native function", &relocation));
        }
        let copies = [section.data_range(*start, len), text.data_range(at, len)];
        if !matches!(copies, [Ok(Some(patchlet)), Ok(Some(native))] if patchlet == native) {
            return Err(format!(
                "patchlet `{name}` and its native function differ, though they come from the same \
                 lines: a patchlet is copied elsewhere, so it can only use registers and constants"
            ));
        }
    }
    Ok(())
}

fn relocated<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    name: &str,
    place: &str,
    relocation: &object::Relocation,
) -> String {
    let symbol = match relocation.target() {
        object::RelocationTarget::Symbol(index) => target_name(file, index),
        _ => None,
    };
    format!(
        "patchlet `{name}` has a relocation (to `{}`, {place}): \
         a patchlet is copied elsewhere, so it can only use registers and constants",
        symbol.unwrap_or("?")
    )
}

/// The name of what a relocation is to; that of its section for a local label,
/// which has none in the object.
fn target_name<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    index: object::SymbolIndex,
) -> Option<&'d str> {
    let symbol = file.symbol_by_index(index).ok()?;
    match symbol.name() {
        Ok("") => file.section_by_index(symbol.section_index()?).ok()?.name().ok(),
        name => name.ok(),
    }
}

/// Offsets of a `_start` and an `_end` label.
type Labels = BTreeMap<String, [Option<u64>; 2]>;

fn labels<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    section: object::SectionIndex,
) -> Result<Labels, String> {
    let mut labels = Labels::new();
    // An undefined one is another file's.
    for symbol in file.symbols().filter(|symbol| !symbol.is_undefined()) {
        let label = symbol.name().unwrap_or_default();
        let Some((name, end)) = label.strip_prefix("patchlet_").and_then(|rest| {
            rest.strip_suffix("_start")
                .map(|name| (name, false))
                .or_else(|| rest.strip_suffix("_end").map(|name| (name, true)))
        }) else {
            continue;
        };
        if symbol.section_index() != Some(section) {
            return Err(format!(
                "label `{label}` of patchlet `{name}` is not in {SECTION}: \
                 define patchlets by the macros of patchlet.h only"
            ));
        }
        let hidden = matches!(symbol.flags(), SymbolFlags::Elf { st_other, .. }
            if st_other.visibility() == elf::STV_HIDDEN);
        if !symbol.is_global() || !hidden {
            return Err(format!(
                "label `{label}` of patchlet `{name}` must be global and hidden: \
                 define patchlets by the macros of patchlet.h only"
            ));
        }
        labels.entry(name.to_owned()).or_default()[usize::from(end)] = Some(symbol.address());
    }
    Ok(labels)
}

fn ranges(labels: Labels) -> Result<Vec<Range>, String> {
    let mut ranges = Vec::new();
    for (name, pair) in labels {
        let (start, end) = match pair {
            [Some(start), Some(end)] => (start, end),
            [None, _] => {
                return Err(format!(
                    "patchlet `{name}` has an end but no start: is PATCHLET({name}) missing?"
                ));
            }
            [_, None] => {
                return Err(format!(
                    "patchlet `{name}` has a start but no end: is END_PATCHLET({name}) missing?"
                ));
            }
        };
        if start > end {
            return Err(format!(
                "the labels of patchlet `{name}` are swapped: its end is at {end:#x}, before its start at {start:#x}"
            ));
        }
        if start == end {
            return Err(format!(
                "patchlet `{name}` is empty: put an instruction between its two macros"
            ));
        }
        ranges.push(Range { name, start, end });
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    Ok(ranges)
}

/// Every byte of the section belongs to exactly one patchlet.
fn covered(ranges: &[Range], size: u64) -> Result<(), String> {
    let mut at = 0;
    let mut before = "the start of the section".to_owned();
    for Range { name, start, end } in ranges {
        if *start > at {
            return Err(format!(
                "{} byte(s) between {before} and patchlet `{name}` belong to no patchlet \
                 (offsets {at:#x}..{start:#x} of {SECTION}): remove the alignment or data there",
                start - at
            ));
        }
        if *start < at {
            return Err(format!(
                "patchlet `{name}` at {start:#x}..{end:#x} overlaps {before}, which ends at {at:#x}: \
                 is an END_PATCHLET missing?"
            ));
        }
        at = *end;
        before = format!("patchlet `{name}`");
    }
    if at != size {
        return Err(format!(
            "{} byte(s) behind {before} belong to no patchlet \
             (offsets {at:#x}..{size:#x} of {SECTION}): remove the alignment or data there",
            size - at
        ));
    }
    Ok(())
}
