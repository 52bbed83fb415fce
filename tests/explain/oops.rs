//! `patchlet explain --oops`: the code that a kernel prints, at every form of table and with every
//! byte changed; the places where it was; and logs that are damaged or of something else.

use std::io::Write;
use std::process::{Command, Stdio};

use patchlet::Width;
use patchlet::inspect::Exit;
use patchlet::inspect::{
    ExplainedLog, LineSign, LinuxKernel, SlideFrom, Verdict, explain_oopses, unpack,
};

use crate::kernel::{Kernel, SLIDE, branch, relative};
use crate::sample::{FUNC, Sample};
use crate::tool::{file, tool};

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

/// How many bytes a kernel prints in front of the address, and from it on.
const BEFORE: u64 = 42;
const BEHIND: u64 = 22;

/// Returns the line with the bytes of memory around an address of the file.
fn code_line(kernel: &Kernel, memory: &[u8], address: u64) -> String {
    let at = (address - kernel.base) as usize;
    let bytes = &memory[at - BEFORE as usize..at + BEHIND as usize];
    let words = bytes.iter().enumerate().map(|(at, byte)| match at as u64 {
        BEFORE => format!("<{byte:02x}>"),
        _ => format!("{byte:02x}"),
    });
    format!("[    1.234567] Code: {}\n", words.collect::<Vec<_>>().join(" "))
}

/// Returns the log of an oops at an address of the file: without the function's name, and with the
/// distance that the kernel was moved.
pub fn log(kernel: &Kernel, memory: &[u8], address: u64) -> String {
    let running = address.wrapping_add(SLIDE);
    let (pointer, offset) = match kernel.sample.width {
        Width::Bits64 => (format!("RIP: 0010:[<{running:016x}>]"), SLIDE),
        Width::Bits32 => (format!("EIP: 0060:[<{running:08x}>]"), SLIDE),
    };
    let code = code_line(kernel, memory, address);
    format!("[    1.234567] {pointer}\n{code}[    1.234567] Kernel Offset: {offset:#x} from 0x0\n")
}

