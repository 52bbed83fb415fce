//! Tries the two other ways to keep instructions as data, top-level inline assembly and hex tables.
//! There is a smallest case of each way in which they break, and of those in which they do not.
//! Each case is a test, and this command prints its commands and their output:
//!
//! ```text
//! cargo test --test rivals asm_in_c_with_local_labels -- --nocapture
//! ```
//!
//! `make rivals` tries both under the whole matrix.

// What is built is for the host, whatever the width of this test.
#![cfg(target_pointer_width = "64")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A folder for the files of one case.
struct Case {
    folder: PathBuf,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    text: String,
}

impl Said {
    fn worked(&self) -> bool {
        self.status == Some(0)
    }

    fn has(&self, words: &str) -> bool {
        self.text.contains(words)
    }
}

impl Case {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rivals").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
        Self { folder }
    }

    /// Runs a line of words; those that name a file of `tests/fixtures/rivals` mean
    /// that file. What it makes lies in the case's folder.
    fn run(&self, line: &str) -> Said {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rivals");
        let word = |word: &str| {
            let case = cases.join(word);
            if case.is_file() { case.into_os_string() } else { word.into() }
        };
        let mut words = line.split_whitespace().map(word);
        let program = words.next().expect("a program");
        let output = Command::new(&program)
            .args(words)
            .current_dir(&self.folder)
            .output()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let text = [output.stdout, output.stderr].concat();
        let said = Said {
            status: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        };
        println!("$ {line}\n{}({:?})", said.text, said.status);
        said
    }

    /// Builds `x` by this line, which must work, and runs it.
    fn build_and_run(&self, line: &str) -> Said {
        let said = self.run(line);
        assert!(said.worked(), "{line}: {}", said.text);
        self.run("./x")
    }

    /// Returns whether the program `x` has these bytes anywhere.
    fn has_bytes(&self, bytes: &[u8]) -> bool {
        let file = fs::read(self.folder.join("x")).expect("the program was built");
        file.windows(bytes.len()).any(|window| window == bytes)
    }
}

// ---- top-level inline assembly in C -----------------------------------------

/// Shows that assembly in C, as the Linux kernel had it, works in one unit, with global and local
/// labels.
#[test]
fn asm_in_c_survives_without_lto() {
    let case = Case::new("asm_in_c_survives_without_lto");
    for compiler in ["gcc", "clang"] {
        for opt in ["-O0", "-O2"] {
            let said = case.build_and_run(&format!("{compiler} {opt} local_labels.c -o x"));
            assert!(said.worked());
        }
    }
}

/// Shows that local labels break: gcc puts functions into one partition and the assembly into
/// another.
#[test]
fn asm_in_c_with_local_labels() {
    let case = Case::new("asm_in_c_with_local_labels");
    for opt in ["-O0", "-O2"] {
        let line = format!("gcc {opt} -flto -flto-partition=max local_labels.c -o x");
        let said = case.run(&line);
        assert!(said.has("undefined reference to `start_cli'"), "{line}: {}", said.text);
    }
    // It does survive where there is one partition, and in clang's LTO.
    assert!(case.build_and_run("gcc -O2 -flto local_labels.c -o x").worked());
    assert!(case.build_and_run("clang -O2 -flto -fuse-ld=lld local_labels.c -o x").worked());
}

/// Shows that a header with global labels can be included in only one unit.
#[test]
fn asm_in_c_in_a_header_of_two_units() {
    let case = Case::new("asm_in_c_in_a_header_of_two_units");
    let said = case.run("gcc -O2 unit_a.c unit_b.c -o x");
    assert!(said.has("multiple definition of `start_cli'"));
    let said = case.run("gcc -O2 -flto unit_a.c unit_b.c -o x");
    assert!(said.has("`start_cli' is already defined"));
    let said = case.run("clang -O2 -fuse-ld=lld unit_a.c unit_b.c -o x");
    assert!(said.has("duplicate symbol: start_cli"));
}

/// Shows that start, body and end in three statements can get a wrong length without a message: gcc
/// keeps the order of the statements, but not always that of functions between them.
#[test]
fn asm_in_c_in_three_statements() {
    let case = Case::new("asm_in_c_in_three_statements");
    // The exit status is the length; 1 is right.
    let wrong = case.build_and_run("gcc -O0 three_statements.c -o x");
    assert!(wrong.status > Some(1), "{wrong:?}");
    let wrong = case.build_and_run("gcc -O2 -fno-toplevel-reorder three_statements.c -o x");
    assert!(wrong.status > Some(1), "{wrong:?}");
    let right = case.build_and_run("gcc -O2 three_statements.c -o x");
    assert_eq!(right.status, Some(1));
    let right = case.build_and_run("clang -O2 three_statements.c -o x");
    assert_eq!(right.status, Some(1));
}

/// Shows that labels in an inline function are defined once for each place where it is inlined.
#[test]
fn asm_in_c_in_an_inline_function() {
    let case = Case::new("asm_in_c_in_an_inline_function");
    let said = case.run("gcc -O2 static_inline.c -o x");
    assert!(said.has("`start_cli' is already defined"));
    let said = case.run("clang -O2 static_inline.c -o x");
    assert!(said.has("'start_cli' is already defined"));
    // Only the link finds it.
    let said = case.run("clang -O2 -flto -fuse-ld=lld static_inline.c -o x");
    assert!(said.has("'start_cli' is already defined"));
}

