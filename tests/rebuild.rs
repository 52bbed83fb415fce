//! Checks how cargo builds the crate. Every input that is edited is built anew and reaches the
//! program, and nothing else is built. An unsupported target and a second version of the crate are
//! refused.

mod support {
    pub mod fixture;
}

use std::fs;
use std::path::{Path, PathBuf};

use support::fixture::{Output, cargo, copy_crate, run};

/// Replaces a piece of a file, which must be there, wherever it is.
fn edit(file: &Path, from: &str, to: &str) {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    fs::write(file, text.replace(from, to)).expect("a file of the copy");
}

/// Builds and runs the fixture `own`.
fn run_own(package: &Path) -> Output {
    let output = run(&mut cargo(package, &["run", "--verbose"]));
    assert!(output.success, "{}", output.stderr);
    output
}

/// Returns the crates that cargo built anew.
fn dirty(output: &Output) -> Vec<&str> {
    let names = output.stderr.lines().filter_map(|line| {
        let (what, rest) = line.trim_start().split_once(' ')?;
        (what == "Dirty").then(|| rest.split(' ').next().unwrap_or_default())
    });
    names.collect()
}

fn own(root: &Path) -> PathBuf {
    root.join("tests/fixtures/own")
}

/// Edits each input and checks that it is built and reaches the program. `patchlet` is built twice:
/// for the program and for its build script.
#[test]
fn an_edit_is_built_and_reaches_the_program() {
    let root = copy_crate("rebuild");
    let package = own(&root);
    let (patch, header) = (root.join("asm/patch_64.S"), root.join("asm/patchlet.h"));

    let before = run_own(&package);
    assert!(before.stdout.contains("vcpu_is_preempted: 31 c0\n"), "{}", before.stdout);
    assert!(before.stdout.contains("own_number: b0 11\n"), "{}", before.stdout);

    let again = run_own(&package);
    assert_eq!(dirty(&again), [""; 0], "{}", again.stderr);

    // Its own header, which no one but the compiler knows of.
    edit(&package.join("src/own.h"), "0x11", "0x22");
    let output = run_own(&package);
    assert_eq!(dirty(&output), ["own"], "{}", output.stderr);
    assert!(output.stdout.contains("own_number: b0 22\n"), "{}", output.stdout);

    // Its own source.
    edit(&package.join("src/own.S"), "%al", "%cl");
    let output = run_own(&package);
    assert_eq!(dirty(&output), ["own"], "{}", output.stderr);
    assert!(output.stdout.contains("own_number: b1 22\n"), "{}", output.stdout);

    // The crate's source.
    edit(&patch, "xorl\t%eax, %eax", "movl\t$0, %eax");
    let output = run_own(&package);
    assert!(dirty(&output).contains(&"patchlet"), "{}", output.stderr);
    assert!(output.stdout.contains("vcpu_is_preempted: b8 00 00 00 00\n"), "{}", output.stdout);

    // The crate's header: a prefix before every patchlet, the crate's and its own.
    edit(&header, "\tpatchlet_body_\\name\n", "\trepz\n\tpatchlet_body_\\name\n");
    let output = run_own(&package);
    assert!(dirty(&output).contains(&"patchlet"), "{}", output.stderr);
    assert!(output.stdout.contains("irq_disable: f3 fa\n"), "{}", output.stdout);
    assert!(output.stdout.contains("own_number: f3 b1 22\n"), "{}", output.stdout);
}

/// Folders whose names mean something in make's rules, in which compilers tell what they read, or
/// are long enough that they break the line there.
#[test]
fn folders_of_any_name() {
    let long = "long ".repeat(40);
    let root = copy_crate(&format!("odd names/a b #c $d $(e) \\f \u{e9}\u{4e2d}/{long}end"));
    let package = own(&root);
    run_own(&package);
    let again = run_own(&package);
    assert_eq!(dirty(&again), [""; 0], "{}", again.stderr);
    edit(&package.join("src/own.h"), "0x11", "0x22");
    let output = run_own(&package);
    assert_eq!(dirty(&output), ["own"], "{}", output.stderr);
    assert!(output.stdout.contains("own_number: b0 22\n"), "{}", output.stdout);
}

/// Checks that the crate's build script refuses an unsupported target.
#[test]
fn an_unsupported_target_is_refused() {
    let package = own(&copy_crate("script-crate"));
    for target in ["aarch64-unknown-none", "x86_64-unknown-uefi"] {
        let output = run(&mut cargo(&package, &["check", "--target", target]));
        assert!(!output.success);
        let errors: Vec<_> =
            output.stderr.lines().filter(|line| line.starts_with("error: patchlet")).collect();
        assert_eq!(
            errors,
            [format!(
                "error: patchlet@{}: patchlet: target `{target}` is not supported: build for \
                 32-bit or 64-bit x86 with ELF objects, such as x86_64-unknown-none or \
                 i686-unknown-linux-gnu",
                env!("CARGO_PKG_VERSION")
            )],
            "{}",
            output.stderr
        );
    }
}

/// Checks that cargo refuses two versions of the crate in one build. They would define the same
/// labels, and one would read the bytes of the other.
#[test]
fn two_versions_in_one_build_are_refused() {
    let root = copy_crate("two-versions");
    let next = copy_crate("two-versions/next");
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    edit(&next.join("Cargo.toml"), version, "version = \"99.0.0\"");
    let package = own(&root);
    let manifest = package.join("Cargo.toml");
    let dependency = "[dependencies]\n";
    edit(
        &manifest,
        dependency,
        "[dependencies]\nnext = { package = \"patchlet\", path = \"../../../next\" }\n",
    );

    let output = run(&mut cargo(&package, &["check"]));
    assert!(!output.success);
    let clash = "only one package in the dependency graph may specify the same links value";
    for part in ["package `patchlet` links to the native library `patchlet`", "99.0.0"] {
        assert!(output.stderr.contains(part), "{}", output.stderr);
    }
    assert!(output.stderr.to_lowercase().contains(clash), "{}", output.stderr);
}
