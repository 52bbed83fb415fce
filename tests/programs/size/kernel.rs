//! Builds the kernel that is measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::Result;

/// Returns a command of cargo in the kernel's folder.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/size/kernel"));
    cargo
}

/// Returns the folder for the files that are made of the kernel.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/size")
}

/// Returns a command for a release build for this target, in this folder.
pub fn command(target: &str, folder: &Path, features: &str) -> Command {
    // As the test kernel: a site names its slot absolutely on 32 bit. The sizes of
    // stack frames are for `stack`, in a section that is not loaded.
    let flags = "-C relocation-model=static -C linker-flavor=ld.lld -Z emit-stack-sizes";
    let variable =
        |name| format!("CARGO_TARGET_{}_{name}", target.replace('-', "_").to_uppercase());
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--locked", "--release"]);
    cargo
        .args(["--target", target, "--features", features, "--target-dir"])
        .arg(folder)
        .env(variable("LINKER"), "rust-lld")
        .env(variable("RUSTFLAGS"), flags)
        // For -Z.
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    cargo
}

/// Builds this variant; the bytes of the file.
pub fn build(target: &str, level: &str, features: &str) -> Result<Vec<u8>> {
    let folder = folder();
    let status = command(target, &folder, features)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level)
        .status()?;
    if !status.success() {
        return Err(format!("the kernel with {features:?} for {target} was not built").into());
    }
    Ok(fs::read(folder.join(target).join("release/size-kernel"))?)
}
