//! Builds the two other ways to keep instructions as data, top-level inline assembly and hex
//! tables. They are built in Rust and in C under the same matrix as the crate, and in C alone under
//! every compiler, LTO, optimization level and linker.
//!
//! ```text
//! cargo run --example rivals             all of it: a table, and rivals.json
//! cargo run --example rivals -- --only asm width=64,lto=thin
//!                                        one program: asm, asm_local, hex, c_asm,
//!                                        c_asm_local or c_hex in a configuration
//! cargo run --example rivals -- --only gcc -m64 -DHEX -O2 -fuse-ld=bfd
//!                                        one in C alone, as rivals.json names it
//! ```
//!
//! The smallest cases that break are tests, one each, in `tests/rivals.rs`.

#[path = "../../support"]
mod support {
    pub mod table;
}

#[path = "../matrix/command.rs"]
mod command;
#[allow(dead_code, reason = "for the matrix of the crate")]
#[path = "../matrix/construct.rs"]
mod construct;
#[allow(dead_code, reason = "for the matrix of the crate")]
#[path = "../matrix/factors.rs"]
mod factors;
#[allow(dead_code, reason = "for the matrix of the crate")]
#[path = "../matrix/pairs.rs"]
mod pairs;
#[allow(dead_code, reason = "for the matrix of the crate")]
#[path = "../matrix/tools.rs"]
mod tools;
#[path = "../matrix/workers.rs"]
mod workers;

mod in_c;
mod in_rust;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use factors::Config;
use tools::Tools;
use verdict::{Case, Counts};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [] => everything(),
        ["--only", ref name @ ..] => only(name),
        _ => Err("usage: rivals [--only CONSTRUCTION CONFIGURATION]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Builds and checks one program, and prints its commands.
fn only(name: &[&str]) -> Result<(), String> {
    let construction = name.split_first().and_then(|(first, rest)| {
        Some((in_rust::CONSTRUCTIONS.iter().find(|known| known.name == *first)?, rest))
    });
    let case = match construction {
        Some((construction, [config])) => in_rust::case(construction, Config::parse(config)?),
        _ => {
            let name = name.join(" ");
            let mut known = in_c::cases().into_iter();
            known.find(|case| case.name == name).ok_or(format!("there is no program `{name}`"))?
        }
    };
    let mut log = Vec::new();
    let verdict = (case.build)(&Tools::find()?, &tools::target_folder("rivals", "only")?, &mut log);
    for line in log {
        println!("{line}");
    }
    println!("{verdict:?}");
    Ok(())
}

fn everything() -> Result<(), String> {
    let tools = Tools::find()?;
    let mut cases = in_rust::cases();
    cases.extend(in_c::cases());
    let job = |case: &Case, folder: &Path| (case.build)(&tools, folder, &mut Vec::new());
    let verdicts = workers::run_all("rivals", &cases, job, |verdict| !verdict.is_good())?;
    let mut rows: Vec<(String, Counts)> = Vec::new();
    for (case, verdict) in cases.iter().zip(&verdicts) {
        let row = match rows.iter().position(|(name, _)| *name == case.row) {
            Some(row) => row,
            None => {
                rows.push((case.row.clone(), Counts::default()));
                rows.len() - 1
            }
        };
        rows[row].1.add(case, verdict);
    }
    println!("{}", verdict::HEAD);
    for (name, counts) in &rows {
        println!("{}", counts.row(name));
    }
    for (name, counts) in &rows {
        for (what, weak) in &counts.weak {
            println!("\n{name}: {} × {what}", weak.count);
            println!("    cargo run --example rivals -- --only {}", weak.smallest);
        }
    }
    let file = tools::target_folder("rivals", "")?.join("rivals.json");
    let lines: Vec<String> =
        cases.iter().zip(&verdicts).map(|(case, verdict)| verdict.json(case)).collect();
    fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n")))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    println!("\n{} programs; {}", verdicts.len(), file.display());
    Ok(())
}
