//! Assembles `asm/` for the width of the target, and gives the link script to the linker.

use std::{env, path::Path};

fn main() {
    // The architecture of the target. A build script itself is compiled for the host.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let sources: &[&str] = match arch.as_str() {
        "x86_64" => &[
            "asm/boot_64.S",
            "asm/traps_64.S",
            "asm/user.S",
            "asm/probe.S",
            "asm/state_64.S",
            "asm/live.S",
            "asm/trace.S",
        ],
        "x86" => &[
            "asm/boot_32.S",
            "asm/traps_32.S",
            "asm/mem_32.S",
            "asm/user.S",
            "asm/probe.S",
            "asm/state_32.S",
            "asm/live.S",
            "asm/trace.S",
        ],
        other => panic!("the test kernel is for x86_64 and x86, not for {other}"),
    };

    // `cc` prints no `rerun-if-changed` lines for the files that it compiles.
    for input in
        sources.iter().chain(&["asm/live_site.h", "asm/trap_stubs.h", "build.rs", "kernel.ld"])
    {
        println!("cargo:rerun-if-changed={input}");
    }

    // The folder of patchlet.h and patchlet.ld.
    let include = env::var("DEP_PATCHLET_INCLUDE").expect("the crate hands it on");

    cc::Build::new()
        .files(sources)
        .include(&include)
        // Rust code refers to no symbol of the boot code. Without this, the linker would not take
        // the member of the archive that has it.
        .link_lib_modifier("+whole-archive")
        .compile("patchlet_test_kernel_asm");

    // The kernel's own patchlets and blobs go by the crate's function, which checks them.
    for name in ["own", "ap", "hypercall"] {
        let assembly = patchlet::assemble::Assembly::new(format!("asm/{name}.S"));
        let library = format!("patchlet_test_kernel_{name}");
        if let Err(error) = assembly.include_from_cargo().compile(&library) {
            println!("cargo::error={error}");
            std::process::exit(1);
        }
    }

    println!("cargo:rustc-link-arg-bins=-L{include}");

    // The path of the link script is absolute, because cargo chooses the linker's current folder.
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let script = Path::new(&here).join("kernel.ld");
    println!("cargo:rustc-link-arg-bins=--script={}", script.display());

    let variable = |name| env::var(name).expect("cargo sets it");
    println!(
        "cargo:rustc-env=KERNEL_PROFILE={}, opt-level {}",
        variable("PROFILE"),
        variable("OPT_LEVEL")
    );
}
