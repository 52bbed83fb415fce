//! Measures what the crate adds to a kernel: bytes of text, read-only data, data and stack; bytes
//! for each site; seconds and crates of a cold build.
//!
//! `kernel/` is built with fat LTO in several variants, and each is compared with
//! the one that has not heard of the crate. All of them have `memcpy` and its like.
//!
//! ```text
//! size            every variant, and the limit
//! size limit      whether boot patching has grown
//! size build      the cold build
//! ```

mod build;
mod kernel;
mod stack;

use std::env;
use std::error::Error;
use std::ops::Sub;
use std::process::ExitCode;

use object::{Object, ObjectSection, SectionFlags, elf};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TARGETS: [(&str, &str); 2] =
    [("x86_64-unknown-none", "64 bit"), ("i686-unknown-linux-gnu", "32 bit")];

/// Feature of the kernel, what it is called here, the roots of its stack.
const VARIANTS: [(&str, &str, &[&str]); 9] = [
    ("unused", "a dependency, nothing used", &[]),
    (BOOT, "patching at boot", &["boot"]),
    ("message", "and printing the error", &["message"]),
    ("code", "or only its name and site", &["code"]),
    ("by_feature", "boot, and the ready-made table by CPU feature", &["by_feature"]),
    ("branches", "boot, and a static branch", &["boot", "branches"]),
    ("rendezvous", "boot, and live by rendezvous", &["rendezvous"]),
    ("int3", "boot, and live by INT3", &["int3", "breakpoint"]),
    ("int3,rendezvous", "boot, and live both ways", &["int3", "rendezvous", "breakpoint"]),
];

/// The variant that is to be small.
const BOOT: &str = "boot";
/// Levels, and the bytes of text that it may have on both widths: it must not grow unnoticed.
const LEVELS: [(&str, i64); 2] = [("s", 9216), ("3", 12544)];

/// Sites that the feature `sites` adds.
const SITES: i64 = 100;

fn main() -> ExitCode {
    let result = match env::args().nth(1).as_deref() {
        None => sizes().and_then(|()| limit()),
        Some("limit") => limit(),
        Some("build") => build::cold(),
        Some(other) => Err(format!("there is no {other:?}").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("size: {error}");
            ExitCode::FAILURE
        }
    }
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
    fn of(elf: &object::File<'_>) -> Result<Self> {
        let mut sizes = Self::default();
        for section in elf.sections() {
            let SectionFlags::Elf { sh_flags: flags, .. } = section.flags() else { continue };
            let sum = if !flags.contains(elf::SHF_ALLOC) {
                continue;
            } else if section.name() == Ok("patchlet_sites") {
                &mut sizes.records
            } else if flags.contains(elf::SHF_EXECINSTR) {
                &mut sizes.text
            } else if flags.contains(elf::SHF_WRITE) {
                &mut sizes.data
            } else {
                &mut sizes.rodata
            };
            *sum += i64::try_from(section.size())?;
        }
        Ok(sizes)
    }
}

impl Sub for Sizes {
    type Output = Self;

    fn sub(self, base: Self) -> Self {
        Self {
            text: self.text - base.text,
            rodata: self.rodata - base.rodata,
            data: self.data - base.data,
            records: self.records - base.records,
        }
    }
}

fn built(target: &str, level: &str, features: &str) -> Result<Sizes> {
    Sizes::of(&object::File::parse(&*kernel::build(target, level, features)?)?)
}

fn sizes() -> Result<()> {
    for (target, width) in TARGETS {
        for (level, _) in LEVELS {
            let base = built(target, level, "")?;
            println!("| {width}, opt-level {level} | text | read-only data | data | stack |");
            println!("|---|--:|--:|--:|--:|");
            for (features, name, roots) in VARIANTS {
                let file = kernel::build(target, level, features)?;
                let elf = object::File::parse(&*file)?;
                let Sizes { text, rodata, data, .. } = Sizes::of(&elf)? - base;
                let stack = roots.iter().map(|root| stack::depth(&elf, root));
                let stack = stack.collect::<Result<Vec<_>>>()?.join(", ");
                println!("| {name} | {text} | {rodata} | {data} | {stack} |");
            }
            let more = built(target, level, "sites")? - built(target, level, BOOT)?;
            println!(
                "\nA site has {} bytes of text and a record of {} bytes.\n",
                // To the next byte: text is padded for alignment.
                (more.text + SITES / 2) / SITES,
                more.records / SITES
            );
        }
    }
    Ok(())
}

fn limit() -> Result<()> {
    let mut grown = Vec::new();
    for (level, limit) in LEVELS {
        for (target, width) in TARGETS {
            let text = (built(target, level, BOOT)? - built(target, level, "")?).text;
            let what = format!(
                "{width}, opt-level {level}: boot patching has {text} bytes of text, {limit} at most"
            );
            println!("{what}");
            if text > limit {
                grown.push(what);
            }
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("too much: {}", grown.join("; ")).into()) }
}
