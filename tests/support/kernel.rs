//! Builds the test kernel for a width, and the module that it loads.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::table::Width;

/// Returns the folder of the kernel's package.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel")
}

fn target(width: Width) -> &'static str {
    match width {
        Width::Bits64 => "x86_64-unknown-none",
        Width::Bits32 => "i686-unknown-linux-gnu",
    }
}

fn rustflags(width: Width) -> String {
    format!("CARGO_TARGET_{}_RUSTFLAGS", target(width).replace('-', "_").to_uppercase())
}

/// Builds the kernel in release, with this kind of link-time optimization (`fat`,
/// `thin` or `off`), and the module beside it. Each kind has a folder of its own, so that the
/// three files stand side by side.
pub fn build(width: Width, lto: &str) -> PathBuf {
    build_in(width, lto, lto, "")
}

/// Builds the 32-bit kernel for CPUs without SSE and CMOV, as far as its code and that of the crate
/// goes. The core library that comes with Rust is for CPUs with SSE2 (`src/by_feature.rs` of the
/// kernel). What a Pentium has and a 486 has not is CMPXCHG8B, which only tests use that do not run there.
#[allow(dead_code, reason = "one test boots on old CPUs")]
pub fn build_for_486() -> PathBuf {
    build_in(Width::Bits32, "fat", "486", "-C target-cpu=pentium")
}

fn build_in(width: Width, lto: &str, folder: &str, flags: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kernel").join(folder);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--locked", "--release", "--target", target(width)])
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_PROFILE_RELEASE_LTO", lto)
        // Cargo adds these to the flags of the kernel's .cargo/config.toml.
        .env(rustflags(width), flags)
        // The kernel's flags are in its own .cargo/config.toml, which these hide.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(package())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "the {width} kernel does not build with lto={lto} {flags}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let kernel = folder.join(target(width)).join("release/patchlet-test-kernel");
    build_module(width, &kernel.with_file_name("patchlet-test-module.o"), "ld.lld");
    kernel
}

/// Builds the module in release, and links it by this linker to one object.
pub fn build_module(width: Width, object: &Path, linker: &str) {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/module/build.sh"))
        .arg(target(width))
        .arg(object)
        .env("CARGO", env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .env("LD", linker)
        .output()
        .expect("build.sh starts");
    assert!(
        output.status.success(),
        "the {width} module does not build with {linker}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
