//! Builds the program in `program/` in every way that `factors.rs` lists, inspects each program and
//! runs it.
//!
//! ```text
//! cargo run --example matrix             every pair, and LTO × opt × linker
//! cargo run --example matrix -- --short  every value, and LTO × linker
//! cargo run --example matrix -- --list   what a full run builds
//! cargo run --example matrix -- --only width=64,lto=fat
//!                                                   one, and its commands
//! ```

#[path = "../../support"]
mod support {
    #[allow(dead_code, reason = "only the bytes of the set are needed")]
    pub mod by_feature;
    pub mod elf;
    #[allow(dead_code, reason = "tests look at files of their own")]
    pub mod layout;
    pub mod meaning;
    pub mod table;
}

mod binary;
mod checks;
mod command;
mod construct;
mod factors;
mod inside;
mod pairs;
mod report;
mod tools;
mod workers;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, panic};

use binary::Binary;
use checks::Summary;
use factors::{Config, FACTORS, FULL, RULES, Rule};
use pairs::{Pair, Plan, pairs_of};
use report::{Attempt, Impossible, Outcome, Results};
use support::table::Width;
use tools::Tools;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [] => matrix([0, 1].map(|width| pairs::full(width, FULL)), "matrix.json", true),
        ["--short"] => {
            let plan = [0, 1].map(|width| pairs::short(width, &["lto", "linker"]));
            matrix(plan, "matrix-short.json", false)
        }
        ["--list"] => {
            list([0, 1].map(|width| pairs::full(width, FULL)));
            Ok(true)
        }
        ["--only", config] => only(config),
        _ => Err("usage: matrix [--short | --list | --only CONFIGURATION]".to_owned()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn list(plans: [Plan; 2]) {
    for plan in plans {
        for config in plan.configs {
            println!("{config}");
        }
    }
}

/// Builds and checks one configuration, and prints its commands. The program is kept.
fn only(text: &str) -> Result<bool, String> {
    let config = Config::parse(text)?;
    let tools = Tools::find()?;
    let folder = tools::target_folder("matrix", "only")?;
    let mut log = Vec::new();
    let result = examine(&tools, &config, &folder, &mut log);
    for line in log {
        println!("{line}");
    }
    match &result {
        Ok(summary) => println!("{summary:?}"),
        Err(reason) => {
            println!("FAILED: {reason}");
            if let Some(reason) = config.impossible() {
                println!("It cannot be built: {reason}.");
            }
        }
    }
    Ok(result.is_ok())
}

/// Builds one configuration, looks at it, runs it.
fn examine(
    tools: &Tools,
    config: &Config,
    folder: &Path,
    log: &mut Vec<String>,
) -> Result<Summary, String> {
    let program = construct::build(tools, config, folder, log)?;
    let file = fs::read(&program).map_err(|error| format!("{}: {error}", program.display()))?;
    let binary = Binary::read(&file)?;
    let summary = checks::check(&binary, config)?;
    if !binary.stripped {
        labels(&program, config, &binary)?;
    }
    if inside::runs(config) {
        log.push(program.display().to_string());
        inside::check(&program, &binary, &summary)?;
    }
    Ok(summary)
}

/// The inspection that all tests share, by labels and two libraries, of the native
/// set; it must find what the index says. (Without a link script other data may
/// lie between two sets.)
fn labels(program: &Path, config: &Config, binary: &Binary) -> Result<(), String> {
    let width = if config.is("width", "64") { Width::Bits64 } else { Width::Bits32 };
    let native = support::table::native(width);
    let is_native = |label: &str| {
        native.iter().any(|row| {
            let rest = label.strip_prefix("patchlet_").and_then(|rest| rest.strip_prefix(row.name));
            matches!(rest, Some("_start" | "_end"))
        })
    };
    // It is made for tests, and panics.
    let found = panic::catch_unwind(|| {
        let mut image = support::elf::read(program);
        image.labels.retain(|label| is_native(&label.name));
        support::layout::check(&image)
    });
    let found = match found {
        Ok(found) => found?,
        Err(reason) => {
            let reason = reason.downcast_ref::<String>();
            return Err(reason.map_or("unreadable".to_owned(), Clone::clone));
        }
    };
    let mut indexed: Vec<_> =
        binary.patchlets.iter().map(|patchlet| (patchlet.address, &patchlet.name)).collect();
    indexed.retain(|(_, name)| native.iter().any(|row| row.name == *name));
    indexed.sort_unstable();
    if indexed.into_iter().eq(found.iter().map(|found| (found.start, &found.name))) {
        return Ok(());
    }
    Err(format!("the labels of the {width} program are not what its index says"))
}

fn matrix(plans: [Plan; 2], file: &str, try_impossible: bool) -> Result<bool, String> {
    let tools = Tools::find()?;
    // Failures are lines; what panics is caught.
    panic::set_hook(Box::new(|_| {}));
    let begin = Instant::now();
    let mut results = Results {
        versions: tools.versions.clone(),
        date: tools::ask("date", &["--iso-8601=date"])?.trim().to_owned(),
        ..Results::default()
    };
    let configs: Vec<Config> = plans.iter().flat_map(|plan| plan.configs.clone()).collect();
    let covered: BTreeSet<Pair> = configs.iter().flat_map(pairs_of).collect();
    results.pairs_covered = covered.len();
    results.pairs_impossible = plans.iter().flat_map(impossible_pairs).collect();
    let job = |config: &Config, folder: &Path| outcome(&tools, config, folder);
    results.outcomes = workers::run_all("matrix", &configs, job, |one| one.result.is_err())?;
    if try_impossible {
        results.impossible = RULES
            .iter()
            .flat_map(tries)
            .map(|one| attempt(&tools, one))
            .collect::<Result<_, _>>()?;
    }
    results.seconds = begin.elapsed().as_secs_f64();

    let json = tools::target_folder("matrix", "")?.join(file);
    fs::write(&json, report::json(&results))
        .map_err(|error| format!("{}: {error}", json.display()))?;
    Ok(summarize(&results, &json))
}

/// Prints what there is to know; whether all is well.
fn summarize(results: &Results, json: &Path) -> bool {
    println!("{}", report::table(results));
    println!("Pairs of values covered: {}", results.pairs_covered);
    println!("Pairs of values that nobody can build: {}", results.pairs_impossible.len());
    for pair in &results.pairs_impossible {
        println!("  {pair}");
    }
    let mut well = true;
    for one in &results.impossible {
        let Some(attempt) = &one.attempt else {
            println!("by definition  {}: {}", one.combination, one.reason);
            continue;
        };
        let said: String = attempt.failure.iter().flat_map(|said| said.chars()).take(120).collect();
        match (attempt.is_as_known(), &attempt.failure) {
            (true, None) => println!("builds here    {}", one.combination),
            (true, Some(_)) => println!(
                "does not build {}: {}\n               {said}",
                one.combination, one.reason
            ),
            (false, failure) => {
                well = false;
                let what = if failure.is_some() { "NO LONGER BUILDS" } else { "BUILDS AFTER ALL" };
                let repeat = report::repeat(&one.config);
                println!("{what}  {}: {repeat}\n               {said}", one.combination);
            }
        }
    }
    let failed = results.outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    for (count, reason) in report::reasons(&results.outcomes) {
        println!("{count:>4} × {reason}");
    }
    println!(
        "{} programs built, {} run, {failed} failed, in {:.0} seconds; {}",
        results.outcomes.len(),
        results.outcomes.iter().filter(|outcome| outcome.ran).count(),
        results.seconds,
        json.display()
    );
    well && failed == 0
}

/// Builds and checks one configuration. Prints a line at once if that fails.
fn outcome(tools: &Tools, config: &Config, folder: &Path) -> Outcome {
    let begin = Instant::now();
    let result = examine(tools, config, folder, &mut Vec::new());
    if let Err(reason) = &result {
        report::failure(config, reason);
    }
    Outcome {
        config: config.clone(),
        seconds: begin.elapsed().as_secs_f64(),
        ran: result.is_ok() && inside::runs(config),
        result,
    }
}

/// Pairs that nobody can build, but those of a value that a width has no use for.
fn impossible_pairs(plan: &Plan) -> Vec<String> {
    let width = plan.configs.first().map_or(0, |config| config.0[0]);
    let word = |(factor, value): (usize, usize)| {
        format!("{}={}", FACTORS[factor].name, FACTORS[factor].values[value])
    };
    let broken = |values: &[(usize, usize)]| {
        let mut partial = vec![None; FACTORS.len()];
        for (factor, value) in values {
            partial[*factor] = Some(*value);
        }
        factors::broken_rule(&partial).map(|rule| rule.reason)
    };
    let mut lines = Vec::new();
    for (one, other) in plan.impossible.iter().copied() {
        let usable = |value| one.0 == 0 || broken(&[(0, width), value]).is_none();
        if usable(one) && usable(other) {
            let why = broken(&[one, other]).unwrap_or("no third value goes with both");
            let width = FACTORS[0].values[width];
            lines.push(format!("{width}-bit: {} × {}: {why}", word(one), word(other)));
        }
    }
    lines
}

/// Returns a configuration for each pair of values of a rule, with default values otherwise.
fn tries(rule: &'static Rule) -> impl Iterator<Item = (Config, String, &'static Rule)> {
    let ((one, ones), (other, others)) = (rule.one, rule.other);
    let both = move |a: &'static str| others.iter().map(move |b| (a, *b));
    ones.iter().copied().flat_map(both).map(move |(a, b)| {
        let mut config = Config(vec![0; FACTORS.len()]);
        for (name, value) in rule.beside.iter().copied().chain([(one, a), (other, b)]) {
            config.set(name, value);
        }
        (config, format!("{one}={a} × {other}={b}"), rule)
    })
}

fn attempt(
    tools: &Tools,
    (config, combination, rule): (Config, String, &'static Rule),
) -> Result<Impossible, String> {
    let attempt = match rule.shown_by_build {
        Some(failing) => {
            let folder = tools::target_folder("matrix", "impossible")?;
            let failure = examine(tools, &config, &folder, &mut Vec::new()).err();
            Some(Attempt { failure, builds: failing.builds(tools.major(failing.tool)?) })
        }
        None => None,
    };
    Ok(Impossible { config, combination, reason: rule.reason, attempt })
}