fn explain(file: &[u8], log: &str) -> Result<ExplainedLog, String> {
    let unpacked = unpack(file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
    explain_oopses(&linux, log.as_bytes()).map_err(|error| error.to_string())
}

/// Returns the differences of the only oops of a log: address, length and verdict.
fn differences(file: &[u8], log: &str) -> Vec<(u64, usize, Verdict)> {
    let explained = explain(file, log).unwrap_or_else(|error| panic!("{error}\n{log}"));
    let compared = explained.oopses[0].outcome.as_ref().expect("compared");
    let list = compared.differences.iter();
    list.map(|of| (of.address_in_file, of.seen.len(), of.verdict)).collect()
}

/// Checks for each site of a kernel that has another form in memory than in the file that an oops
/// there is explained, and that it is not when a byte of the site is another. Every test of a table
/// asks for it.
pub fn check(kernel: &Kernel, file: &[u8], memory: &[u8]) {
    let mut memory = memory.to_vec();
    let section = kernel.sample.section(".text");
    // An oops needs some text around it.
    let text = section.address + BEFORE..kernel.sample.here() - BEHIND - 16;
    let differs = |address: u64, bytes: &[u8]| {
        !section.data[(address - section.address) as usize..].starts_with(bytes)
    };
    let sites = kernel.patched.iter().filter(|(address, _)| text.contains(address));
    let sites = sites.filter(|(address, bytes)| differs(**address, bytes));
    for (&site, bytes) in sites {
        let found = differences(file, &log(kernel, &memory, site));
        assert!(
            found.iter().any(|&(at, len, verdict)| {
                (at..at + len as u64).contains(&site) && verdict == Verdict::Allowed
            }),
            "{site:#x} {bytes:02x?}: {found:x?}"
        );
        assert!(found.iter().all(|(.., verdict)| *verdict == Verdict::Allowed), "{found:x?}");
        // A constant that is set at boot can be any, and so can the seed of hashes.
        let is_any = |name: &str| name.starts_with("runtime_") || name == ".cfi_sites";
        if kernel.sample.sections.iter().any(|section| is_any(section.name)) {
            continue;
        }
        for at in 0..bytes.len() as u64 {
            let place = (site + at - kernel.base) as usize;
            memory[place] ^= 0x40;
            let found = differences(file, &log(kernel, &memory, site));
            memory[place] ^= 0x40;
            assert!(
                found.iter().any(|&(from, len, verdict)| {
                    (from..from + len as u64).contains(&(site + at))
                        && verdict == Verdict::Unexplained
                }),
                "byte {at} of {site:#x} {bytes:02x?}: {found:x?}"
            );
        }
    }
}

/// A kernel with a function `work`, in which there is a jump label that jumps in memory; returned are
/// the address of the function and of the site.
fn small(width: Width) -> (Kernel, u64, u64) {
    let mut kernel = Kernel::new(width);
    let key = kernel.variable("key", &[0; 8], &[1, 0, 0, 0, 0, 0, 0, 0]);
    kernel.filler(64);
    let start = kernel.code(&[0x55; 8]);
    let site = kernel.sample.here();
    kernel.sample.code(&[0x0f, 0x1f, 0x44, 0, 0, 0x31, 0xc0, 0x90, 0x90, 0xc3]);
    kernel.sample.symbol("work", start, 18, FUNC, ".text");
    let target = site + 7;
    kernel.patched.insert(site, branch(0xe9, site, target));
    let long = width.pointer_size() as usize;
    kernel.table(
        "__jump_table",
        &[&move |at| {
            let mut record = [relative(at, site), relative(at + 4, target)].concat();
            record.extend(&key.wrapping_sub(at + 8).to_le_bytes()[..long]);
            record
        }],
    );
    kernel.filler(64);
    (kernel, start, site)
}

#[test]
fn the_function_and_its_distance_say_where_it_was() {
    for width in BOTH {
        let (mut kernel, start, site) = small(width);
        let (elf, memory) = kernel.file_and_memory();
        let register = if width == Width::Bits64 { "RIP: 0010:" } else { "EIP: " };
        let code = code_line(&kernel, &memory, site);
        let oops = format!("{register}work+0x8/0x12\n{code}");
        let explained = explain(&elf, &oops).expect("an oops");
        let compared = explained.oopses[0].outcome.as_ref().expect("compared");
        assert_eq!(compared.address_in_file, site);
        assert_eq!(explained.oopses[0].place, "work+0x8/0x12");
        assert_eq!((compared.bytes, compared.is_other_file), ((64, 64), false));
        let [of] = &compared.differences[..] else { panic!("{:#x?}", compared.differences) };
        assert_eq!((of.address_in_file, of.verdict), (site, Verdict::Allowed));
        assert_eq!((&*of.cause, &*of.depends, &*of.words), ("jump-label", "key on", "key on"));
        assert_eq!(of.file, [0x0f, 0x1f, 0x44, 0, 0]);
        // The listing has both, with the failing one marked, in step from the function's start on.
        let lines = &compared.lines;
        let at = lines.iter().position(|line| line.sign == LineSign::File).expect("the file's");
        assert_eq!(lines[at].instruction, "nopl (%rax,%rax)".replace("%r", register_letter(width)));
        assert_eq!(lines[at + 1].sign, LineSign::Log);
        assert!(lines[at + 1].instruction.starts_with("jmp "), "{:?}", lines[at + 1]);
        assert!(lines[at + 1].is_failing && lines[at + 1].address_in_file == site);
        let before = lines.iter().find(|line| line.address_in_file == start).expect("its start");
        assert!(before.instruction.starts_with("push"), "{before:?}");
        // Two functions of one name are told apart by their size, and by their bytes.
        kernel.sample.symbol("work", start + 60, 3, FUNC, ".text");
        let (elf, _) = kernel.file_and_memory();
        let explained = explain(&elf, &oops).expect("an oops");
        let compared = explained.oopses[0].outcome.as_ref().expect("compared");
        assert_eq!(compared.address_in_file, site);
    }
}

fn register_letter(width: Width) -> &'static str {
    if width == Width::Bits64 { "%r" } else { "%e" }
}

