//! Blobs that the build refuses, in assembly and in Rust. Each message names the blob and the place.
//! That a good one works, tests/process and the test kernel show by executing it.

mod support {
    pub mod fixture;
    #[allow(dead_code, reason = "tests/assemble.rs uses more")]
    pub mod refusals;
    #[allow(dead_code, reason = "tests/assemble.rs uses more")]
    pub mod script;
}

use std::fs;
#[cfg(feature = "inspect")]
use std::path::Path;
#[cfg(feature = "inspect")]
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol};

use support::fixture::{cargo, copy_crate, run};
use support::refusals::{TARGET_32, TARGET_64, refused_object, refused_source};
use support::script::assemble;

/// Returns a blob of these lines.
fn blob(lines: &str) -> String {
    format!("#include \"patchlet.h\"\nPATCHLET_BLOB(page)\n{lines}\nEND_PATCHLET_BLOB(page)\n")
}

/// An instruction with a hole of four bytes, which is right.
const HOLE: &str = "\tmovl\t$PATCHLET_UNFILLED(4), %eax\nPATCHLET_HOLE(page, one, 4)\n";

#[test]
fn a_good_blob_is_linked() {
    for target in [TARGET_64, TARGET_32] {
        for compiler in ["gcc", "clang"] {
            let lines = format!(
                "PATCHLET_CODE(page, 16)\nPATCHLET_OFFSET(page, start)\n\tcli\n\
                 \tpushl\t$PATCHLET_UNFILLED(4)\nPATCHLET_HOLE(page, two, 4)\n\
                 PATCHLET_ALIGN(page, 8)\nPATCHLET_DATA(page)\nPATCHLET_OFFSET(page, the_end)\n\
                 \t.quad\t1\nPATCHLET_CODE(page, 32)\nPATCHLET_OFFSET(page, next_start)\n{HOLE}\
                 \taddl\t$PATCHLET_UNFILLED(1), %esp\nPATCHLET_HOLE_SIGNED(page, three, 1)"
            );
            let outcome = assemble("blob_good", &blob(&lines), target, &[("CC", compiler)]);
            assert_eq!(outcome.errors, [""; 0], "{compiler} {target}");
        }
    }
}

/// Assembles the page of docs/blobs.md, and compares it with the table of hex beside it.
#[test]
fn the_page_of_the_docs_is_the_table_of_hex() {
    const DOCS: &str = include_str!("../docs/blobs.md");
    let block = |fence: &str, word: &str| {
        let mut blocks = DOCS.split("```").skip(1).step_by(2);
        let found = blocks.find(|block| block.starts_with(fence) && block.contains(word));
        found.and_then(|block| block.split_once('\n')).expect("a block of code").1.to_owned()
    };
    let hex = block("rust", "HYPERCALL_PAGE");
    let number = |word: &str| match word.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).expect(word),
        None => word.parse().expect(word),
    };
    let value = |name: &str| {
        let rest = hex.split_once(&format!("const {name}: ")).expect(name).1;
        rest.split_once(" = ")
            .and_then(|(_, value)| value.split_once(";\n"))
            .expect(name)
            .0
            .to_owned()
    };
    let list = |name: &str| {
        let text = value(name);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let words: String = code.collect();
        let words = words.trim_matches(['[', ']']).split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(number).collect::<Vec<_>>()
    };
    for target in [TARGET_64, TARGET_32] {
        let outcome = assemble("blob_docs", &block("asm", "PATCHLET_BLOB"), target, &[]);
        assert_eq!(outcome.errors, [""; 0], "{target}");
        let object = fs::read(outcome.out.join("own_patchlets.o")).expect("the object");
        let object = object::File::parse(&*object).expect("an ELF file");
        let section = object.section_by_name(".rodata.patchlets").expect("the section");
        let mut bytes = section.data().expect("its bytes").to_vec();
        let address = |name: &str| {
            let symbol = object.symbol_by_name(&format!("patchlet_hypercall_page_{name}"));
            symbol.expect(name).address() as usize
        };
        let entries = ["intel_64", "amd_64", "intel_32", "amd_32"];
        for (entry, at) in entries.iter().zip(list("BITS")) {
            assert_eq!(address(&format!("at_{entry}")), number(&value(&entry.to_uppercase())));
            assert_eq!(address(&format!("hole_{entry}_bits")), at);
            bytes[at..at + 4].fill(0);
        }
        let bytes: Vec<usize> = bytes.into_iter().map(usize::from).collect();
        assert_eq!(bytes, list("HYPERCALL_PAGE"), "{target}");
    }
}

