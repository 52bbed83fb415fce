//! Assembles the patchlets of the target, checks the object, and hands the include path
//! on. The work is in `src/assemble/`, which kernels call from their own build scripts
//! (feature `build`) for their own patchlets.

#[allow(dead_code)] // The library half of this module is for downstream kernels.
#[path = "src/assemble/mod.rs"]
mod assemble;
#[allow(dead_code)] // Linked files, for which the rest is, are the tool's.
#[path = "src/labels.rs"]
mod labels;

use std::env;
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

fn run() -> Result<(), assemble::AssembleError> {
    // Read at run time, not with `env!`: a build script compiled in one checkout may be
    // reused by another that shares its target directory.
    let folder = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let asm = Path::new(&folder).join("asm");
    // Kernels read it as DEP_PATCHLET_INCLUDE: the folder of patchlet.h and patchlet.ld.
    println!("cargo::metadata=include={}", asm.display());
    println!("cargo::rerun-if-changed={}", asm.join("patchlet.ld").display());
    println!("cargo::rustc-check-cfg=cfg(patchlet_assembled, patchlet_ibt)");

    let target = match assemble::BuildTarget::from_cargo() {
        Ok(target) => target,
        // The tool and the functions for build scripts run on hosts of any kind. There they
        // are built without the modules that need the labels of assembled patchlets.
        Err(assemble::AssembleError::Target { .. })
            if has_feature("BUILD") || has_feature("INSPECT") =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    println!("cargo::rustc-cfg=patchlet_assembled");
    if assemble::tracks_branches(&target) {
        println!("cargo::rustc-cfg=patchlet_ibt");
        // Kernels' build scripts get it as DEP_PATCHLET_IBT, for their own patchlets.
        println!("cargo::metadata=ibt=1");
    }
    // Cargo hands this to the link of every program that depends on the crate, before the
    // arguments of the program's own build script: `INCLUDE patchlet.ld` needs no `-L` there.
    println!("cargo::rustc-link-search=native={}", asm.display());
    let source = match target.width {
        assemble::TargetWidth::Bits64 => asm.join("patch_64.S"),
        assemble::TargetWidth::Bits32 => asm.join("patch_32.S"),
    };
    assemble::Assembly::new(source).include(&asm).compile("patchlet_asm")
}

/// Tells whether the crate is built with a feature, given in capitals as cargo has it.
fn has_feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