#[test]
fn addresses_that_moved_are_told_by_how_far() {
    for width in BOTH {
        let (mut kernel, ..) = small(width);
        // mov $work, %eax
        let work = kernel.sample.address_of("work") as u32;
        let mov = |slide: u32| [&[0xb8][..], &work.wrapping_add(slide).to_le_bytes()].concat();
        let site = kernel.site(&mov(0), &mov(SLIDE as u32));
        kernel.sample.symbol("moves", site, 5, FUNC, ".text");
        kernel.filler(64);
        let (elf, memory) = kernel.file_and_memory();
        let code = code_line(&kernel, &memory, site);
        let offset = format!("Kernel Offset: {SLIDE:#x} from 0xffffffff81000000\n");
        let address = format!("EIP: 0060:[<{:x}>]", site.wrapping_add(SLIDE));
        for (log, from, verdict) in [
            (format!("EIP: moves+0x0/0x5\n{code}{offset}"), SlideFrom::Log, Verdict::Proven),
            (format!("{address} moves+0x0/0x5\n{code}"), SlideFrom::Address, Verdict::Proven),
            (format!("EIP: moves+0x0/0x5\n{code}"), SlideFrom::Bytes, Verdict::Allowed),
        ] {
            let explained = explain(&elf, &log).expect("an oops");
            let compared = explained.oopses[0].outcome.as_ref().expect("compared");
            let slide = compared.slide.expect("a slide");
            assert_eq!((slide.distance, slide.from), (SLIDE, from), "{log}");
            let [of] = &compared.differences[..] else { panic!("{:#x?}", compared.differences) };
            assert_eq!((&*of.cause, of.verdict), ("moved-address", verdict));
        }
        // Another distance than the log says is not explained.
        let log = format!("EIP: moves+0x0/0x5\n{code}Kernel Offset: 0x200000 from 0x0\n");
        let found = differences(&elf, &log);
        assert!(found.iter().all(|(.., verdict)| *verdict == Verdict::Unexplained), "{found:x?}");
        assert!(!found.is_empty());
    }
}

#[test]
fn int3_is_a_probe_or_a_site_that_is_being_patched() {
    for width in BOTH {
        let (mut kernel, _, site) = small(width);
        let (elf, mut memory) = kernel.file_and_memory();
        for address in [site, site + 5] {
            let place = (address - kernel.base) as usize;
            let before = std::mem::replace(&mut memory[place], 0xcc);
            let explained = explain(&elf, &log(&kernel, &memory, site)).expect("an oops");
            memory[place] = before;
            let compared = explained.oopses[0].outcome.as_ref().expect("compared");
            let of = compared.differences.iter().find(|of| of.words.contains("INT3"));
            let of = of.unwrap_or_else(|| panic!("{:#x?}", compared.differences));
            assert_eq!((of.verdict, of.address_in_file), (Verdict::Allowed, address));
        }
    }
}