/// Reads the comment above the page of docs/blobs.md, as `patchlet verify --contracts` does.
#[cfg(feature = "inspect")]
#[test]
fn the_page_of_the_docs_is_described_in_full() {
    let docs = include_str!("../docs/blobs.md");
    let asm = docs.split("```asm\n").nth(1).and_then(|rest| rest.split("```").next());
    let asm = asm.expect("a block of assembly");
    for width in [patchlet::Width::Bits64, patchlet::Width::Bits32] {
        let contracts = patchlet::contract::parse_blobs(asm, width).expect("contracts");
        let [page] = &contracts[..] else { panic!("{contracts:?}") };
        assert_eq!((page.offsets.len(), page.holes.len()), (4, 4), "{page:?}");
    }
    // A macro between the comment and the blob hides the comment.
    let hidden = asm.replace("PATCHLET_BLOB(", ".macro X\n.endm\nPATCHLET_BLOB(");
    let error = patchlet::contract::parse_blobs(&hidden, patchlet::Width::Bits64).unwrap_err();
    let words = "right above PATCHLET_BLOB, with no code between";
    assert!(error.to_string().ends_with(words), "{error}");
}

// ---- refused by the assembler ----

#[test]
fn a_place_without_its_blob() {
    for (line, target) in [
        ("PATCHLET_OFFSET(page, place)", TARGET_64),
        ("PATCHLET_HOLE(page, one, 4)", TARGET_32),
        ("PATCHLET_CODE(page, 32)", TARGET_64),
        ("PATCHLET_DATA(page)", TARGET_32),
        ("PATCHLET_ALIGN(page, 16)", TARGET_64),
    ] {
        let words = line.split('(').next().expect("a name");
        let before = format!("#include \"patchlet.h\"\n{line}\n{}", blob("\tnop"));
        refused_source(
            "blob_before",
            &before,
            target,
            &[words, "stands before PATCHLET_BLOB(page)"],
        );
        let behind = format!("{}{line}\n", blob("\tnop"));
        refused_source(
            "blob_behind",
            &behind,
            target,
            &[words, "stands behind END_PATCHLET_BLOB(page)"],
        );
    }
}

/// A patchlet for sites has no holes: its native function could not be executed.
#[test]
fn a_hole_in_a_patchlet_for_sites() {
    let source = "#include \"patchlet.h\"\nPATCHLET(page)\n\tmovl $PATCHLET_UNFILLED(4), %eax\n\
                  PATCHLET_HOLE(page, one, 4)\nEND_PATCHLET(page)\n";
    let words = ["PATCHLET_HOLE(page, one, 4) stands before PATCHLET_BLOB(page), or in another"];
    refused_source("blob_patchlet", source, TARGET_64, &words);
}

#[test]
fn a_name_twice() {
    let twice = "blob `page` has two places or holes that are called `one`";
    for line in [HOLE, "PATCHLET_OFFSET(page, one)\n\tnop"] {
        refused_source("blob_twice", &blob(&format!("{HOLE}{line}")), TARGET_64, &[twice]);
    }
    let source = format!("{}PATCHLET_BLOB(page)\n\tnop\nEND_PATCHLET_BLOB(page)\n", blob("\tnop"));
    refused_source("blob_again", &source, TARGET_32, &["patchlet `page` is defined twice"]);
}

#[test]
fn a_width_that_no_operand_has() {
    let lines = "\tmovl\t$PATCHLET_UNFILLED(4), %eax\nPATCHLET_HOLE(page, one, 3)";
    let words =
        ["hole `one` of blob `page` has 3 bytes: the operand of an instruction has 1, 2, 4"];
    refused_source("blob_width", &blob(lines), TARGET_64, &words);
}

