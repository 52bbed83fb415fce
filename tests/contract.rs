//! Proves from the assembled bytes that every patchlet keeps the contract in the comment above it:
//! those of the native set, the test kernel, the test process and the matrix, on both widths. Also
//! checks that each way of breaking a contract is found and named.
#![cfg(feature = "inspect")]

mod support {
    pub mod elf;
    #[allow(dead_code, reason = "the width alone is needed, by elf")]
    pub mod table;
}

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use patchlet::Width;
use patchlet::contract::{self, Contract};
use patchlet::inspect::{Exit, Terminal, run};
use patchlet::ops::Abi;
use support::elf::{self, Side, label_of, name_and_side};

/// Sources of patchlets, and the widths they are for.
const SOURCES: &[(&str, &[Width])] = &[
    ("asm/patch_64.S", &[Width::Bits64]),
    ("asm/patch_32.S", &[Width::Bits32]),
    ("asm/cpu_64.S", &[Width::Bits64]),
    ("asm/cpu_32.S", &[Width::Bits32]),
    ("tests/kernel/asm/own.S", &[Width::Bits64, Width::Bits32]),
    ("tests/process/asm/own.S", &[Width::Bits64, Width::Bits32]),
    ("tests/programs/matrix/program/own.S", &[Width::Bits64, Width::Bits32]),
];

/// Assembles a source and returns its patchlets.
fn assemble(source: &str, width: Width) -> Vec<(String, Vec<u8>)> {
    let (flag, bits) = if width == Width::Bits64 { ("-m64", 64) } else { ("-m32", 32) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let object = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("contract-{bits}-{}.o", source.replace('/', "-")));
    let status = Command::new("gcc")
        .args([flag, "-c", "-I"])
        .arg(root.join("asm"))
        .arg(root.join(source))
        .arg("-o")
        .arg(&object)
        .status()
        .expect("gcc starts");
    assert!(status.success(), "gcc {source}");
    let image = elf::read(&object);
    let address = |name: &str, side: Side| {
        let label = label_of(name, side);
        let found = image.labels.iter().find(|found| found.name == label);
        usize::try_from(found.expect("both labels").address).expect("an offset in a section")
    };
    let labels = image.labels.iter().filter_map(|label| name_and_side(&label.name));
    let names = labels.filter(|(_, side)| *side == Side::Start).map(|(name, _)| name);
    names
        .map(|name| {
            let bytes = &image.section.bytes[address(name, Side::Start)..address(name, Side::End)];
            (name.to_owned(), bytes.to_vec())
        })
        .collect()
}

fn contracts(source: &str, width: Width) -> Vec<Contract> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let text = fs::read_to_string(&path).expect("a source");
    contract::parse(&text, width).unwrap_or_else(|error| panic!("{source}: {error}"))
}

#[test]
fn every_patchlet_keeps_its_contract() {
    for (source, widths) in SOURCES {
        for width in *widths {
            let contracts = contracts(source, *width);
            let patchlets = assemble(source, *width);
            let names: Vec<_> = contracts.iter().map(|contract| contract.name.as_str()).collect();
            assert_eq!(names, patchlets.iter().map(|(name, _)| name).collect::<Vec<_>>());
            for (contract, (_, bytes)) in contracts.iter().zip(&patchlets) {
                if let Err(violation) = contract::check(contract, bytes, *width) {
                    panic!("{source}, {width:?}: {violation}\n{contract:#?}");
                }
            }
        }
    }
}

/// Checks that the patchlets of callee-save ops have contracts which allow changing only the result
/// register and the flags.
#[test]
fn callee_save_ops_have_contracts_that_say_so() {
    let (source, width) = if cfg!(target_arch = "x86_64") {
        ("asm/patch_64.S", Width::Bits64)
    } else {
        ("asm/patch_32.S", Width::Bits32)
    };
    let contracts = contracts(source, width);
    let mut checked = 0;
    for op in patchlet::pv::TABLE.ops() {
        let Some(patchlet) = op.patchlet() else { continue };
        let contract = contracts.iter().find(|contract| contract.name == patchlet.name());
        let contract = contract.expect("a contract for each patchlet");
        assert_eq!(contract.leaves, matches!(patchlet.name(), "iret" | "usergs_sysret64"));
        if op.abi() == Abi::CalleeSave {
            let result = if width == Width::Bits64 { "RAX" } else { "EAX" };
            let outputs = contract.outputs.iter().map(|register| format!("{register:?}"));
            assert!(outputs.into_iter().all(|output| output == result), "{op}");
            assert!(contract.clobbers.is_empty(), "{op}");
            checked += 1;
        }
    }
    assert!(checked >= 7, "{checked}");
}

