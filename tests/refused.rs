//! Checks the messages of code that must not compile. Each message must name a fix. A small library
//! is built for each case; the first is correct and must compile.

mod support {
    #[allow(dead_code)]
    pub mod fixture;
}

use std::fs;
use std::path::{Path, PathBuf};

use support::fixture::{Output, cargo, run};

/// What every case begins with.
const COMMON: &str = r#"
pub extern "C" fn plain() {}
pub extern "C" fn float(_number: f64) {}
pub unsafe extern "C" fn with_duties() {}
pub fn of_rust(a: usize, b: usize) -> usize { a ^ b }
pub extern "C" fn number(a: u8) -> usize { a.into() }
pub mod flags { pub const LOUD: patchlet::cpu::Feature = patchlet::cpu::Feature::own(0); }
patchlet::slot_fn! {
    pub const SAVED = callee_save fn() {};
    pub const SAVED_TWO = callee_save fn(a: usize, b: u8) -> usize { a ^ usize::from(b) };
    pub const GIVEN = c fn(a: usize) -> bool { a == 0 };
}
"#;

/// The compiler's own words, which differ from version to version, have this number.
const MISMATCH: &str = "error[E0308]: mismatched types";

/// Returns the text of an ops table with one op.
fn op(text: &str) -> String {
    format!("patchlet::ops! {{ pub mod own as \"own_ops\" {{ g {{ op: {text}; }} }} }}")
}

/// Makes a library in a folder of this name that uses the crate of this repository.
fn package(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(folder.join("src")).expect("a folder below CARGO_TARGET_TMPDIR");
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies]\npatchlet = {{ path = {:?} }}\n",
        env!("CARGO_MANIFEST_DIR")
    );
    fs::write(folder.join("Cargo.toml"), manifest).expect("a file of the package");
    folder
}

/// Builds the library from this text; not only checked, for some constants are computed when
/// code is made of them.
fn build(package: &Path, text: &str, flags: &str) -> Output {
    fs::write(package.join("src/lib.rs"), format!("{COMMON}{text}")).expect("a file of it");
    run(cargo(package, &["build", "--quiet", "--lib"]).env("RUSTFLAGS", flags))
}