#[test]
fn too_many_holes() {
    let many: String = (0..17).map(|n| HOLE.replace("one", &format!("hole_{n}"))).collect();
    let words = ["blob `page` has more than 16 holes"];
    refused_source("blob_many", &blob(&many), TARGET_64, &words);
}

#[test]
fn blobs_that_are_not_closed() {
    let source = "#include \"patchlet.h\"\nPATCHLET_BLOB(page)\n\tnop\n";
    refused_source(
        "blob_nested",
        &format!("{source}PATCHLET_BLOB(other)\n\tnop\nEND_PATCHLET_BLOB(other)\n"),
        TARGET_64,
        &["is inside of another blob", "is END_PATCHLET_BLOB(page) missing?"],
    );
    refused_source(
        "blob_no_beginning",
        "#include \"patchlet.h\"\nEND_PATCHLET_BLOB(page)\n",
        TARGET_64,
        &["has no PATCHLET_BLOB(page) before it", "is PATCHLET_BLOB(page) missing?"],
    );
}

// ---- refused by the check of the object ----

#[test]
fn a_blob_without_an_end() {
    refused_object(
        "blob_no_end",
        "#include \"patchlet.h\"\nPATCHLET_BLOB(page)\n\tnop\n",
        "patchlet `page` has a start but no end: is END_PATCHLET_BLOB(page) missing?",
    );
}

#[test]
fn a_place_outside() {
    refused_object(
        "blob_place_outside",
        &blob("\tnop\nPATCHLET_OFFSET(page, place)"),
        "place `place` of blob `page` is outside of the blob, which has 1 bytes: put an instruction \
         behind it",
    );
    refused_object(
        "blob_hole_outside",
        &blob("PATCHLET_HOLE(page, one, 4)\n\tnop\n\tnop"),
        "hole `one` of blob `page` is outside of the blob, which has 2 bytes: put an instruction with \
         an operand before it",
    );
}

#[test]
fn holes_that_share_bytes() {
    refused_object(
        "blob_overlap",
        &blob(&format!("\tnop\n{HOLE}PATCHLET_HOLE(page, two, 4)")),
        "hole `two` of blob `page` shares bytes with hole `one` (offsets 0x2..0x6 and 0x2..0x6): an \
         operand is one hole",
    );
}

/// A hole behind an instruction without an operand, behind one whose operand the assembler made
/// shorter, behind one whose last operand is another, and one that is narrower or wider.
#[test]
fn a_hole_that_is_not_the_last_operand() {
    for (case, lines, at, bytes, width) in [
        ("none", "\tmovl $0x65, %eax\n\tcpuid", 3, "00, 00, 0f, a2", 4),
        ("short", "\tpushl $1\n\tpushl $0", 0, "6a, 01, 6a, 00", 4),
        ("last", "\tmovb $1, PATCHLET_UNFILLED(4)(%ebx)", 3, "65, 66, 67, 01", 4),
        ("wide", "\tmovl $PATCHLET_UNFILLED(4), %eax", 3, "66, 67", 2),
        ("narrow", "\tmovl $1, %eax\n\tpushl $PATCHLET_UNFILLED(1)", 3, "00, 00, 6a, 65", 4),
    ] {
        // 32-bit code for both targets: the bytes are the same.
        let lines = format!("PATCHLET_CODE(page, 32)\n{lines}\nPATCHLET_HOLE(page, one, {width})");
        refused_object(
            &format!("blob_operand_{case}"),
            &blob(&lines),
            &format!(
                "hole `one` of blob `page` is not the operand with which the instruction before it \
                 ends (offset {at:#x}, bytes [{bytes}]): write that operand as \
                 PATCHLET_UNFILLED({width}), and PATCHLET_HOLE right behind the instruction, with \
                 the operand's width"
            ),
        );
    }
}

#[test]
fn a_hole_in_data() {
    refused_object(
        "blob_data",
        &blob("PATCHLET_DATA(page)\n\t.long PATCHLET_UNFILLED(4)\nPATCHLET_HOLE(page, one, 4)"),
        "hole `one` of blob `page` is in data (offset 0x0): only the operand of an instruction can \
         be a hole; if this is code, write PATCHLET_CODE(page, …) before it",
    );
}