/// A byte that was damaged on its way is not compared, and what is behind it is.
#[test]
fn lost_bytes_are_left_out() {
    let (mut kernel, _, site) = small(Width::Bits64);
    let (elf, memory) = kernel.file_and_memory();
    let log = log(&kernel, &memory, site);
    let lost = log.replace("<e9> 02", "<e9> 0\u{fffd}");
    assert_ne!(log, lost);
    let explained = explain(&elf, &lost).expect("an oops");
    let compared = explained.oopses[0].outcome.as_ref().expect("compared");
    assert_eq!(compared.bytes, (64, 63));
    assert_eq!(explained.count(Verdict::Unexplained), 0);
    // The same with a byte behind it that is wrong.
    let wrong = lost.replace("0\u{fffd} 00", "0\u{fffd} 01");
    assert_ne!(lost, wrong);
    assert_eq!(explain(&elf, &wrong).expect("an oops").count(Verdict::Unexplained), 1);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let (mut kernel, _, site) = small(Width::Bits64);
    let (elf, memory) = kernel.file_and_memory();
    let code = code_line(&kernel, &memory, site);
    for (log, part) in [
        ("nothing\n".to_owned(), "no oops in it"),
        (format!("RIP: 0010:work+0x8/0x12\n{}", "Code: 00 11 22\n"), "marks the one"),
        (format!("RIP: 0010:nobody+0x8/0x12\n{code}"), "nobody: the file has no such name"),
        (format!("RIP: 0010:work+0x8/0x12 [kvm]\n{code}"), "in module kvm"),
        (format!("RIP: 0033:0x7f0011223344\n{code}"), "in a program"),
        (format!("RIP: 0010:work+0x8000000/0x12\n{code}"), "not all in text"),
        (format!("RIP: 0010:0x1234\n{code}"), "not in text"),
        (code.clone(), "no line in front of it"),
    ] {
        let error = explain(&elf, &log).expect_err(part);
        assert!(error.contains(part), "{part}: {error}");
    }
    // One that can be compared is compared, beside one that cannot.
    let log = format!("RIP: 0010:nobody+0x8/0x12\n{code}RIP: 0010:work+0x8/0x12\n{code}");
    let explained = explain(&elf, &log).expect("oopses");
    let compared: Vec<bool> = explained.oopses.iter().map(|of| of.outcome.is_ok()).collect();
    assert_eq!(compared, [false, true]);
    // Another build's file.
    let other: String = (0..64).map(|at| format!("{:02x} ", 0x40 ^ (at * 7))).collect();
    let log = format!("RIP: 0010:work+0x8/0x12\nCode: <9c> {other}\n");
    let explained = explain(&elf, &log).expect("an oops");
    assert!(explained.oopses[0].outcome.as_ref().expect("compared").is_other_file);
}

#[test]
fn the_command_prints_code_and_verdicts() {
    for width in BOTH {
        let (mut kernel, _, site) = small(width);
        let (elf, mut memory) = kernel.file_and_memory();
        let elf = file("oops", &format!("{width:?}"), &elf);
        let good = log(&kernel, &memory, site);
        let path = file("oops", "good", good.as_bytes());
        let output = tool(&["explain", &elf, "--oops", &path]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        for part in [
            "Linux 6.6.6-test",
            "moved by 0x1e00000 (the log says so); 64 bytes",
            "allowed: jump-label (key on) at work+0x8: key on",
            "1 oops: 0 proven, 1 allowed: nothing unexplained",
        ] {
            assert!(output.out.contains(part), "{part}: {}", output.out);
        }
        let json = tool(&["explain", &elf, "--oops", &path, "--json"]);
        for part in [r#""verdict": "allowed""#, r#""condition": "key off""#, r#""sign": "log""#] {
            assert!(json.out.contains(part), "{part}: {}", json.out);
        }
        memory[(site - kernel.base) as usize + 1] ^= 1;
        let path = file("oops", "bad", log(&kernel, &memory, site).as_bytes());
        let output = tool(&["explain", &elf, "--oops", &path]);
        assert_eq!(output.exit, Exit::Finding);
        for part in ["none of the forms", "can be e9 02 00 00 00  key on", "1 range unexplained"] {
            assert!(output.out.contains(part), "{part}: {}", output.out);
        }
        // Standard input.
        let mut child = Command::new(env!("CARGO_BIN_EXE_patchlet"))
            .args(["explain", &elf, "--oops", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        child.stdin.take().expect("a pipe").write_all(good.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("nothing unexplained"));
        // The release of another kernel.
        let other = format!("CPU: 0 PID: 1 Comm: init Not tainted 5.4.3-other #1\n{good}");
        let path = file("oops", "other", other.as_bytes());
        let output = tool(&["explain", &elf, "--oops", &path]);
        assert!(output.out.contains("the log is of Linux 5.4.3-other"), "{}", output.out);
    }
    let own = file("oops", "own", &Sample::new(Width::Bits64).bytes());
    let output = tool(&["explain", &own, "--oops", "/dev/null"]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("reads the logs of Linux"), "{}", output.err);
    let output = tool(&["explain", &own]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("--memory"), "{}", output.err);
}
