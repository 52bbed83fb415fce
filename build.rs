//! Assembles the native set and the set by CPU feature for the target, checks the objects, and tells the build scripts of
//! kernels where patchlet.h is. The code for it is in `src/assemble/`, which kernels call from
//! their own build scripts (feature `build`).

#[allow(dead_code)] // Some functions of this module are for the build scripts of kernels only.
#[path = "src/assemble/mod.rs"]
mod assemble;
#[allow(dead_code)] // Some functions of this module are for the tool only.
#[path = "src/labels.rs"]
mod labels;

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `AssembleError` prints one line. Of several, cargo would show only the first.
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
    // The build scripts of kernels get the folder of patchlet.h and patchlet.ld in the variable
    // DEP_PATCHLET_INCLUDE.
    println!("cargo::metadata=include={}", asm.display());
    println!("cargo::rerun-if-changed={}", asm.join("patchlet.ld").display());
    println!("cargo::rustc-check-cfg=cfg(patchlet_assembled, patchlet_ibt)");

    let target = match assemble::BuildTarget::from_cargo() {
        Ok(target) => target,
        // The tool and the functions for build scripts run on hosts of any architecture. For a
        // host that is not x86 they are built without the modules that need assembled patchlets.
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
        // The build scripts of kernels get this in the variable DEP_PATCHLET_IBT and assemble
        // their own patchlets likewise.
        println!("cargo::metadata=ibt=1");
    }
    // Cargo adds this folder to the link of every program that depends on the crate, so that
    // `INCLUDE patchlet.ld` in a link script needs no `-L` there.
    println!("cargo::rustc-link-search=native={}", asm.display());
    let [native, by_feature] = match target.width {
        assemble::TargetWidth::Bits64 => ["patch_64.S", "cpu_64.S"].map(|name| asm.join(name)),
        assemble::TargetWidth::Bits32 => ["patch_32.S", "cpu_32.S"].map(|name| asm.join(name)),
    };
    assemble::Assembly::new(native).include(&asm).compile("patchlet_asm")?;
    // Of this set, a kernel that does not name it gets no byte.
    assemble::Assembly::new(by_feature).include(&asm).optional().compile("patchlet_cpu_asm")
}

/// Returns whether the crate is built with a feature, whose name is given in capitals.
fn has_feature(name: &str) -> bool {
    env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
