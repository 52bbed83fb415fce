//! Checks that with indirect branch tracking every function that a slot can hold begins with ENDBR
//! in the linked file, and no patchlet does. The test kernel is built that way for both widths, and
//! boots: ENDBR does nothing on a CPU that tracks no branches.

mod support {
    #[allow(dead_code)]
    pub mod boot;
    #[allow(dead_code)]
    pub mod table;
}

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};
use support::boot;
use support::table::{Width, native};

/// Builds the test kernel with these flags of the C compiler, and in a folder of this name.
fn build(width: Width, flags: &str, folder: &str) -> PathBuf {
    let target = match width {
        Width::Bits64 => "x86_64-unknown-none",
        Width::Bits32 => "i686-unknown-linux-gnu",
    };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = repository.join("target/kernel").join(folder);
    let mut command = Command::new(env::var_os("CARGO").expect("cargo runs the tests"));
    // Set by tests/setup.sh where Rust has no core library for the kernels' targets.
    if env::var_os("PATCHLET_BUILD_STD").is_some() {
        command.arg("-Zbuild-std=core");
    }
    let output = command
        .args(["build", "--quiet", "--locked", "--release", "--target", target])
        .arg("--target-dir")
        .arg(&folder)
        .env(format!("CFLAGS_{target}"), flags)
        // The kernel's flags are in its own .cargo/config.toml, which these hide.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .current_dir(repository.join("tests/kernel"))
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{width}:\n{}", String::from_utf8_lossy(&output.stderr));
    folder.join(target).join("release/patchlet-test-kernel")
}

/// Returns the functions that slots hold, by name, and whether each begins with ENDBR.
fn slot_functions(kernel: &Path, width: Width) -> Vec<(String, bool)> {
    let endbr: &[u8] = match width {
        Width::Bits64 => &[0xf3, 0x0f, 0x1e, 0xfa],
        Width::Bits32 => &[0xf3, 0x0f, 0x1e, 0xfb],
    };
    let data = std::fs::read(kernel).expect("the kernel was built");
    let file = object::File::parse(&*data).expect("an ELF file");
    let section = file.section_by_name(".rodata.patchlets").expect("there are patchlets");
    let patchlets = section.data().expect("in the file");
    assert!(!patchlets.windows(4).any(|bytes| bytes == endbr), "{width}: a patchlet has ENDBR");

    let holds = |name: &str| {
        name.starts_with("patchlet_native_")
            || ["patchlet_nop", "patchlet_ident", "patchlet_zero"].contains(&name)
            || name.ends_with(".trampoline")
            || name.contains("5thunk")
    };
    let mut functions = Vec::new();
    for symbol in file.symbols() {
        let name = symbol.name().expect("UTF-8");
        let Some(index) = symbol.section_index().filter(|_| holds(name)) else { continue };
        let section = file.section_by_index(index).expect("of the symbol");
        let bytes = section.data_range(symbol.address(), 4).expect("in the file");
        functions.push((name.to_owned(), bytes == Some(endbr)));
    }
    functions
}

#[test]
fn what_a_slot_holds_begins_with_endbr_if_branches_are_tracked() {
    for width in [Width::Bits64, Width::Bits32] {
        let kernel = build(width, "-fcf-protection=branch", "tracked");
        let functions = slot_functions(&kernel, width);
        let without: Vec<_> = functions.iter().filter(|function| !function.1).collect();
        assert!(without.is_empty(), "{width}: {without:?}");
        // All patchlets, the kernel's own two, thunks, and the no-op at least.
        let thunks = functions.iter().filter(|function| function.0.contains("5thunk")).count();
        assert!(thunks > 0 && functions.len() > native(width).len() + 2 + thunks, "{functions:?}");
        for name in ["patchlet_zero", "test_kernel_ops.mix.trampoline"] {
            assert!(functions.iter().any(|function| function.0 == name), "{width}: no {name}");
        }
        boot::boot(&kernel, &["-smp", "2", "-append", "cpus=2 modules=0"]);

        let kernel = build(width, "-fcf-protection=none", "not-tracked");
        let functions = slot_functions(&kernel, width);
        assert!(functions.iter().all(|function| !function.1), "{width}: {functions:?}");
    }
}