#[test]
fn what_an_op_cannot_be_does_not_compile() {
    let package = package("refused");
    for right in [
        op("callee_save unsafe fn(a: usize, b: u8) -> usize = slot_fn SAVED_TWO"),
        op("c fn(a: u8) -> usize = function number, if [ERMS, !flags::LOUD] => function number, \
            if [!SMAP] => assembly \"x\""),
        op("callee_save fn() = nothing, if [flags::LOUD] => slot_fn SAVED"),
        op("extern_c unsafe fn(number: f64) = function float, if [SSE2] => nothing"),
    ] {
        let output = build(&package, &right, "");
        assert!(output.success, "{right}\n{}", output.stderr);
    }

    let one_register = "integers of up to one register, `bool` and pointers fit anywhere";
    let cases = [
        // A function that changes more than its class may, or takes something else.
        (op("callee_save fn() = function plain"), "a `callee_save` op keeps registers that a"),
        (op("callee_save fn() = slot_fn GIVEN"), MISMATCH),
        (op("c fn() = slot_fn SAVED"), MISMATCH),
        (op("callee_save fn(a: u8) = slot_fn SAVED"), MISMATCH),
        (op("c fn() -> usize = function of_rust"), MISMATCH),
        (op("c fn(a: usize) = function plain"), MISMATCH),
        (op("c fn() = function with_duties"), MISMATCH),
        (op("assembly = function plain"), "an `assembly` op has no signature"),
        (op("c fn() = fucntion plain"), "an op or a variant cannot be `fucntion …`"),
        // A variant that is not of its op's class and signature, checked as the default is.
        (op("callee_save fn() = nothing, if [ERMS] => function plain"), "a `callee_save` op keeps"),
        (op("callee_save fn() = nothing, if [ERMS] => slot_fn GIVEN"), MISMATCH),
        (op("c fn() = function plain, if [ERMS] => function number"), MISMATCH),
        (op("c fn() = function plain, if [ERMS] => function with_duties"), MISMATCH),
        (op("c fn() = function plain, if [ERMS] => slot_fn SAVED"), MISMATCH),
        (op("c fn(a: u8) -> usize = function number, if [ERMS] => nothing"), "`nothing` gives no result"),
        (op("c fn() -> usize = nothing"), "`nothing` gives no result"),
        (op("c fn() = function plain, if [ERMS] => fucntion plain"), "cannot be `fucntion …`"),
        (op("extern_c fn(x: f64) = function float, if [ERMS] => function plain"), MISMATCH),
        (op("extern_c fn() = function plain, if [ERMS] => function with_duties"), MISMATCH),
        (op("extern_c fn() = function plain, if [ERMS] => slot_fn GIVEN"), "the functions of an `extern_c`"),
        (op("assembly = patchlet patchlet::native::ud2, if [ERMS] => function plain"), "an `assembly` op has no"),
        // A condition of features that nobody knows, or that is none.
        (op("c fn() = function plain, if [ERSM] => nothing"), "named `ERSM` found for struct `Feature`"),
        (op("c fn() = function plain, if [flags::LUOD] => nothing"), "cannot find value `LUOD`"),
        (op("c fn() = function plain, if [ERMS, !u8::MAX] => nothing"), "no method named `absent`"),
        (op("c fn() = function plain, if [] => nothing"), "a condition names features"),
        (op("c fn() = function plain, if [ERMS SMAP] => nothing"), "is not a list of features"),
        (op("c fn() = function plain, if [\"erms\"] => nothing"), "is not a list of features"),
        // A site of another size than sites have.
        (
            op("c fn() = nothing").replace("op:", "#[capacity(5)] op:"),
            "a patch site has 6 to 32 bytes",
        ),
        (
            op("extern_c fn() = nothing").replace("op:", "#[capacity(33)] op:"),
            "a patch site has 6 to 32 bytes",
        ),
        // Calls and layers of an op of any signature, of another type.
        (op("extern_c fn(x: f64) = function plain"), MISMATCH),
        (op("extern_c fn() = function with_duties"), MISMATCH),
        (op("extern_c fn((a, b): (u8, u8)) = assembly \"x\""), "has an argument that is not `name: type`"),
        (
            op("extern_c fn(x: f64) = function float") + "pub fn f() { own::op(1_u32) }",
            MISMATCH,
        ),
        (
            op("extern_c unsafe fn(x: f64) = function float") + "pub fn f() { own::op(1.0) }",
            "call to unsafe function `own::op` is unsafe",
        ),
        (
            op("extern_c fn(x: f64) = function float")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.holds(plain) }",
            MISMATCH,
        ),
        (
            op("extern_c fn() = function plain")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.holds(with_duties) }",
            MISMATCH,
        ),
        // A result that is not the one of "do nothing" or "return 0".
        (
            op("extern_c fn() -> f64 = assembly \"x\"")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.zero() }",
            "the method `zero` exists for struct",
        ),
        (
            op("extern_c fn() -> f64 = assembly \"x\"")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.nop() }",
            "no method named `nop` found",
        ),
        (
            op("c fn() -> u8 = assembly \"x\"")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.nop() }",
            "the method `nop` exists for struct",
        ),
        (
            op("c fn(a: u8) -> usize = assembly \"x\"")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.ident() }",
            "the method `ident` exists for struct",
        ),
        (
            op("c fn() = nothing")
                + "pub fn f() -> (own::Id, patchlet::ops::Target) { own::slot::op.zero() }",
            "the method `zero` exists for struct",
        ),
        // Variants are not selected by code that answers for no feature.
        (
            op("c fn() = nothing") + "pub fn f() { own::select(&patchlet::cpu::Features::EMPTY) }",
            "call to unsafe function `own::select` is unsafe",
        ),
        // A type that is in no register of these.
        (op("c fn(number: f64) = function float"), "an op cannot take or return `f64`"),
        (op("c fn(number: f64) = function float"), one_register),
        (op("callee_save fn(a: &u8) = assembly \"x\""), "an op cannot take or return `&u8`"),
        (op("callee_save fn(a: *const [u8]) = assembly \"x\""), "the size for values of type `[u8]`"),
        (op("callee_save fn() -> [u8; 4] = assembly \"x\""), "an op cannot take or return `[u8; 4]`"),
        // More than there are registers.
        (
            op("c fn(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) = assembly \"x\""),
            "the arguments of the op `op` do not fit into its registers",
        ),
        (
            op("c fn(a: u8, b: u8, c: u8, d: u8, e: u8, f: u128) = assembly \"x\""),
            "the arguments of the op `op` do not fit into its registers",
        ),
        (
            "patchlet::slot_fn! { const F = c fn(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {}; }"
                .to_owned(),
            "is not the signature of an op",
        ),
        (
            "patchlet::slot_fn! { const F = c fn(a: u8, b: u8, c: u8, d: u8, e: u8, f: u128) {}; }"
                .to_owned(),
            "the arguments of an op do not fit into its registers",
        ),
        // What the macros cannot read.
        (op("c fn((a, b): (u8, u8)) = assembly \"x\""), "has an argument that is not `name: type`"),
        (op("fast fn() = assembly \"x\""), "the op `op` is `fast fn`: write `callee_save fn(…)`"),
        (op("c fn() -> Vec<u8> = assembly \"x\""), "an op cannot take or return `Vec<u8>`"),
        (op("c fn() -> impl Copy + Eq = assembly \"x\""), "this is not a table of ops"),
        ("patchlet::slot_fn! { const F = c fn(self) {}; }".to_owned(), "this is not a list of"),
        // Installed where it does not belong.
        (
            "pub fn f() -> (patchlet::pv::Id, patchlet::ops::Target) { \
             patchlet::pv::slot::save_fl.holds(SAVED) }"
                .to_owned(),
            MISMATCH,
        ),
        (
            "pub fn f() -> (patchlet::pv::Id, patchlet::ops::Target) { \
             patchlet::pv::slot::irq_disable.holds(GIVEN) }"
                .to_owned(),
            MISMATCH,
        ),
    ];
    let mut wrong = String::new();
    for (text, says) in cases {
        let output = build(&package, &text, "");
        let said = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        if output.success {
            wrong += &format!("it compiles: {text}\n");
        } else if !said.contains(says) {
            wrong += &format!("{text}\ndoes not say `{says}`:\n{}\n", output.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Checks that the thunk is refused with AVX: FXSAVE does not save the upper halves of YMM
/// registers.
#[test]
fn a_callee_save_thunk_is_refused_in_a_program_with_avx() {
    let package = package("refused-avx");
    let output = build(&package, "", "-C target-feature=+avx");
    assert!(!output.success, "a thunk compiles with AVX");
    assert!(output.stderr.contains("the program is compiled with AVX"), "{}", output.stderr);
    fs::write(package.join("src/lib.rs"), "patchlet::slot_fn! { pub const C = c fn() {}; }")
        .expect("a file of it");
    let output =
        run(cargo(&package, &["build", "--quiet", "--lib"])
            .env("RUSTFLAGS", "-C target-feature=+avx"));
    assert!(output.success, "{}", output.stderr);
}
