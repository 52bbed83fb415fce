//! Builds the packages in `tests/fixtures`, in copies of the whole crate, so that a test can edit
//! any file. All builds share one target folder, so that `cc` and `object` are compiled once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The parts of the repository that a copy has: all that its manifest names.
const PARTS: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "README.md",
    "asm",
    "docs",
    "src",
    "tests",
    "benches",
];

/// Makes or updates a copy of the crate in a folder of this name, and returns the folder. Files
/// that did not change are not written, because cargo would take them for changed.
pub fn copy_crate(name: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&copy).expect("a folder below CARGO_TARGET_TMPDIR");
    for part in PARTS.iter().filter(|part| repository.join(part).exists()) {
        copy_changed(&repository.join(part), &copy.join(part));
    }
    copy
}

fn copy_changed(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder below CARGO_TARGET_TMPDIR");
        for entry in fs::read_dir(from).expect("a folder of the repository") {
            let name = entry.expect("an entry of a folder").file_name();
            // `target` would be a build of the test kernel by hand.
            if name != "target" {
                copy_changed(&from.join(&name), &to.join(&name));
            }
        }
        return;
    }
    let wanted = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    if fs::read(to).ok().as_ref() != Some(&wanted) {
        fs::write(to, wanted).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }
}

/// Returns a command of cargo for the package in `package`, with the lock file of the repository.
/// The packages in it are already downloaded.
pub fn cargo(package: &Path, arguments: &[&str]) -> Command {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    fs::copy(&lock, package.join("Cargo.lock")).expect("Cargo.lock is in the repository");
    let mut command = Command::new(env::var_os("CARGO").expect("cargo runs the tests"));
    command
        .args(arguments)
        .arg("--offline")
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures-target"))
        // The variable says what the tests were built for, which must not apply here.
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(package);
    command
}

/// Standard output and standard error, as text.
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{} does not start: {error}", command.get_program().display())
    });
    Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
