//! The other constructions in Rust: `rust/program.rs` in every configuration of
//! the crate's own matrix.

use super::construct::build_single;
use super::factors::{Config, FULL};
use super::pairs;
use super::support::table::Width;
use super::verdict::{Case, Verdict, examine};

/// Names of the constructions, as in `rust/program.rs`, and in words.
const CONSTRUCTIONS: [(&str, &str); 3] = [
    ("asm", "Rust, `global_asm!`, global labels"),
    ("asm_local", "Rust, `global_asm!`, no `.globl`"),
    ("hex", "Rust, hex table"),
];

/// All of them.
pub fn cases() -> Vec<Case> {
    let configs: Vec<Config> =
        [0, 1].into_iter().flat_map(|width| pairs::full(width, FULL).configs).collect();
    let of = |(name, _): (&'static str, _)| {
        configs.iter().map(move |config| case(name, config.clone())).collect::<Vec<_>>()
    };
    CONSTRUCTIONS.into_iter().flat_map(of).collect()
}

/// One of them.
pub fn case(construction: &str, config: Config) -> Case {
    let words = CONSTRUCTIONS.iter().find(|(name, _)| *name == construction);
    let cfg = format!("construction=\"{construction}\"");
    Case {
        row: words.map_or(construction, |(_, words)| words).to_owned(),
        name: config.to_string(),
        build: Box::new(move |tools, folder, log| {
            let source = tools.root.join("tests/rivals/rust/program.rs");
            let program = match build_single(tools, &config, folder, (&source, &cfg), log) {
                Ok(program) => program,
                Err(reason) => return Verdict::NotBuilt(reason),
            };
            let width = if config.is("width", "64") { Width::Bits64 } else { Width::Bits32 };
            let run = !config.is("place", "high");
            examine(&program, width, run, |name, hex| format!("native {name} 0 {hex}"))
        }),
    }
}
