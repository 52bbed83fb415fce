//! Gives bad input to `patchlet::assemble`, which the build scripts of the crate and of kernels
//! use. Each input is refused with one message that says what to do. No library is left that a
//! later build could link, not even that of an earlier build.

mod support {
    pub mod fixture;
    pub mod refusals;
    pub mod script;
}

use std::fs;
use std::path::Path;

use support::refusals::{GOOD, TARGET_32, TARGET_64, refused, refused_object, refused_source};
use support::script::{Outcome, assemble, assemble_with};

/// Returns the labels of a patchlet written by hand, as nobody should write them.
fn labels(name: &str) -> String {
    format!(
        "\t.globl patchlet_{name}_start, patchlet_{name}_end\n\
         \t.hidden patchlet_{name}_start, patchlet_{name}_end\n"
    )
}

/// Returns whether cargo would watch this file of the package.
fn watched(outcome: &Outcome, file: &str) -> bool {
    outcome.inputs.iter().any(|input| Path::new(input).ends_with(file))
}

/// Returns a value for CC: gcc, with the flag in $LAST_FLAG behind all others.
fn compiler_with_last_flag() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cc_with.sh");
    format!("sh {}", script.display())
}

fn asm(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("asm").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn good_input_is_linked_whole() {
    for target in [TARGET_64, TARGET_32] {
        let outcome = assemble("good", GOOD, target, &[]);
        assert_eq!(outcome.errors, [""; 0]);
        assert_eq!(outcome.linked, ["static:+whole-archive=own_patchlets"]);
    }
}

// ---- what else is read ----

/// Checks that cargo watches a file that the assembler includes, and files that such a file
/// includes; but no name in a comment.
#[test]
fn included_by_the_assembler() {
    let files = [
        ("src/one.inc", "# .include \"src/other.inc\"\n\t.include \"src/two.inc\"\n"),
        ("src/two.inc", "\t.set\tnumber, 1\n"),
        ("src/other.inc", ""),
        ("src/data b#$.bin", "\u{90}"),
    ];
    let source = format!(
        "/* .include \"src/other.inc\" */\n\
         \t.include \"src/one.inc\"\n\
         \t.section .rodata.other, \"a\"\n.Lb: .incbin \"src/data b#$.bin\"\n\t.text\n\
         {GOOD}"
    );
    for compiler in ["gcc", "clang"] {
        let case = format!("included_{compiler}");
        let outcome = assemble_with(&case, &source, &files, TARGET_64, &[("CC", compiler)]);
        assert_eq!(outcome.errors, [""; 0], "{compiler}");
        assert_eq!(outcome.warnings, [""; 0], "{compiler}");
        for file in ["src/own.S", "src/one.inc", "src/two.inc", "src/data b#$.bin"] {
            assert!(watched(&outcome, file), "{compiler}: {file}: {:?}", outcome.inputs);
        }
        assert!(!watched(&outcome, "src/other.inc"), "{compiler}");
        // Each input must exist: cargo takes a missing file for one that has changed.
        for input in &outcome.inputs {
            let path = outcome.out.parent().expect("the package").join(input);
            assert!(path.exists(), "{compiler}: {input}");
        }
    }
}

/// Checks a file that a macro includes. GNU as lists it. LLVM's assembler does not, and then the
/// user is told to print a line for it.
#[test]
fn included_by_a_macro() {
    let files = [("src/one.inc", "\t.set\tnumber, 1\n")];
    let source = format!(
        "\t.macro take name\n\t.include \"src/\\name\\().inc\"\n\t.endm\n\ttake one\n{GOOD}"
    );
    let gcc = assemble_with("macro_gcc", &source, &files, TARGET_64, &[("CC", "gcc")]);
    assert!(watched(&gcc, "src/one.inc"), "{:?}", gcc.inputs);
    assert_eq!(gcc.warnings, [""; 0]);
    let clang = assemble_with("macro_clang", &source, &files, TARGET_64, &[("CC", "clang")]);
    assert_eq!(clang.errors, [""; 0]);
    assert_eq!(
        clang.warnings,
        [
            "patchlet: src/own.S: \"src/\\\\name\\\\().inc\" is pulled in by a macro, and this assembler \
          does not tell which file that is: print a line cargo::rerun-if-changed for it in the \
          build script"
        ]
    );
}

// ---- the source ----

#[test]
fn defined_twice() {
    refused_source(
        "defined_twice",
        &format!("{GOOD}PATCHLET(good)\n\tsti\nEND_PATCHLET(good)\n"),
        TARGET_64,
        // The line in the message is that of the second END_PATCHLET.
        &["patchlet `good` is defined twice (by the macro at src/own.S:7"],
    );
}

#[test]
fn no_end() {
    refused_source(
        "no_end",
        &format!("{GOOD}PATCHLET(bad)\n\tsti\n"),
        TARGET_64,
        &["src/own.S:5:", "; is END_PATCHLET(bad) missing?"],
    );
}

#[test]
fn no_end_before_the_next_one() {
    refused_source(
        "no_end_before_the_next_one",
        &format!("{GOOD}PATCHLET(bad)\n\tsti\nPATCHLET(next)\n\tcli\nEND_PATCHLET(next)\n"),
        TARGET_32,
        &["src/own.S:5:", "; is END_PATCHLET(bad) missing?"],
    );
}

#[test]
fn end_of_another_one() {
    refused_source(
        "end_of_another_one",
        &format!("{GOOD}PATCHLET(bad)\n\tsti\nEND_PATCHLET_JUMP(worse)\n"),
        TARGET_32,
        &["; is END_PATCHLET(bad) missing?"],
    );
}

#[test]
fn no_beginning() {
    refused_source(
        "no_beginning",
        &format!("{GOOD}\tsti\n  END_PATCHLET( bad )\n"),
        TARGET_64,
        &["; is PATCHLET(bad) missing?"],
    );
}

#[test]
fn no_such_instruction() {
    refused_source(
        "no_such_instruction",
        &format!("{GOOD}PATCHLET(bad)\n\tfrobnicate %eax\nEND_PATCHLET(bad)\n"),
        TARGET_64,
        &["frobnicate", " (by the macro at src/own.S:7"],
    );
}

#[test]
fn no_header() {
    let source = GOOD.replace("patchlet.h", "nowhere.h");
    refused_source("no_header", &source, TARGET_64, &["src/own.S:1:10: fatal error:", "nowhere.h"]);
}

#[test]
fn source_for_32_bit_on_a_64_bit_target() {
    refused_source(
        "source_for_32_bit",
        &asm("patch_32.S"),
        TARGET_64,
        &["\"asm/patch_32.S is for 32-bit targets; 64-bit ones use asm/patch_64.S\""],
    );
}

#[test]
fn source_for_64_bit_on_a_32_bit_target() {
    refused_source(
        "source_for_64_bit",
        &asm("patch_64.S"),
        TARGET_32,
        &["\"asm/patch_64.S is for 64-bit targets; 32-bit ones use asm/patch_32.S\""],
    );
}

/// Checks that a header refuses a compiler for 32-bit addresses on 64-bit CPUs (x32).
#[test]
fn header_on_a_target_it_is_not_for() {
    let outcome = assemble(
        "header",
        GOOD,
        TARGET_64,
        &[("CC", &compiler_with_last_flag()), ("LAST_FLAG", "-mx32")],
    );
    let [message] = &outcome.errors[..] else { panic!("{:?}", outcome.errors) };
    refused(&outcome, message);
    let end = "\"patchlet.h: only 32-bit and 64-bit x86 ELF targets are supported\"";
    assert!(message.ends_with(end), "{message}");
}

// ---- the object ----

#[test]
fn relocation() {
    for (case, instruction, target, offset) in [
        // The operands are absolute, relative to an undefined symbol, and relative to a label of
        // this file.
        ("relocation_absolute", "movl elsewhere, %eax", "elsewhere", 4),
        ("relocation_call", "call elsewhere", "elsewhere", 2),
        ("relocation_label", "jmp .Lhere", ".text", 2),
    ] {
        let source = format!("{GOOD}PATCHLET(bad)\n\t{instruction}\nEND_PATCHLET(bad)\n.Lhere:\n");
        // The 32-bit instruction has no SIB byte, so the offset depends on the width.
        for (bits, offset) in [
            (TARGET_64, offset),
            (TARGET_32, if instruction.starts_with("mov") { 2 } else { offset }),
        ] {
            for compiler in ["gcc", "clang"] {
                let outcome = assemble(case, &source, bits, &[("CC", compiler)]);
                refused(
                    &outcome,
                    &format!(
                        "patchlet: src/own.S: patchlet `bad` has a relocation (to `{target}`, at \
                         offset {offset:#x} of .rodata.patchlets): a patchlet is copied elsewhere, \
                         so it can only use registers and constants"
                    ),
                );
            }
        }
    }
}

/// Checks that a jump into another patchlet is refused. GNU as makes it without a relocation in the
/// patchlet; the native function, in another section, needs one.
#[test]
fn jump_to_another_patchlet() {
    let source = format!("{GOOD}PATCHLET(bad)\n\tjmp patchlet_good_start\nEND_PATCHLET(bad)\n");
    for compiler in ["gcc", "clang"] {
        let outcome = assemble("jump", &source, TARGET_64, &[("CC", compiler)]);
        let [message] = &outcome.errors[..] else { panic!("{compiler}: {:?}", outcome.errors) };
        refused(&outcome, message);
        let start =
            "patchlet: src/own.S: patchlet `bad` has a relocation (to `patchlet_good_start`";
        assert!(message.starts_with(start), "{compiler}: {message}");
    }
}

/// Checks that an operand is refused whose value differs in the two copies of a patchlet.
#[test]
fn operand_that_depends_on_the_place() {
    refused_object(
        "operand_that_depends_on_the_place",
        &format!(
            "{GOOD}\t.set count, 0\n\
             PATCHLET(bad)\n\t.set count, count + 1\n\tmovb $count, %al\nEND_PATCHLET(bad)\n"
        ),
        "patchlet `bad` and its native function differ, though they come from the same lines: \
         a patchlet is copied elsewhere, so it can only use registers and constants",
    );
}

#[test]
fn no_native_function() {
    refused_object(
        "no_native_function",
        &format!(
            ".section .rodata.patchlets, \"aR\"\n{}\
             patchlet_bad_start:\n\tcli\npatchlet_bad_end:\n",
            labels("bad")
        ),
        "patchlet `bad` has no native function: define patchlets by the macros of patchlet.h only",
    );
}

#[test]
fn end_before_start() {
    refused_object(
        "end_before_start",
        &format!(
            ".section .rodata.patchlets, \"aR\"\n{}\
             patchlet_bad_end:\n\tcli\npatchlet_bad_start:\n",
            labels("bad")
        ),
        "the labels of patchlet `bad` are swapped: its end is at 0x0, before its start at 0x1",
    );
}

#[test]
fn empty_file() {
    refused_object(
        "empty_file",
        "",
        "no patchlet in it (.rodata.patchlets is missing or empty): \
         define one with PATCHLET(name)",
    );
}

#[test]
fn empty_patchlet() {
    refused_object(
        "empty_patchlet",
        &format!("{GOOD}PATCHLET(bad)\nEND_PATCHLET(bad)\n"),
        "patchlet `bad` is empty: put an instruction between its two macros",
    );
}

#[test]
fn start_without_end() {
    refused_object(
        "start_without_end",
        &format!(
            "{GOOD}.section .rodata.patchlets, \"aR\"\n{}patchlet_bad_start:\n\tcli\n",
            labels("bad")
        ),
        "patchlet `bad` has a start but no end: is END_PATCHLET(bad) missing?",
    );
}

#[test]
fn end_without_start() {
    refused_object(
        "end_without_start",
        &format!(
            "{GOOD}.section .rodata.patchlets, \"aR\"\n{}\tcli\npatchlet_bad_end:\n",
            labels("bad")
        ),
        "patchlet `bad` has an end but no start: is PATCHLET(bad) missing?",
    );
}

#[test]
fn gap() {
    refused_object(
        "gap",
        &format!(
            "{GOOD}.section .rodata.patchlets, \"aR\"\n\t.balign 4\n.text\n\
             PATCHLET(bad)\n\tsti\nEND_PATCHLET(bad)\n"
        ),
        "3 byte(s) between patchlet `good` and patchlet `bad` belong to no patchlet \
         (offsets 0x1..0x4 of .rodata.patchlets): remove the alignment or data there",
    );
}

#[test]
fn bytes_before_the_first() {
    refused_object(
        "bytes_before_the_first",
        &format!(".section .rodata.patchlets, \"aR\"\n\t.byte 0x90\n.text\n{GOOD}"),
        "1 byte(s) between the start of the section and patchlet `good` belong to no patchlet \
         (offsets 0x0..0x1 of .rodata.patchlets): remove the alignment or data there",
    );
}

#[test]
fn bytes_behind_the_last() {
    refused_object(
        "bytes_behind_the_last",
        &format!("{GOOD}.section .rodata.patchlets, \"aR\"\n\t.byte 0x90\n"),
        "1 byte(s) behind patchlet `good` belong to no patchlet \
         (offsets 0x1..0x2 of .rodata.patchlets): remove the alignment or data there",
    );
}

#[test]
fn overlap() {
    refused_object(
        "overlap",
        &format!(
            ".section .rodata.patchlets, \"aR\"\n{}{}\
             patchlet_one_start:\n\tcli\npatchlet_two_start:\n\tsti\n\
             patchlet_one_end:\n\tnop\npatchlet_two_end:\n",
            labels("one"),
            labels("two")
        ),
        "patchlet `two` at 0x1..0x3 overlaps patchlet `one`, which ends at 0x2: \
         is an END_PATCHLET missing?",
    );
}

#[test]
fn writable_or_executable_section() {
    for (case, flags, value) in [("writable", "aw", 3), ("executable", "ax", 6)] {
        refused_object(
            case,
            &format!(
                ".section .rodata.patchlets, \"{flags}\"\n{}\
                 patchlet_bad_start:\n\tcli\npatchlet_bad_end:\n",
                labels("bad")
            ),
            &format!(
                ".rodata.patchlets has flags {value:#x}, but must be allocated, read-only and not \
                 executable: define patchlets by the macros of patchlet.h only"
            ),
        );
    }
}

/// Checks that a second section of the same name is refused: it would not be checked.
#[test]
fn a_second_section() {
    refused_object(
        "a_second_section",
        &format!(
            ".section .rodata.patchlets, \"aR\", @progbits, unique, 1\n\t.byte 1\n.text\n{GOOD}"
        ),
        "there are several sections .rodata.patchlets, with different flags: \
         define patchlets by the macros of patchlet.h only",
    );
}

#[test]
fn labels_in_another_section() {
    refused_object(
        "labels_in_another_section",
        &format!(
            "{GOOD}.section .rodata.other, \"a\"\n{}\
             patchlet_bad_start:\n\tcli\npatchlet_bad_end:\n",
            labels("bad")
        ),
        "label `patchlet_bad_start` of patchlet `bad` is not in .rodata.patchlets: \
         define patchlets by the macros of patchlet.h only",
    );
}

#[test]
fn visible_labels() {
    refused_object(
        "visible_labels",
        ".section .rodata.patchlets, \"aR\"\n\t.globl patchlet_bad_start, patchlet_bad_end\n\
         patchlet_bad_start:\n\tcli\npatchlet_bad_end:\n",
        "label `patchlet_bad_start` of patchlet `bad` must be global and hidden: \
         define patchlets by the macros of patchlet.h only",
    );
}

/// Checks that the object of a compiler for another target is refused.
#[test]
fn object_of_another_width() {
    let compiler = compiler_with_last_flag();
    let ending =
        "the target needs a 32-bit x86 ELF object: check that CC is a compiler for the target";
    for (case, flag, found) in [
        ("class_64", "-m64", "something else (Unsupported ELF header)"),
        // The object is ELF32 for a 64-bit CPU.
        ("class_x32", "-mx32", "an ELF object for machine 62"),
    ] {
        let source = format!(
            ".section .rodata.patchlets, \"aR\"\n{}patchlet_bad_start:\n\tcli\npatchlet_bad_end:\n",
            labels("bad")
        );
        let outcome = assemble(case, &source, TARGET_32, &[("CC", &compiler), ("LAST_FLAG", flag)]);
        refused(
            &outcome,
            &format!("patchlet: src/own.S: the assembler made {found} where {ending}"),
        );
    }
}

// ---- the tools and the target ----

#[test]
fn no_compiler() {
    let outcome = assemble("no_compiler", GOOD, TARGET_64, &[("CC", "/nonexistent/cc")]);
    refused(
        &outcome,
        "patchlet: no working C compiler to assemble with: `/nonexistent/cc`: \
         No such file or directory (os error 2); \
         install gcc or clang, or name one in the variable CC",
    );
}

/// Checks that the message names the wrapper of the compiler if the wrapper is missing.
#[test]
fn no_wrapper_of_the_compiler() {
    let outcome = assemble("no_wrapper", GOOD, TARGET_64, &[("CC", "/nonexistent/ccache gcc")]);
    refused(
        &outcome,
        "patchlet: the compiler `gcc` is to be started by `/nonexistent/ccache`, which does not \
         start: No such file or directory (os error 2); install `/nonexistent/ccache`, or take it \
         out of the variable CC or RUSTC_WRAPPER",
    );
}

/// Checks a custom target whose name has no hyphen, and that the tools named for it are found.
#[test]
fn a_target_of_one_word() {
    for (target, width) in [("mykernel", TARGET_64), ("my.kernel32", TARGET_32)] {
        let outcome = assemble("one_word", GOOD, width, &[("TARGET", target)]);
        assert_eq!(outcome.errors, [""; 0]);
        assert_eq!(outcome.linked, ["static:+whole-archive=own_patchlets"]);
    }
    let own = [("TARGET", "mykernel"), ("CC_mykernel", "/nonexistent/cc")];
    let outcome = assemble("one_word_cc", GOOD, TARGET_64, &own);
    assert!(outcome.errors[0].contains("`/nonexistent/cc`"), "{:?}", outcome.errors);
    let own = [("TARGET", "mykernel"), ("AR_mykernel", "/nonexistent/ar")];
    let outcome = assemble("one_word_ar", GOOD, TARGET_64, &own);
    assert!(outcome.errors[0].contains("/nonexistent/ar"), "{:?}", outcome.errors);
}

#[test]
fn a_compiler_that_fails_without_a_word() {
    let outcome = assemble("silent_compiler", GOOD, TARGET_64, &[("CC", "false")]);
    refused(&outcome, "patchlet: src/own.S does not assemble: `false` ended with exit status: 1");
}

#[test]
fn no_archiver() {
    let outcome = assemble("no_archiver", GOOD, TARGET_64, &[("AR", "/nonexistent/ar")]);
    refused(
        &outcome,
        "patchlet: no working archiver to make the library with: ToolNotFound: failed to find \
         tool \"/nonexistent/ar\": No such file or directory (os error 2); \
         install binutils or llvm, or name one in the variable AR",
    );
}

#[test]
fn unsupported_target() {
    for target in [
        "aarch64-unknown-none",
        "riscv64gc-unknown-none-elf",
        "x86_64-unknown-linux-gnux32",
        "x86_64-unknown-uefi",
        "x86_64-pc-windows-gnu",
        "i686-pc-windows-gnu",
        "x86_64-apple-darwin",
    ] {
        refused(
            &assemble("unsupported_target", GOOD, target, &[]),
            &format!(
                "patchlet: target `{target}` is not supported: build for 32-bit or 64-bit x86 \
                 with ELF objects, such as x86_64-unknown-none or i686-unknown-linux-gnu"
            ),
        );
    }
}