/// Contracts, each with bytes that break it and the expected message.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &[u8], &str)] = &[
    ("clobbers_rcx", "in: -   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     // mov %ecx, 5; mov %rax, %rcx
     &[0xb9, 5, 0, 0, 0, 0x48, 0x89, 0xc8],
     "`mov $5,%ecx` writes RCX, which is neither output nor clobbered"),
    ("reads_rsi", "in: RDI   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     &[0x48, 0x89, 0xf0],
     "`mov %rsi,%rax` reads RSI, which is no input"),
    ("reads_what_it_clobbers", "in: -   out: RAX   clobbers: RCX   flags: unchanged   privilege: any",
     &[0x48, 0x89, 0xc8],
     "`mov %rcx,%rax` reads RCX, which is no input"),
    ("no_output", "in: -   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     &[0x90],
     "nothing writes the output RAX"),
    ("restore_fl", "in: RDI = RFLAGS   out: -   clobbers: -   flags: all, from RDI\nstack: 8 bytes below RSP   privilege: CPL <= IOPL",
     // As it once was: push %rax; popfq
     &[0x50, 0x9d],
     "`push %rax` reads RAX, which is no input"),
    ("read_cr3", "in: -   out: RAX = CR3   clobbers: -   flags: undefined   privilege: CPL 0",
     // As it once was: mov %rax, %cr3
     &[0x0f, 0x22, 0xd8],
     "`mov %rax,%cr3` writes CR3, which is neither output nor clobbered"),
    ("writes_cr3", "in: RDI   out: -   clobbers: -   flags: undefined   privilege: CPL 0",
     &[0x0f, 0x22, 0xdf],
     "`mov %rdi,%cr3` writes CR3, which is neither output nor clobbered"),
    ("branches", "in: -   out: -   clobbers: -   flags: unchanged   privilege: any",
     &[0xeb, 0x00],
     "`jmp 2` leaves, but execution must go on behind the patchlet"),
    ("calls", "in: -   out: -   clobbers: -   flags: unchanged   privilege: any",
     &[0xe8, 0, 0, 0, 0],
     "`call 5` leaves, but execution must go on behind the patchlet"),
    ("jumps_away", "in: -   out: does not return   clobbers: -   flags: unchanged   privilege: any",
     &[0xeb, 0x00],
     "`jmp 2` leaves, but execution must go on behind the patchlet"),
    ("returns", "in: -   out: -   clobbers: -   flags: unchanged   privilege: any",
     &[0xc3],
     "`ret` leaves, but execution must go on behind the patchlet"),
    ("stays", "in: -   out: does not return   clobbers: -   flags: unchanged   privilege: any",
     &[0x90],
     "it must leave by itself, and does not"),
    ("extra_memory", "in: RDI, RSI   out: -   clobbers: -   flags: unchanged\nmemory: writes one byte at RDI   privilege: any",
     &[0xc6, 0x07, 0x00, 0xc6, 0x06, 0x00],
     "`movb $0,(%rsi)` uses memory that the contract does not name"),
    ("wide_memory", "in: RDI   out: -   clobbers: -   flags: unchanged\nmemory: writes one byte at RDI   privilege: any",
     &[0xc7, 0x07, 0, 0, 0, 0],
     "`movl $0,(%rdi)` uses memory that the contract does not name"),
    ("other_memory", "in: RDI   out: -   clobbers: -   flags: unchanged\nmemory: writes one byte at RDI   privilege: any",
     &[0xc6, 0x47, 0x01, 0x00],
     "`movb $0,1(%rdi)` uses memory that the contract does not name"),
    ("no_memory", "in: RDI   out: -   clobbers: -   flags: unchanged\nmemory: writes one byte at RDI   privilege: any",
     &[0x90],
     "the access to memory that it names is not there"),
    ("privileged", "in: -   out: -   clobbers: -   flags: unchanged   privilege: any",
     &[0x0f, 0x09],
     "`wbinvd` needs a privilege that it does not say"),
    ("privileged_by_iopl", "in: -   out: -   clobbers: -   flags: unchanged   privilege: CPL <= IOPL",
     &[0x0f, 0x09],
     "`wbinvd` needs a privilege that it does not say"),
    ("unprivileged", "in: -   out: -   clobbers: -   flags: unchanged   privilege: CPL 0",
     &[0x90],
     "it says CPL 0, but nothing needs that"),
    ("changes_flags", "in: -   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     &[0x31, 0xc0],
     "`xor %eax,%eax` changes flags that must stay"),
    ("wrong_flag", "in: -   out: -   clobbers: -   flags: IF = 0   privilege: CPL <= IOPL",
     &[0xfb],
     "`sti` changes flags that must stay"),
    ("sets_ac", "in: -   out: -   clobbers: -   flags: AC = 0   privilege: CPL 0",
     &[0x0f, 0x01, 0xcb],
     "`stac` changes flags that must stay"),
    ("clears_ac", "in: -   out: -   clobbers: -   flags: AC = 1   privilege: CPL 0",
     &[0x0f, 0x01, 0xca],
     "`clac` changes flags that must stay"),
    ("keeps_ac", "in: -   out: -   clobbers: -   flags: AC = 1   privilege: any",
     &[0x90],
     "the flags do not change as they must"),
    ("sets_direction", "in: -   out: -   clobbers: -   flags: DF = 0   privilege: any",
     &[0xfd],
     "`std` changes flags that must stay"),
    ("changes_direction", "in: -   out: -   clobbers: -   flags: status   privilege: any",
     &[0xfd],
     "`std` changes flags that must stay"),
    ("no_flags", "in: -   out: -   clobbers: -   flags: IF = 0   privilege: CPL <= IOPL",
     &[0x90],
     "the flags do not change as they must"),
    ("unbalanced", "in: RDI   out: -   clobbers: -   flags: unchanged\nstack: 8 bytes below RSP   privilege: any",
     &[0x57],
     "the stack pointer is -8 bytes off at the end"),
    ("deep", "in: RDI   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     &[0x57, 0x58],
     "`push %rdi` uses 8 bytes of stack, more than it says"),
    ("shallow", "in: RDI   out: RAX   clobbers: -   flags: unchanged\nstack: 16 bytes below RSP   privilege: any",
     &[0x57, 0x58],
     "uses only 8 bytes of stack"),
    ("takes", "in: -   out: RAX   clobbers: -   flags: unchanged   privilege: any",
     &[0x58],
     "`pop %rax` takes what the caller has on the stack"),
    ("pops_stack", "in: RDI   out: -   clobbers: -   flags: unchanged\nstack: 8 bytes below RSP   privilege: any",
     &[0x57, 0x5c],
     "`pop %rsp` writes RSP, which is neither output nor clobbered"),
    ("moves_stack", "in: RDI   out: -   clobbers: -   flags: unchanged   privilege: any",
     &[0x48, 0x89, 0xfc],
     "`mov %rdi,%rsp` writes RSP, which is neither output nor clobbered"),
    ("keeps_pushed", "in: -   out: -   clobbers: -   saves: RCX   flags: unchanged\nstack: 8 bytes below RSP   privilege: any",
     // push %rcx; mov $5,%ecx; pop %rcx; mov $5,%ecx
     &[0x51, 0xb9, 5, 0, 0, 0, 0x59, 0xb9, 5, 0, 0, 0],
     "`mov $5,%ecx` writes RCX, which is neither output nor clobbered"),
    ("never_pushes", "in: -   out: -   clobbers: -   saves: RCX   flags: unchanged   privilege: any",
     &[0x90],
     "RCX is not saved and restored"),
    ("pops_another", "in: -   out: -   clobbers: -   saves: RCX, RDX   flags: unchanged\nstack: 16 bytes below RSP   privilege: any",
     // push %rcx; push %rdx; pop %rcx; pop %rdx
     &[0x51, 0x52, 0x59, 0x5a],
     "RCX is not saved and restored"),
    ("pushes_too_late", "in: -   out: -   clobbers: RCX   saves: RCX   flags: unchanged\nstack: 8 bytes below RSP   privilege: any",
     // mov $5,%ecx; push %rcx; pop %rcx
     &[0xb9, 5, 0, 0, 0, 0x51, 0x59],
     "RCX is not saved and restored"),
    ("reads_restored", "in: -   out: RAX   clobbers: -   saves: RCX   flags: unchanged\nstack: 8 bytes below RSP   privilege: any",
     // push %rcx; mov $5,%ecx; pop %rcx; mov %rcx,%rax
     &[0x51, 0xb9, 5, 0, 0, 0, 0x59, 0x48, 0x89, 0xc8],
     "`mov %rcx,%rax` reads RCX, which is no input"),
    ("only_reads", "in: RDI, RSI, RCX   out: -   clobbers: RDI, RSI, RCX   flags: unchanged\nmemory: reads some bytes at RSI   privilege: any",
     // rep movsb
     &[0xf3, 0xa4],
     "`rep movsb (%rsi),(%rdi)` uses memory that the contract does not name"),
    ("one_of_two", "in: RDI, RSI   out: -   clobbers: -   flags: unchanged\nmemory: writes one byte at RDI, reads some bytes at RSI   privilege: any",
     &[0xc6, 0x07, 0x00],
     "the access to memory that it names is not there"),
    ("cut_off", "in: -   out: RAX = CR2   clobbers: -   flags: undefined   privilege: CPL 0",
     &[0x0f, 0x20],
     "the bytes are no whole instructions"),
];