// ---- top-level inline assembly in Rust --------------------------------------

/// Shows that a label without `.globl` is known in one unit only, while the compiler decides which
/// module goes into which unit.
#[test]
fn asm_in_rust_without_globl() {
    let case = Case::new("asm_in_rust_without_globl");
    let line = "rustc --edition 2024 -C opt-level=2 -C lto=off no_globl.rs -o x -C codegen-units=";
    assert!(case.build_and_run(&format!("{line}1")).worked());
    let said = case.run(&format!("{line}16"));
    // In rust-lld's words, or in GNU ld's.
    let undefined = ["undefined symbol: start_cli", "undefined reference to `start_cli'"];
    assert!(undefined.iter().any(|words| said.has(words)), "{}", said.text);
}

/// Shows that with a block per module, the order of the section is that of the units.
#[test]
fn asm_in_rust_one_block_per_module() {
    let case = Case::new("asm_in_rust_one_block_per_module");
    let line = "rustc --edition 2024 -C opt-level=2 order.rs -o x -C codegen-units=";
    assert!(case.build_and_run(&format!("{line}1")).has("[1, 2, 3, 4]"));
    let said = case.build_and_run(&format!("{line}16"));
    assert!(said.worked() && !said.has("[1, 2, 3, 4]"), "{}", said.text);
}

/// Shows what happens to the same local label in two crates. With fat LTO both are in one unit,
/// which is an error. Without LTO there is no error: the function that reads the label of one crate
/// is inlined into the other crate, and reads the label of that crate.
#[test]
fn asm_in_rust_the_same_label_in_two_crates() {
    let case = Case::new("asm_in_rust_the_same_label_in_two_crates");
    let library = "rustc --edition 2024 --crate-type lib label_one.rs -o liblabel_one.rlib";
    let program = "rustc --edition 2024 --extern label_one=liblabel_one.rlib label_two.rs -o x";
    assert!(case.run(&format!("{library} -C opt-level=0")).worked());
    assert!(case.build_and_run(&format!("{program} -C opt-level=0")).worked());

    assert!(case.run(&format!("{library} -C opt-level=2")).worked());
    let said = case.build_and_run(&format!("{program} -C opt-level=2"));
    assert!(said.has("left: (2, 2)") && said.has("right: (1, 2)"), "{}", said.text);

    let said = case.run(&format!("{program} -C opt-level=2 -C lto=fat"));
    assert!(said.has("symbol 'start_cli' is already defined"), "{}", said.text);
}

// ---- hex tables --------------------------------------------------------------

/// The longest sequence of `hex.rs`.
const SYSRET: [u8; 6] = [0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07];

/// Bytes that are used by constant indices become immediates of the code that uses
/// them; the table is gone, `#[no_mangle]` or not. `#[used]` keeps it.
#[test]
fn hex_in_rust_by_constant_index() {
    let case = Case::new("hex_in_rust_by_constant_index");
    let line = "rustc --edition 2024 -A warnings hex.rs -o x";
    assert!(case.build_and_run(&format!("{line} -C opt-level=0")).worked());
    assert!(case.has_bytes(&SYSRET));
    for opt in ["1", "2", "3", "s"] {
        for exported in ["", "--cfg exported"] {
            assert!(case.build_and_run(&format!("{line} -C opt-level={opt} {exported}")).worked());
            assert!(!case.has_bytes(&SYSRET), "opt-level {opt} {exported}");
        }
        assert!(case.build_and_run(&format!("{line} -C opt-level={opt} --cfg used")).worked());
        assert!(case.has_bytes(&SYSRET), "opt-level {opt}, #[used]");
    }
}

/// Shows what happens to the table of Linux v5.3, which is used by `memcpy` of a constant length.
/// gcc replaces the table by immediates. This clang copies from the table, which survives.
#[test]
fn hex_in_c_copied_by_constant_length() {
    let case = Case::new("hex_in_c_copied_by_constant_length");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/rivals/c");
    for (compiler, opt, found) in [
        ("gcc", "-O0", true),
        ("gcc", "-O2", false),
        ("clang", "-O0", true),
        ("clang", "-O2", true),
    ] {
        let line = format!(
            "{compiler} {opt} -DHEX -ffreestanding -fno-stack-protector -nostdlib -static -no-pie \
             -Wl,-e,matrix_main {0}/patch.c {0}/main.c -o x",
            sources.display()
        );
        let said = case.build_and_run(&line);
        assert!(said.has("0f01f8480f07"), "the program itself has the right bytes: {said:?}");
        assert_eq!(case.has_bytes(&SYSRET), found, "{compiler} {opt}");
    }
}

/// Shows that no tool reports two entries whose bytes mean something else than their comments say.
/// In a `.S` file the bytes come from the instructions; `tests/meaning.rs` tries the same two.
#[test]
fn hex_that_is_wrong() {
    let case = Case::new("hex_that_is_wrong");
    let said =
        case.build_and_run("rustc --edition 2024 -D warnings -A dead_code wrong_hex.rs -o x");
    assert!(said.worked());
}