#[test]
fn a_mode_that_nobody_told() {
    refused_object(
        "blob_mode",
        &blob("PATCHLET_CODE(page, 32)\n\tnop\n\t.code16\nPATCHLET_OFFSET(page, place)\n\tnop"),
        "place `place` of blob `page` is in 16-bit code, and the last PATCHLET_CODE says 32-bit code: \
         write PATCHLET_CODE(page, 16) instead of .code16",
    );
}

#[test]
fn padding_by_the_section() {
    refused_object(
        "blob_align",
        &blob("\tnop\n\t.balign 16\n\tnop"),
        ".rodata.patchlets is aligned to 16, which would put bytes of no patchlet before it: take \
         .balign and .p2align away, and align inside a blob by PATCHLET_ALIGN",
    );
}

#[test]
fn a_blob_with_a_relocation() {
    refused_object(
        "blob_relocation",
        &blob("\tnop\n\tcall elsewhere"),
        "patchlet `page` has a relocation (to `elsewhere`, at offset 0x2 of .rodata.patchlets): a \
         patchlet is copied elsewhere, so it can only use registers and constants",
    );
}

// ---- linked ----

/// Links a program of nothing but a blob by each linker, without its symbols. GNU ld ignores
/// SHF_GNU_RETAIN in objects of another OS/ABI, so the places are kept by the relocations alone.
#[cfg(feature = "inspect")]
#[test]
fn places_survive_every_linker_and_strip() {
    /// Where the OS/ABI is in an ELF file, and that of a standalone kernel.
    const OSABI: (usize, u8) = (7, 255);
    let source = format!(
        "{}\t.text\n\t.globl _start\n_start:\n\tjmp _start\n\t.data\n\t.globl used\n\
         used:\t.long patchlet_page_start - .\n",
        blob(&format!("PATCHLET_OFFSET(page, place)\n{HOLE}"))
    );
    for (target, emulation, bits) in [(TARGET_64, "elf_x86_64", 64), (TARGET_32, "elf_i386", 32)] {
        let outcome = assemble("blob_linked", &source, target, &[]);
        assert_eq!(outcome.errors, [""; 0]);
        let object = outcome.out.join("own_patchlets.o");
        let standalone = outcome.out.join("standalone.o");
        let mut bytes = fs::read(&object).expect("the object");
        bytes[OSABI.0] = OSABI.1;
        fs::write(&standalone, bytes).expect("a file in OUT_DIR");
        let run = |line: &str, input: &Path, output: &Path| {
            let mut words = line.split_whitespace();
            let mut command = Command::new(words.next().expect("the linker's name"));
            command.args(words).args(["-m", emulation]).arg(input).arg("-o").arg(output);
            let output = run(&mut command);
            assert!(output.success, "{line}: {}", output.stderr);
        };
        let partly = outcome.out.join("partly.o");
        for (first, input) in [
            (None, &object),
            (None, &standalone),
            (Some("ld.bfd"), &partly),
            (Some("mold"), &partly),
        ] {
            if let Some(linker) = first {
                run(&format!("{linker} -r"), &object, &partly);
            }
            for linker in ["ld.bfd -z start-stop-gc", "ld.bfd", "ld.lld", "mold"] {
                let program = outcome.out.join("program");
                run(&format!("{linker} --gc-sections -u used -s"), input, &program);
                let list = Command::new(env!("CARGO_BIN_EXE_patchlet"))
                    .arg("list")
                    .arg(&program)
                    .output()
                    .expect("the tool starts");
                let said = String::from_utf8_lossy(&list.stdout);
                assert!(list.status.success(), "{first:?}, {linker}: {said}");
                let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
                for row in [
                    format!("page 0 place place {bits}-bit code"),
                    format!("page 1 one hole u32 {bits}-bit code"),
                ] {
                    assert!(
                        words.contains(&row),
                        "{first:?}, {linker}, {}: {said}",
                        input.display()
                    );
                }
            }
        }
    }
}

// ---- refused by rustc and by the linker ----