/// Contracts about one flag, and instructions that keep them.
#[test]
fn a_flag_of_its_own_is_set_and_cleared() {
    for (flags, privilege, bytes) in [
        ("AC = 1, user memory is reached", "CPL 0", &[0x0f, 0x01, 0xcb][..]),
        ("AC = 0", "CPL 0", &[0x0f, 0x01, 0xca]),
        ("DF = 0", "any", &[0xfc]),
        ("DF = 1 (strings run backwards)", "any", &[0xfd]),
        ("IF = 0", "CPL <= IOPL", &[0xfa]),
        ("IF = 1", "CPL <= IOPL", &[0xfb]),
    ] {
        let comment =
            format!("/* in: -   out: -   clobbers: -   flags: {flags}   privilege: {privilege} */");
        let source = format!("{comment}\nPATCHLET(one)\n");
        let parsed =
            contract::parse(&source, Width::Bits64).unwrap_or_else(|error| panic!("{error}"));
        contract::check(&parsed[0], bytes, Width::Bits64).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn every_broken_contract_is_named() {
    for (name, comment, bytes, expected) in BROKEN {
        let source = format!("/* {comment} */\nPATCHLET({name})\n");
        let parsed = contract::parse(&source, Width::Bits64).expect("it parses");
        let violation = contract::check(&parsed[0], bytes, Width::Bits64).expect_err(name);
        assert_eq!(
            violation.to_string(),
            format!("patchlet `{name}` breaks its contract: {expected}")
        );
    }
}

/// Checks that the width counts: on 32 bit, the same bytes clobber ECX.
#[test]
fn the_width_counts() {
    let comment = "in: -   out: EAX   clobbers: -   flags: unchanged   privilege: any";
    let source = format!("/* {comment} */\nPATCHLET(clobbers_ecx)\n");
    let parsed = contract::parse(&source, Width::Bits32).expect("it parses");
    let bytes = [0xb9, 5, 0, 0, 0, 0x89, 0xc8];
    let violation = contract::check(&parsed[0], &bytes, Width::Bits32).expect_err("it clobbers");
    assert_eq!(
        violation.to_string(),
        "patchlet `clobbers_ecx` breaks its contract: \
         `mov $5,%ecx` writes ECX, which is neither output nor clobbered"
    );
}

/// Links a program with the native set and one more source by GNU ld. It has one site and an empty
/// table.
fn link(source: &str, width: Width) -> PathBuf {
    let (bits, size) = match width {
        Width::Bits64 => (64, 8 * 13),
        Width::Bits32 => (32, 4 * 11),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("contract-{bits}"));
    fs::create_dir_all(&folder).expect("a folder below CARGO_TARGET_TMPDIR");
    let text = format!(
        "#include \"patchlet.h\"\n.globl _start\n_start: PATCHLET_CALL save_fl\n\
         .data\n.globl patchlet_pv_ops\n.type patchlet_pv_ops, @object\n\
         .size patchlet_pv_ops, {size}\npatchlet_pv_ops: .skip {size}\n"
    );
    fs::write(folder.join("start.S"), text).expect("a file below CARGO_TARGET_TMPDIR");
    let status = Command::new("gcc")
        .args([&format!("-m{bits}"), "-nostdlib", "-static", "-no-pie", "-fuse-ld=bfd", "-I"])
        .arg(root.join("asm"))
        .arg(root.join(source))
        .arg(root.join(format!("asm/patch_{bits}.S")))
        .args(["start.S", "-o", "program"])
        .current_dir(&folder)
        .status()
        .expect("gcc starts");
    assert!(status.success(), "gcc {source}");
    folder.join("program")
}

/// Runs `patchlet verify PROGRAM --contracts SOURCE`. Returns its exit status and its output.
fn verify(program: &Path, source: &str) -> (Exit, String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let words = ["patchlet", "verify", "--contracts"].map(Into::into);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(
        words.into_iter().chain([source.into_os_string(), program.into()]),
        &mut Terminal::new(&mut out, &mut err),
    );
    out.extend(err);
    (exit, String::from_utf8(out).expect("UTF-8"))
}

/// Checks that the tool proves the contracts of a linked kernel from the file and the source alone.
#[test]
fn the_tool_names_a_patchlet_that_clobbers_rcx() {
    for (width, register) in [(Width::Bits64, "RCX"), (Width::Bits32, "ECX")] {
        let program = link("tests/fixtures/clobbers_rcx.S", width);
        let (exit, said) = verify(&program, "tests/fixtures/clobbers_rcx.S");
        assert_eq!(exit, Exit::Finding, "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].starts_with("contract: patchlet `twice` at 0x"), "{said}");
        let clobbered = format!("writes {register}, which is neither output nor clobbered;");
        assert!(lines[0].contains(&clobbered), "{said}");

        let native = if width == Width::Bits64 { "asm/patch_64.S" } else { "asm/patch_32.S" };
        let (exit, said) = verify(&program, native);
        assert_eq!(exit, Exit::Holds, "{said}");
        // A patchlet of the source that is not in the file.
        let (exit, said) = verify(&program, "tests/process/asm/own.S");
        assert_eq!(exit, Exit::Finding, "{said}");
        assert!(said.contains("of the contracts: is not in the file"), "{said}");
        // Unusable sources: a file without patchlets, and one that lacks a contract.
        let (exit, said) = verify(&program, "asm/patchlet.h");
        assert_eq!(exit, Exit::Failed, "{said}");
        assert!(said.ends_with("asm/patchlet.h: there is no patchlet in it\n"), "{said}");
        let bare = program.with_file_name("bare.S");
        fs::write(&bare, "PATCHLET(twice)\n").expect("a file below CARGO_TARGET_TMPDIR");
        let (exit, said) = verify(&program, bare.to_str().expect("UTF-8"));
        assert_eq!(exit, Exit::Failed, "{said}");
        assert!(said.contains("the contract of patchlet `twice` is missing"), "{said}");
    }
}

/// Comments that are not valid contracts, and the expected messages.
const UNREADABLE: &[(&str, &str)] = &[
    ("", "is missing: put a comment with it right above PATCHLET, with no code between"),
    (
        "/* no fields */",
        "has no field `in`; the fields are in, out, clobbers, saves, flags, stack, memory, privilege and \
         CPU; saves, stack, memory and CPU may be left out",
    ),
    (
        "/* in: -   out: -   clobbers: -   flags: unchanged */",
        "has no field `privilege`; the fields are in, out, clobbers, saves, flags, stack, memory, \
         privilege and CPU; saves, stack, memory and CPU may be left out",
    ),
    (
        "/* in: -   out: -   clobber: RCX   flags: unchanged   privilege: any */",
        "has a field `clobber`, which is not known; the fields are in, out, clobbers, saves, flags, \
         stack, memory, privilege and CPU; saves, stack, memory and CPU may be left out",
    ),
    ("/* in: -   in: - */", "has the field `in` twice"),
    (
        "/* in: a pointer   out: -   clobbers: -   flags: unchanged   privilege: any */",
        "names `a pointer`, which is no register; write registers in capitals with commas between, \
         `RDI` or `EAX, EDX`, and `-` for none",
    ),
    (
        "/* in: -   out: -   clobbers: -   flags: some   privilege: any */",
        "says `some` of the flags, which is not known; known are `unchanged`, `IF = 0`, `IF = 1`, \
         `AC = 0`, `AC = 1`, `DF = 0`, `DF = 1`, `status`, `undefined`, `all` and `from …`",
    ),
    (
        "/* in: -   out: -   clobbers: -   flags: all   stack: little   privilege: any */",
        "says `little` of the stack: begin with the bytes",
    ),
    (
        "/* in: -   out: -   clobbers: -   flags: all   memory: all of it   privilege: any */",
        "says `all of it` of memory: write `reads` or `writes`, how many bytes, and the register, \
         as in `writes one byte at RDI`, `reads 8 bytes at RSI` or `reads some bytes at RSI`; \
         with commas between several",
    ),
];

#[test]
fn an_unreadable_contract_is_an_error() {
    for (comment, reason) in UNREADABLE {
        let source = format!("{comment}\nPATCHLET(strange)\n");
        let error = contract::parse(&source, Width::Bits64).expect_err(comment);
        assert_eq!((&*error.name, &*error.reason), ("strange", *reason));
    }
}
