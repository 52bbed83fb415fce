//! The cost of a call, which `tests/process` measures in a process: times in an emulator mean
//! nothing.

use std::env;
use std::path::Path;
use std::process::Command;

use super::support::table::Width;

pub fn show(width: Width) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["run", "--quiet", "--locked", "--release", "--bin", "cost"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process"))
        // Its flags are in .cargo/config.toml, which these hide.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if width == Width::Bits32 {
        cargo.args(["--target", "i686-unknown-linux-musl"]);
    }
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let [op, before, after] = line.split(' ').collect::<Vec<_>>()[..] {
            println!("   {:<8} {op:<26} {before:>6} → {after}", width.to_string());
        }
    }
}