/// The blob of the programs, which has one place and two holes.
const SOURCE: &str = "PATCHLET_OFFSET(page, place)\n\tmovl\t$PATCHLET_UNFILLED(4), %eax\n\
                      PATCHLET_HOLE(page, one, 4)\n\taddl\t$PATCHLET_UNFILLED(1), %ecx\n\
                      PATCHLET_HOLE_SIGNED(page, two, 1)\n\tret";

/// Returns a program with this declaration of the blob, which uses all of it.
fn program(declaration: &str, holes: &str) -> String {
    format!(
        "patchlet::blobs! {{ mod own {{ page {{ {declaration} }} }} }}\n\
         fn main() {{\n    let mut buffer = [0; 64];\n    let holes = own::page::Holes {{ {holes} }};\n\
         \x20   let result = holes.fill(&mut buffer).map(|code| code.bytes().len());\n\
         \x20   println!(\"{{:?}} {{}}\", result, own::page::offset::place());\n}}\n"
    )
}

#[test]
fn what_rust_declares_must_be_so() {
    let package = copy_crate("blobs").join("tests/fixtures/own");
    fs::write(package.join("src/own.S"), blob(SOURCE)).expect("a file of the copy");
    let right = "offsets { place } holes { one: u32, two: i8 }";
    let build = |text: String| {
        fs::write(package.join("src/main.rs"), text).expect("a file of the copy");
        run(cargo(&package, &["run", "--quiet"]).env("RUSTFLAGS", "-Clink-arg=-fuse-ld=lld"))
    };
    for (holes, says) in [
        ("one: 1, two: -1", "Ok(9) 0\n"),
        ("one: 0xffff_ffff, two: 127", "Ok(9) 0\n"),
        ("one: 0xffff_ffff, two: -128", "Ok(9) 0\n"),
        ("one: 0x1_0000_0000, two: 0", "OutOfRange { blob: \"page\", hole: \"one\""),
        ("one: 0, two: 128", "OutOfRange { blob: \"page\", hole: \"two\""),
        ("one: 0, two: -129", "OutOfRange { blob: \"page\", hole: \"two\""),
    ] {
        let output = build(program(right, holes));
        assert!(output.success && output.stdout.contains(says), "{holes}: {}", output.stdout);
    }
    let mut wrong = String::new();
    for (declaration, holes, says) in [
        // The compiler names the holes that are missing.
        (right, "one: 1", "missing field `two` in initializer of"),
        (right, "two: 1", "missing field `one` in initializer of"),
        (right, "", "missing fields `one` and `two` in initializer of"),
        (right, "one: -1, two: 1", "cannot apply unary operator `-` to type `u64`"),
        (
            "offsets { place } holes { one: usize, two: i8 }",
            "one: 1, two: 1",
            "a hole has the type u8, u16, u32 or u64 (PATCHLET_HOLE), or i8, i16, i32 or i64",
        ),
        // The linker names what is not there.
        (
            "offsets { palce } holes { one: u32, two: i8 }",
            "one: 1, two: 1",
            "undefined symbol: patchlet_page_at_palce",
        ),
        (
            "offsets { place } holes { oen: u32, two: i8 }",
            "oen: 1, two: 1",
            "undefined symbol: patchlet_page_hole_oen_u32",
        ),
        (
            "offsets { place } holes { one: u64, two: i8 }",
            "one: 1, two: 1",
            "undefined symbol: patchlet_page_hole_one_u64",
        ),
        (
            "offsets { place } holes { one: u32, two: u8 }",
            "one: 1, two: 1",
            "undefined symbol: patchlet_page_hole_two_u8",
        ),
        (
            "offsets { place } holes { one: u32 }",
            "one: 1",
            "undefined symbol: patchlet_page_holes_are_1",
        ),
    ] {
        let misspelt = declaration.contains("palce");
        let text = program(declaration, holes);
        let output = build(if misspelt { text.replace("::place", "::palce") } else { text });
        if output.success {
            wrong += &format!("it links: {declaration} {holes}\n");
        } else if !output.stderr.contains(says) {
            wrong += &format!("{declaration} {holes}\ndoes not say `{says}`:\n{}\n", output.stderr);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
