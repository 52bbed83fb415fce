//! Runs the build script of `tests/fixtures/own` as cargo does, but with sources, targets and
//! compilers that the test chooses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use super::fixture::{cargo, copy_crate, run};

/// The results of a run.
#[allow(dead_code, reason = "tests/inspection.rs looks at a part of it")]
pub struct Outcome {
    /// The messages that cargo would show as errors.
    pub errors: Vec<String>,
    /// The messages that cargo would show as warnings.
    pub warnings: Vec<String>,
    /// The files that cargo would watch.
    pub inputs: Vec<String>,
    /// The libraries that cargo would be told to link.
    pub linked: Vec<String>,
    /// The folder OUT_DIR.
    pub out: PathBuf,
}

/// Runs the script on `source` for a target, with these variables in addition to cargo's. OUT_DIR
/// has a library of an earlier build.
pub fn assemble(case: &str, source: &str, target: &str, variables: &[(&str, &str)]) -> Outcome {
    assemble_with(case, source, &[], target, variables)
}

/// Runs the script with further files in the package, each given with its text.
pub fn assemble_with(
    case: &str,
    source: &str,
    files: &[(&str, &str)],
    target: &str,
    variables: &[(&str, &str)],
) -> Outcome {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("script").join(case);
    let out = package.join("out");
    let _ = fs::remove_dir_all(&package);
    fs::create_dir_all(package.join("src")).expect("a folder below CARGO_TARGET_TMPDIR");
    fs::create_dir_all(&out).expect("a folder below CARGO_TARGET_TMPDIR");
    fs::write(package.join("src/own.S"), source).expect("a file below CARGO_TARGET_TMPDIR");
    for (name, text) in files {
        fs::write(package.join(name), text).expect("a file below CARGO_TARGET_TMPDIR");
    }
    fs::write(out.join("libown_patchlets.a"), "yesterday's").expect("a file in OUT_DIR");

    let output = run(Command::new(script())
        .current_dir(&package)
        .env_clear()
        .env("PATH", env::var_os("PATH").expect("PATH is set"))
        .env("OUT_DIR", &out)
        .env("DEP_PATCHLET_INCLUDE", Path::new(env!("CARGO_MANIFEST_DIR")).join("asm"))
        .envs(cargo_variables(target))
        .envs(variables.iter().copied()));
    let lines = |prefix: &str| {
        let lines = output.stdout.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut linked = lines("cargo:rustc-link-lib=");
    linked.extend(lines("cargo::rustc-link-lib="));
    let outcome = Outcome {
        errors: lines("cargo::error="),
        warnings: lines("cargo::warning="),
        inputs: lines("cargo::rerun-if-changed="),
        linked,
        out,
    };
    assert_eq!(
        output.success,
        outcome.errors.is_empty(),
        "{case}: the exit status is not what the messages say\n{}{}",
        output.stdout,
        output.stderr
    );
    outcome
}

/// Compiles the build script and returns its path.
fn script() -> &'static Path {
    static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
    SCRIPT.get_or_init(|| {
        let package = copy_crate("script-crate").join("tests/fixtures/own");
        let output = run(&mut cargo(&package, &["check", "--message-format=json"]));
        assert!(output.success, "tests/fixtures/own does not build:\n{}", output.stderr);
        output
            .stdout
            .lines()
            .filter(|line| line.contains("tests/fixtures/own#") && line.contains("custom-build"))
            .find_map(|line| line.split_once("\"filenames\":[\"")?.1.split('"').next())
            .map(PathBuf::from)
            .expect("cargo says where the build script is")
    })
}

/// Returns the variables that cargo sets for a build script. Their values are asked of the same
/// rustc.
fn cargo_variables(target: &str) -> Vec<(String, String)> {
    let mut variables = vec![
        ("TARGET".to_owned(), target.to_owned()),
        ("HOST".to_owned(), host()),
        ("OPT_LEVEL".to_owned(), "0".to_owned()),
        ("DEBUG".to_owned(), "false".to_owned()),
        ("PROFILE".to_owned(), "debug".to_owned()),
    ];
    for line in rustc(&["--print", "cfg", "--target", target]).lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let name = format!("CARGO_CFG_{}", name.to_uppercase().replace('-', "_"));
        let value = value.trim_matches('"');
        // rustc prints a line for each value of a list.
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, list)) => *list = format!("{list},{value}"),
            None => variables.push((name, value.to_owned())),
        }
    }
    variables
}

fn host() -> String {
    let version = rustc(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc says what its host is").to_owned()
}

fn rustc(arguments: &[&str]) -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = run(Command::new(rustc).args(arguments));
    assert!(output.success, "rustc {arguments:?}: {}", output.stderr);
    output.stdout
}
