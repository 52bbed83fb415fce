//! The tools of this machine: their paths and versions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What rustc builds for, 64-bit and 32-bit.
pub const TARGETS: [&str; 2] = ["x86_64-unknown-none", "i686-unknown-linux-gnu"];

/// What the builds need to know.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The repository.
    pub root: PathBuf,
    /// gcc's linker plugin and the program it starts.
    pub gcc_plugin: String,
    pub gcc_wrapper: String,
    /// LLVM's linker plugin, of clang's version.
    pub llvm_plugin: String,
    /// Names and versions, for the record.
    pub versions: Vec<(String, String)>,
}

impl Tools {
    /// Returns the major version of a tool, the first number with a dot in what it says.
    ///
    /// # Errors
    /// There is no such tool, or its words have no version.
    pub fn major(&self, tool: &str) -> Result<u32, String> {
        let said = self.versions.iter().find(|(name, _)| name == tool);
        let (_, said) = said.ok_or(format!("{tool} is no tool of the matrix"))?;
        said.split_whitespace()
            .filter_map(|word| word.split_once('.'))
            .find_map(|(major, _)| major.parse().ok())
            .ok_or(format!("{tool} says no version: {said}"))
    }

    /// Asks each tool.
    ///
    /// # Errors
    /// The first that does not answer.
    pub fn find() -> Result<Self, String> {
        let rust_lld = rust_lld()?;
        let mut versions = Vec::new();
        for (name, program, arguments) in [
            ("rustc", "rustc", &["--version"][..]),
            ("gcc", "gcc", &["--version"]),
            ("clang", "clang", &["--version"]),
            ("ld", "ld", &["--version"]),
            ("ld.lld", "ld.lld", &["--version"]),
            ("rust-lld", rust_lld.as_str(), &["-flavor", "gnu", "--version"]),
            ("mold", "mold", &["--version"]),
        ] {
            let text = ask(program, arguments)?;
            versions.push((name.to_owned(), text.lines().next().unwrap_or_default().to_owned()));
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).to_owned();
        Ok(Self {
            root,
            gcc_plugin: ask("gcc", &["-print-file-name=liblto_plugin.so"])?.trim().to_owned(),
            gcc_wrapper: ask("gcc", &["-print-prog-name=lto-wrapper"])?.trim().to_owned(),
            llvm_plugin: llvm_plugin()?,
            versions,
        })
    }
}

/// Returns the path of the plugin that clang names to a linker which cannot read LLVM's
/// bitcode itself.
fn llvm_plugin() -> Result<String, String> {
    // With `-###` clang prints what it would run, on standard error, and runs nothing.
    let link = ["-###", "-flto", "-fuse-ld=bfd", "-x", "c", "/dev/null", "-o", "/dev/null"];
    let output = Command::new("clang")
        .args(link)
        .output()
        .map_err(|error| format!("clang does not start: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let plugin = said.split_once("\"-plugin\" \"").and_then(|(_, rest)| rest.split_once('"'));
    let (plugin, _) = plugin.ok_or("clang names no linker plugin for its LTO objects")?;
    Ok(plugin.to_owned())
}

/// Returns the path of rust-lld, which is one of the parts of a rustc and not on PATH.
fn rust_lld() -> Result<String, String> {
    let text = ask("rustc", &["-vV"])?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let lld = Path::new(ask("rustc", &["--print", "sysroot"])?.trim())
        .join("lib/rustlib")
        .join(host.ok_or("rustc does not say what its host is")?)
        .join("bin/rust-lld");
    Ok(lld.display().to_string())
}

/// Runs a program and returns its standard output.
///
/// # Errors
/// It does not start, or fails.
pub fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the folder of this name for files that this program makes.
pub fn target_folder(program: &str, name: &str) -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    // <target>/<profile>/examples/<program>
    let target = own.ancestors().nth(3).ok_or("no target folder")?;
    let folder = target.join(program).join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}
