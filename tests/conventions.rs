//! Runs `patchlet verify --contracts` on linked programs. It compares the contract of a patchlet
//! with the ABI class and the signature of the op, which the program's index has. The index is read
//! with symbols and without.

mod support {
    #[allow(dead_code)]
    pub mod fixture;
}

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSymbol};
use patchlet::contract::{AbiClass, Convention};
use patchlet::inspect::{Exit, Terminal, ops_of, parse, run, variants_of};
use support::fixture::{self, cargo};

const PATCHLETS: &str = r#"#include "patchlet.h"
/* in: RDI   out: RAX   clobbers: RCX   flags: unchanged   privilege: any */
PATCHLET(by_way_of_rcx)
        movq    %rdi, %rcx
        movq    %rcx, %rax
END_PATCHLET(by_way_of_rcx)
/* in: -   out: RAX   clobbers: RBX   flags: status   privilege: any */
PATCHLET(by_way_of_rbx)
        xorl    %ebx, %ebx
        movq    %rbx, %rax
END_PATCHLET(by_way_of_rbx)
"#;

/// Builds a program with an ops table of one op, `op`. Returns the program and the source.
fn build(name: &str, op: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(folder.join("src")).expect("a folder below CARGO_TARGET_TMPDIR");
    let path = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\nname = {name:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\npatchlet = {{ path = {path:?} }}\n\
         [build-dependencies]\npatchlet = {{ path = {path:?}, features = [\"build\"] }}\n"
    );
    let source = folder.join("own.S");
    let script = "fn main() { patchlet::assemble::Assembly::new(\"own.S\").include_from_cargo()\
                  .compile(\"own\").unwrap() }";
    let main = format!(
        "patchlet::patchlets! {{ mod own {{ by_way_of_rcx, by_way_of_rbx }} }}\n\
         extern \"C\" fn natively(_: *const u8, _: u16) -> bool {{ true }}\n\
         patchlet::ops! {{ mod ops as \"convention_ops\" {{ group {{ op: {op}; }} }} }}\n\
         fn main() {{ println!(\"{{:?}}\", ops::TABLE); }}\n"
    );
    for (file, text) in [
        (folder.join("Cargo.toml"), &*manifest),
        (source.clone(), PATCHLETS),
        (folder.join("build.rs"), script),
        (folder.join("src/main.rs"), &main),
    ] {
        fs::write(file, text).expect("a file of the package");
    }
    let output = fixture::run(&mut cargo(&folder, &["build", "--quiet"]));
    assert!(output.success, "{op}: {}", output.stderr);
    (folder.parent().expect("it has one").join("fixtures-target/debug").join(name), source)
}

/// Runs the tool. Returns its exit status and its output.
fn verify(program: &Path, source: &Path) -> (Exit, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let words = ["patchlet", "verify", "--contracts"].map(OsString::from);
    let exit = run(
        words.into_iter().chain([source.into(), program.into()]),
        &mut Terminal::new(&mut out, &mut err),
    );
    out.extend(err);
    (exit, String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn a_patchlet_that_the_class_of_its_op_does_not_allow_is_found() {
    let (program, source) =
        build("conventions", "c fn(value: usize) -> usize = patchlet own::by_way_of_rcx");
    let (exit, said) = verify(&program, &source);
    assert_eq!(exit, Exit::Holds, "{said}");

    for (op, wrong) in [
        ("callee_save fn(value: usize) -> usize", "it changes RCX, which the code around"),
        ("c fn() -> usize", "it reads RDI, which carries no argument of the op"),
        ("c fn(value: usize) -> u128", "it does not set RDX, which carries the result"),
    ] {
        let (program, source) =
            build("conventions", &format!("{op} = patchlet own::by_way_of_rcx"));
        let (exit, said) = verify(&program, &source);
        assert_eq!(exit, Exit::Finding, "{op}: {said}");
        assert!(said.contains("op `group.op` of table `convention_ops`"), "{said}");
        assert!(said.contains(wrong), "{op} does not say `{wrong}`:\n{said}");
        assert!(said.lines().count() == 2, "{op}: more than that\n{said}");
    }

    for op in ["assembly", "extern_c fn(x: f64)", "extern_c fn(a: u8) -> usize"] {
        let (program, source) =
            build("conventions", &format!("{op} = patchlet own::by_way_of_rcx"));
        let (exit, said) = verify(&program, &source);
        assert_eq!(exit, Exit::Holds, "{op}: {said}");
    }
    let (program, source) =
        build("conventions", "extern_c fn(x: f64) = patchlet own::by_way_of_rbx");
    let (exit, said) = verify(&program, &source);
    assert_eq!(exit, Exit::Finding, "{said}");
    assert!(said.contains("it changes RBX, which the code around"), "{said}");
}

/// Checks that a stripped program still has the names, classes and registers of its ops.
#[test]
fn the_index_names_the_ops_of_a_stripped_program() {
    let (program, _) = build(
        "conventions-index",
        "c fn(a: *const u8, b: u16) -> bool = function natively,
            if [FSRM, !ERMS] => function natively,
            if [patchlet::cpu::Feature::SMAP] => patchlet own::by_way_of_rcx",
    );
    let stripped = program.with_file_name("conventions-stripped");
    let status = Command::new("strip").arg(&program).arg("-o").arg(&stripped).status();
    assert!(status.expect("strip starts").success());
    let data = fs::read(&stripped).expect("strip wrote it");
    let image = parse(&data).expect("an ELF file");
    let (ops, findings) = ops_of(&image);
    assert!(findings.is_empty(), "{:?}", findings.sorted());
    let own: Vec<_> = ops.iter().filter(|op| op.table == "convention_ops").collect();
    assert_eq!(own.len(), 1, "{ops:?}");
    assert_eq!((own[0].name, own[0].index), ("group.op", 0));
    assert_eq!(own[0].convention, Convention::new(AbiClass::C, 2, 1));

    // And the conditions of its variants, and their functions.
    let (variants, findings) = variants_of(&image);
    assert!(findings.is_empty(), "{:?}", findings.sorted());
    let found: Vec<_> = variants
        .iter()
        .map(|variant| (variant.slot, variant.place, variant.condition, variant.function))
        .collect();
    let data = fs::read(&program).expect("the program");
    let file = object::File::parse(&*data).expect("an ELF file");
    let address = |name: &str| {
        let mut symbols = file.symbols();
        let found = symbols.find(|symbol| symbol.name().is_ok_and(|its| its.contains(name)));
        found.unwrap_or_else(|| panic!("no symbol {name}")).address()
    };
    assert_eq!(
        found,
        [
            (own[0].slot, 0, "FSRM !ERMS", address("natively")),
            (own[0].slot, 1, "SMAP", address("patchlet_native_by_way_of_rcx")),
        ]
    );
}
