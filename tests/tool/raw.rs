//! Tests `patchlet raw`, which finds privileged instructions that do not go through their ops, on a
//! program that gcc links and on the sample.

use std::path::Path;
use std::process::Command;

use patchlet::Width;
use patchlet::inspect::Exit;

use crate::sample::Sample;
use crate::tool::{file, folder, tool};

const WIDTHS: [Width; 2] = [Width::Bits64, Width::Bits32];

/// Links `tests/fixtures/raw.S` with the native set, and more arguments to the linker.
pub fn link(name: &str, width: Width, more: &[&str]) -> String {
    let bits = width.pointer_size() * 8;
    let slots = if width == Width::Bits64 { 15 } else { 13 };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder("raw").join(format!("{name}-{bits}"));
    let status = Command::new("gcc")
        .args([&format!("-m{bits}"), "-nostdlib", "-static", "-no-pie", "-fuse-ld=bfd"])
        .arg(format!("-DPV_OPS_SIZE={}", slots * width.pointer_size()))
        .arg("-I")
        .arg(root.join("asm"))
        .arg(root.join("tests/fixtures/raw.S"))
        .arg(root.join(format!("asm/patch_{bits}.S")))
        .args(more)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("gcc starts");
    assert!(status.success(), "gcc, {width:?}");
    program.to_str().expect("UTF-8").to_owned()
}

/// Returns the op and the function of each line.
fn lines(out: &str) -> Vec<(String, String)> {
    let rows = out.lines().filter(|line| line.starts_with("0x"));
    let words = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words
        .map(|words| {
            let function = words[words.len() - 1].split('+').next().expect("a name");
            (words[1].to_owned(), function.to_owned())
        })
        .collect()
}

#[test]
fn raw_instructions_of_a_linked_program() {
    for width in WIDTHS {
        let program = link("program", width, &[]);
        let output = tool(&["raw", &program]);
        assert_eq!((output.exit, &*output.err), (Exit::Finding, ""));
        let mut expected =
            vec![("read_cr3", "_start"), ("write_cr3", "_start"), ("read_cr2", "_start")];
        match width {
            Width::Bits64 => expected.extend([("swapgs", "_start"), ("usergs_sysret64", "_start")]),
            Width::Bits32 => expected.push(("iret", "_start")),
        }
        expected.extend([
            ("irq_disable", "idle"),
            ("safe_halt", "idle"),
            ("irq_enable", "idle"),
            ("halt", "idle"),
            ("save_fl", "flags"),
            ("restore_fl", "flags"),
            ("rdtsc", "flags"),
        ]);
        let found = lines(&output.out);
        let found: Vec<_> = found.iter().map(|(op, function)| (&**op, &**function)).collect();
        assert_eq!(found, expected, "{width:?}\n{}", output.out);
        let sum = format!("{} raw instructions in 3 functions\n", expected.len());
        assert!(output.out.contains(&sum), "{}", output.out);
        assert!(output.out.contains("     1 safe_halt\n"), "{}", output.out);

        let output = tool(&["raw", &program, "--except", "_start", "--except", "fla"]);
        assert_eq!(output.exit, Exit::Finding);
        assert!(output.out.contains("4 raw instructions in 1 function\n"), "{}", output.out);
        let all = ["raw", &program, "--except", "_start", "--except", "flags", "--except", "idle"];
        let output = tool(&all);
        assert_eq!(output.exit, Exit::Holds, "{}", output.out);
        assert!(output.out.ends_with("\n0 raw instructions\n"), "{}", output.out);

        let json = tool(&["raw", &program, "--json"]);
        assert_eq!(json.exit, Exit::Finding);
        for part in [
            "\"op\": \"safe_halt\"",
            "\"bytes\": \"fb f4\"",
            "\"instructions\": \"sti; hlt\"",
            "\"functions\": 3",
        ] {
            assert!(json.out.contains(part), "no {part} in\n{}", json.out);
        }

        // A stripped file gives the same instructions with fewer names.
        let stripped = format!("{program}-stripped");
        let status = Command::new("strip").args([&program, "-o", &stripped]).status();
        assert!(status.expect("strip starts").success());
        let ops = |out: &str| lines(out).into_iter().map(|line| line.0).collect::<Vec<_>>();
        let without_symbols = tool(&["raw", &stripped]).out;
        assert_eq!(ops(&without_symbols), ops(&tool(&["raw", &program]).out));
    }
}

/// Checks that the instructions in native functions and sites are not reported.
#[test]
fn native_functions_and_sites_are_not_raw() {
    for width in WIDTHS {
        let sample = Sample::new(width);
        for (name, sample) in [("with", sample.clone()), ("without", sample.stripped())] {
            let path = file("raw", &format!("{width:?}-{name}"), &sample.bytes());
            let output = tool(&["raw", &path]);
            assert_eq!((output.exit, lines(&output.out)), (Exit::Holds, vec![]), "{}", output.out);
            let patched = format!("{path}.patched");
            assert_eq!(tool(&["apply", &path, "-o", &patched]).exit, Exit::Holds);
            let output = tool(&["raw", &patched]);
            assert_eq!((output.exit, lines(&output.out)), (Exit::Holds, vec![]), "{}", output.out);
        }
    }
}

/// Checks that instructions which an op has as a variant are found, and shown by the op's name.
#[test]
fn instructions_of_variants_have_an_op() {
    for width in WIDTHS {
        let mut sample = Sample::new(width).with_op_records().with_variants_and_branches();
        sample.patchlet("swapped", &[0x0f, 0x01, 0xd9]);
        sample.patchlet("of_no_op", &[0x0f, 0x01, 0xc1]);
        let vmmcall = sample.address_of("patchlet_native_swapped");
        sample.variant(0, 1, "AMD", vmmcall, crate::sample::PATCHLET);
        // stac; mov $0, %eax; vmmcall; vmcall; ret
        let code = [
            &[0x0f, 0x01, 0xcb, 0xb8, 0, 0, 0, 0][..],
            &[0x0f, 0x01, 0xd9, 0x0f, 0x01, 0xc1, 0xc3],
        ];
        sample.function("by_hand", &code.concat());
        let path = file("raw", &format!("{width:?}-variants"), &sample.bytes());
        let output = tool(&["raw", &path]);
        assert_eq!(output.exit, Exit::Finding, "{}", output.out);
        let by_hand = |op: &str| (op.to_owned(), "by_hand".to_owned());
        let expected = ["time.ticks_low", "tlb.flush_page", "of_no_op"].map(by_hand);
        assert_eq!(lines(&output.out), expected, "{}", output.out);
    }
}
