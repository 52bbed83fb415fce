//! The other constructions in every configuration of the crate's own matrix: in Rust by
//! `rust/program.rs`, and in C by `c/patch.c` as its C part.

use super::construct::{CPart, build_single};
use super::factors::{Config, FULL};
use super::pairs;
use super::support::table::Width;
use super::tools::Tools;
use super::verdict::{Case, Verdict, examine};

/// One of them.
#[derive(Debug)]
pub struct Construction {
    /// Its name on the command line.
    pub name: &'static str,
    /// The same in words.
    words: &'static str,
    /// As `rust/program.rs` knows it.
    cfg: &'static str,
    /// Flags for the C part, if it is the C part that has it.
    flags: Option<&'static [&'static str]>,
}

/// All of them.
pub const CONSTRUCTIONS: [Construction; 6] = [
    Construction {
        name: "asm",
        words: "Rust, `global_asm!`, global labels",
        cfg: "construction=\"asm\"",
        flags: None,
    },
    Construction {
        name: "asm_local",
        words: "Rust, `global_asm!`, no `.globl`",
        cfg: "construction=\"asm_local\"",
        flags: None,
    },
    Construction {
        name: "hex",
        words: "Rust, hex table",
        cfg: "construction=\"hex\"",
        flags: None,
    },
    Construction {
        name: "c_asm",
        words: "top-level `asm`, global labels",
        cfg: "construction=\"c\"",
        flags: Some(&["-DASM"]),
    },
    Construction {
        name: "c_asm_local",
        words: "top-level `asm`, no `.globl`",
        cfg: "construction=\"c\"",
        flags: Some(&["-DASM", "-DLOCAL"]),
    },
    Construction {
        name: "c_hex",
        words: "hex table",
        cfg: "construction=\"c\"",
        flags: Some(&["-DHEX"]),
    },
];

/// Returns each construction in each configuration, also with the construction in C where the
/// configuration has a C part.
pub fn cases() -> Vec<Case> {
    let configs: Vec<Config> =
        [0, 1].into_iter().flat_map(|width| pairs::full(width, FULL).configs).collect();
    let of = |construction: &'static Construction| {
        let has_it = |config: &&Config| construction.flags.is_none() || !config.is("c", "none");
        configs
            .iter()
            .filter(has_it)
            .map(|config| case(construction, config.clone()))
            .collect::<Vec<_>>()
    };
    CONSTRUCTIONS.iter().flat_map(of).collect()
}

/// Makes the case of one construction in one configuration.
pub fn case(construction: &'static Construction, config: Config) -> Case {
    let row = match construction.flags {
        None => construction.words.to_owned(),
        Some(_) => {
            let compiler = config.get("c").replace("-lto", " -flto");
            format!("C in Rust, {compiler}, {}", construction.words)
        }
    };
    Case {
        row,
        name: format!("{} {}", construction.name, config.short()),
        size: config.0.iter().filter(|value| **value != 0).count(),
        build: Box::new(move |tools, folder, log| {
            let part = part(tools, construction);
            let source = tools.root.join("tests/programs/rivals/rust/program.rs");
            let what = (&*source, construction.cfg, &part);
            let program = match build_single(tools, &config, folder, what, log) {
                Ok(program) => program,
                Err(reason) => return Verdict::NotBuilt(reason),
            };
            let width = if config.is("width", "64") { Width::Bits64 } else { Width::Bits32 };
            let run = !config.is("place", "high");
            examine(&program, width, run, |name, hex| format!("native {name} 0 {hex}"))
        }),
    }
}

/// Returns the C part: that of the matrix, or that with the construction.
fn part(tools: &Tools, construction: &Construction) -> CPart {
    match construction.flags {
        None => {
            CPart { source: tools.root.join("tests/programs/matrix/program/part.c"), flags: &[] }
        }
        Some(flags) => CPart { source: tools.root.join("tests/programs/rivals/c/patch.c"), flags },
    }
}
