//! The core library, built here where Rust comes without one for the targets, as
//! Debian's does; tests/setup.sh says so.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// Arguments of rustc that name the core library for this target: none where rustc
/// has it. Builds it, once, below the folder `target` of the repository.
///
/// # Errors
/// What cargo said.
pub fn arguments(root: &Path, target: &str) -> Result<Vec<String>, String> {
    if env::var_os("PATCHLET_BUILD_STD").is_none() {
        return Ok(Vec::new());
    }
    let folder = root.join("target/matrix/core");
    package(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let output = Command::new("cargo")
        .args(["build", "-Zbuild-std=core", "--release", "--target", target])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--target-dir")
        .arg(folder.join("target"))
        // As rustup's comes: for LTO, too. The last one counts, cargo's own is `no`.
        .env("RUSTFLAGS", "-C embed-bitcode=yes")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(&folder)
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the core library for {target} does not build: {said}"));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    // As cargo tells rustc, with options that are not stable either.
    let mut arguments = vec!["-Zunstable-options".to_owned()];
    for name in ["core", "compiler_builtins"] {
        let library = library(&messages, name)
            .ok_or_else(|| format!("cargo does not say where {name} for {target} is"))?;
        let folder = library.parent().unwrap_or(library);
        arguments.extend(["-L".to_owned(), format!("dependency={}", folder.display())]);
        arguments.push("--extern".to_owned());
        arguments.push(format!("noprelude:{name}={}", library.display()));
    }
    Ok(arguments)
}

/// A package of nothing that cargo has to build the core library for. It stays as it
/// is when it is there: tests come here at the same time.
fn package(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in [
        ("lib.rs", "#![no_std]\n"),
        (
            "Cargo.toml",
            "[package]\nname = \"only-core\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n",
        ),
    ] {
        let file = folder.join(name);
        if fs::read(&file).is_ok_and(|found| found == text.as_bytes()) {
            continue;
        }
        let own = folder.join(format!("{name}.{:?}", std::thread::current().id()));
        fs::write(&own, text)?;
        fs::rename(&own, &file)?;
    }
    Ok(())
}

/// The file of a library, in cargo's messages.
fn library<'m>(messages: &'m str, name: &str) -> Option<&'m Path> {
    messages.split('"').map(Path::new).find(|path| {
        let own = path.file_name().and_then(|file| file.to_str());
        let rest = own.and_then(|file| file.strip_prefix(&format!("lib{name}-")));
        rest.is_some_and(|rest| rest.ends_with(".rlib"))
    })
}
