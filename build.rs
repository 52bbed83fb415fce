//! Picks the assembly of the target, assembles and checks it, and hands the
//! include path on. The work is in `src/assemble.rs`, which kernels call from
//! their own build scripts (feature `build`) for their own patchlets.

#[allow(dead_code)] // The library half of this file is for downstream kernels.
#[path = "src/assemble.rs"]
mod assemble;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: cargo would show only the first of several.
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), assemble::Error> {
    // Of this run, not of the compilation: checkouts can share a target folder.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let asm = Path::new(&folder).join("asm");
    let target = assemble::Target::from_cargo()?;
    let source = match target.width {
        assemble::Width::Bits64 => asm.join("patch_64.S"),
        assemble::Width::Bits32 => asm.join("patch_32.S"),
    };
    // Read by kernels as DEP_PATCHLET_INCLUDE: patchlet.h and patchlet.ld.
    println!("cargo::metadata=include={}", asm.display());
    println!("cargo::rerun-if-changed={}", asm.join("patchlet.ld").display());
    assemble::Assembly::new(source).include(&asm).compile("patchlet_asm")
}
