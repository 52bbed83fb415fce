//! `patchlet sites` and `patchlet plan` on a Linux kernel: the sites of every table, what their records
//! say, and what they get on a CPU.

use patchlet::Width;
use patchlet::inspect::{CpuSpec, Exit, LinuxKernel, PlanCertainty, plan_linux, unpack};

use crate::kernel::{ALWAYS, Kernel, branch, relative};
use crate::sample::FUNC;
use crate::tool::{file, tool};

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

/// A feature that CPUID tells (SMAP), and one of which only the kernel knows.
const SMAP: u16 = 9 * 32 + 20;
const RETHUNK: u16 = 11 * 32 + 14;

/// A kernel with one site of nearly every table, in the function `work`.
struct Sites {
    kernel: Kernel,
    alternative: u64,
    undecided: u64,
    label: u64,
    key: u64,
    call: u64,
    lock: u64,
    returns: u64,
    tracer: u64,
    function: u64,
}

fn sites(width: Width) -> Sites {
    let mut kernel = Kernel::quiet(width);
    let thunk = kernel.code(&[0xc3]);
    kernel.sample.symbol("__x86_return_thunk", thunk, 1, FUNC, ".text");
    let fentry = kernel.function("__fentry__");
    let function = kernel.function("function");
    let key = kernel.variable("some_key", &[0; 8], &[0; 8]);
    let called = kernel.pointer("__SCK__some", function);
    let work = kernel.code(&[]);
    kernel.sample.symbol("work", work, 0, FUNC, ".text");
    let call = |kernel: &mut Kernel, opcode, target| {
        let site = kernel.code(&[0x90; 5]);
        let code = branch(opcode, site, target);
        kernel.sample.at(site)[..5].copy_from_slice(&code);
        site
    };
    let alternative = kernel.code(&[0x90; 3]);
    let undecided = kernel.code(&[0x90; 3]);
    let stac = kernel.replacement(|_| vec![0x0f, 0x01, 0xcb]);
    let label = kernel.code(&[0x0f, 0x1f, 0x44, 0, 0]);
    let lock = kernel.code(&[0xf0, 0xff, 0x00]);
    let (static_call, returns, tracer) = (
        call(&mut kernel, 0xe8, function),
        call(&mut kernel, 0xe9, thunk),
        call(&mut kernel, 0xe8, fentry),
    );
    let long = width.pointer_size() as usize;
    let alternative_record = |site: u64, feature: u16, not: u8| {
        move |at: u64| {
            let mut bytes = [relative(at, site), relative(at + 4, stac)].concat();
            bytes.extend(feature.to_le_bytes());
            bytes.extend([not, 0, 3, 3]);
            bytes
        }
    };
    kernel.table(
        ".altinstructions",
        &[&alternative_record(alternative, SMAP, 0), &alternative_record(undecided, RETHUNK, 1)],
    );
    kernel.table(
        "__jump_table",
        &[&move |at| {
            let mut bytes = [relative(at, label), relative(at + 4, label + 5)].concat();
            bytes.extend(&(key | 1).wrapping_sub(at + 8).to_le_bytes()[..long]);
            bytes
        }],
    );
    kernel.table(
        ".static_call_sites",
        &[&move |at| [relative(at, static_call), relative(at + 4, called)].concat()],
    );
    kernel.table(".smp_locks", &[&move |at| relative(at, lock)]);
    kernel.table(".return_sites", &[&move |at| relative(at, returns)]);
    kernel.table("__mcount_loc", &[&move |_| tracer.to_le_bytes()[..long].to_vec()]);
    Sites {
        kernel,
        alternative,
        undecided,
        label,
        key,
        call: static_call,
        lock,
        returns,
        tracer,
        function,
    }
}

#[test]
fn each_site_is_listed_with_what_its_record_says() {
    for width in BOTH {
        let mut of = sites(width);
        let elf = file("linux-sites", &format!("{width:?}"), &of.kernel.file_and_memory().0);
        let output = tool(&["sites", &elf]);
        assert_eq!(output.exit, Exit::Holds, "{}", output.err);
        let row = |address: u64| {
            let address = format!("{address:#x} ");
            let line = output.out.lines().find(|line| line.starts_with(&address));
            line.unwrap_or_else(|| panic!("{address}: {}", output.out)).to_owned()
        };
        for (address, words) in [
            (of.alternative, &["alternative", "smap", "replacement", "90 90 90"][..]),
            (of.undecided, &["!rethunk"]),
            // The lowest bit says that it jumps while the key is off.
            (of.label, &["jump-label", "some_key off", "work+", "nop"]),
            (of.call, &["static-call", "__SCK__some", " function ", "call"]),
            (of.lock, &["smp-lock", "number of CPUs", "f0", "lock"]),
            (of.returns, &["return", "__x86_return_thunk", "jmp"]),
            (of.tracer, &["ftrace", "__fentry__", "5  e8"]),
        ] {
            let row = row(address);
            for word in words {
                assert!(row.contains(word), "{word}: {row}");
            }
            assert!(row.contains("work+"), "{row}");
        }
        for words in ["7 sites\n", "     2 alternative\n", "     1 jump-label\n"] {
            assert!(output.out.contains(words), "{words}: {}", output.out);
        }
    }
}

#[test]
fn filters_leave_the_others_out() {
    let mut of = sites(Width::Bits64);
    let elf = file("linux-sites", "filters", &of.kernel.file_and_memory().0);
    let address = format!("{:#x}", of.key);
    for (arguments, words) in [
        (&["--table", "alternative"][..], "2 sites of 7\n"),
        (&["--table", "alternative", "--table", "smp-lock"], "3 sites of 7\n"),
        (&["--key", "some_key"], "1 site of 7\n     1 jump-label\n"),
        (&["--key", "some"], "1 site of 7\n     1 static-call\n"),
        (&["--key", &address], "1 site of 7\n     1 jump-label\n"),
        (&["--function", "or"], "7 sites\n"),
        (&["--function", "nowhere"], "0 sites of 7\n"),
        (&["--json", "--table", "return"], r#""leads_to": "__x86_return_thunk""#),
    ] {
        let output = tool(&[&["sites", &elf][..], arguments].concat());
        assert_eq!(output.exit, Exit::Holds, "{}", output.err);
        assert!(output.out.contains(words), "{arguments:?}: {}", output.out);
    }
    for (arguments, words) in [
        (&["--table", "nothing"][..], "the tables are alternative, paravirt"),
        (&["--key", "nobody"], "there is no key nobody"),
        (&["--op", "cli"], "has no ops"),
        (&["--loaded-at", "0x1000"], "--loaded-at is for"),
    ] {
        let output = tool(&[&["sites", &elf][..], arguments].concat());
        assert_eq!(output.exit, Exit::Failed, "{}", output.out);
        assert!(output.err.contains(words), "{arguments:?}: {}", output.err);
    }
    let own = crate::sample::Sample::new(Width::Bits64).bytes();
    let own = file("linux-sites", "own", &own);
    for command in ["sites", "plan"] {
        let output = tool(&[command, &own, "--table", "return"]);
        assert!(output.err.contains("Linux kernels"), "{}", output.err);
    }
}

/// A site's address, how sure its plan is, and the bytes that it gets.
type Planned = (u64, PlanCertainty, Vec<u8>);

fn planned(of: &mut Sites, cpu: &str, keys: &[(u64, bool)]) -> Vec<Planned> {
    let (file, _) = of.kernel.file_and_memory();
    let unpacked = unpack(&file).expect("an ELF file");
    let mut kernel = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
    if !cpu.is_empty() {
        let cpu = CpuSpec::model(cpu, None).expect("a model");
        kernel = kernel.on_cpu(&cpu).unwrap_or_else(|error| panic!("{error}"));
    }
    let plans = plan_linux(&kernel, keys, |_| true);
    plans.into_iter().map(|plan| (plan.address, plan.certainty, plan.after)).collect()
}

#[test]
fn a_plan_says_what_is_known_and_what_is_not() {
    use PlanCertainty::{Computed, Initial, Undecided};

    for width in BOTH {
        let mut of = sites(width);
        let nop3: &[u8] = if width == Width::Bits64 { &[0x0f, 0x1f, 0] } else { &[0x8d, 0x76, 0] };
        let nop5: &[u8] = match width {
            Width::Bits64 => &[0x0f, 0x1f, 0x44, 0, 0],
            Width::Bits32 => &[0x3e, 0x8d, 0x74, 0x26, 0],
        };
        let (stac, nothing) = (&[0x0f, 0x01, 0xcb][..], &[0x90; 3][..]);
        let has = |plans: &[Planned], address: u64, certainty, bytes: &[u8]| {
            let found = plans.iter().find(|(at, ..)| *at == address).expect("a site");
            assert_eq!((found.1, &*found.2), (certainty, bytes), "{address:#x} in {plans:x?}");
        };
        let broadwell = planned(&mut of, "Broadwell", &[]);
        has(&broadwell, of.alternative, Computed, stac);
        has(&broadwell, of.undecided, Undecided, nothing);
        has(&broadwell, of.tracer, Initial, nop5);
        has(&broadwell, of.lock, Initial, &[0xf0]);
        let call = branch(0xe8, of.call, of.function);
        has(&broadwell, of.call, Initial, &call);
        let jmp = of.kernel.sample.at(of.returns)[..5].to_vec();
        has(&broadwell, of.returns, Undecided, &jmp);
        // The key is off, and the label is for that.
        let jump = branch(0xe9, of.label, of.label + 5);
        has(&broadwell, of.label, Initial, &jump);
        // What the command line says is known.
        let keys = [(of.key, true)];
        let without = planned(&mut of, "Broadwell,-smap,-rethunk", &keys);
        has(&without, of.alternative, Computed, nop3);
        has(&without, of.undecided, Computed, stac);
        has(&without, of.returns, Computed, &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc]);
        has(&without, of.label, Computed, nop5);
        let with = planned(&mut of, "Broadwell,+rethunk", &[]);
        has(&with, of.undecided, Computed, nop3);
        has(&with, of.returns, Initial, &jmp);
        // An older CPU, and none.
        let haswell = planned(&mut of, "Haswell", &[]);
        has(&haswell, of.alternative, Computed, nop3);
        has(&planned(&mut of, "", &[]), of.alternative, Undecided, nothing);
    }
}

/// A call through `pv_ops` gets the function that is there at first, by either kind of record.
/// What a site gets without a dump that shows it follows from the kernel's version.
#[test]
fn a_plan_is_that_of_the_version() {
    let plan = |version: &str| {
        let mut kernel = Kernel::new(Width::Bits64);
        let release = &mut kernel.sample.section_mut(".rodata").data;
        let at = release.windows(5).position(|bytes| bytes == b"6.6.6").expect("the release");
        release.splice(at..at + 5, version.bytes());
        let thunk = kernel.function("__x86_indirect_thunk_rax");
        let call = kernel.code(&[0xe8, 0, 0, 0, 0]);
        let code = branch(0xe8, call, thunk);
        kernel.sample.at(call)[..5].copy_from_slice(&code);
        let endbr = kernel.code(&[0xf3, 0x0f, 0x1e, 0xfa]);
        kernel.table(".retpoline_sites", &[&|at| relative(at, call)]);
        kernel.table(".ibt_endbr_seal", &[&|at| relative(at, endbr)]);
        let (elf, _) = kernel.file_and_memory();
        let unpacked = unpack(&elf).expect("ELF");
        let spec = CpuSpec::model("Haswell,-retpoline,-retpoline_lfence", Some(Width::Bits64));
        let spec = spec.expect("features");
        let kernel = LinuxKernel::new(&unpacked).expect("a kernel").on_cpu(&spec).expect("known");
        let plans = plan_linux(&kernel, &[], |_| true);
        [call, endbr].map(|site| {
            plans.iter().find(|plan| plan.address == site).expect("it changes").after.clone()
        })
    };
    for version in ["6.6.6", "6.17.13", "5.19"] {
        assert_eq!(plan(version), [vec![0xff, 0xd0, 0x0f, 0x1f, 0], vec![0x66, 0x0f, 0x1f, 0]]);
    }
    for version in ["6.18.0", "7.2.13"] {
        assert_eq!(
            plan(version),
            [vec![0x2e, 0x2e, 0x2e, 0xff, 0xd0], vec![0x0f, 0x1f, 0x40, 0xd6]]
        );
    }
}

#[test]
fn calls_through_pv_ops_get_the_first_function() {
    for width in BOTH {
        let mut kernel = Kernel::quiet(width);
        let function = kernel.function("native");
        let slot = kernel.pointer("pv_ops", function);
        let long = width.pointer_size() as usize;
        let site = kernel.code(&[0x90; 6]);
        let code = kernel.sample.indirect(site, slot, 0);
        kernel.sample.at(site)[..6].copy_from_slice(&code);
        kernel.table(
            ".parainstructions",
            &[&move |_| {
                let mut bytes = site.to_le_bytes()[..long].to_vec();
                bytes.extend([0, 6]);
                bytes.resize(2 * long, 0);
                bytes
            }],
        );
        let direct = kernel.code(&[0x90; 6]);
        let code = kernel.sample.indirect(direct, slot, 0);
        kernel.sample.at(direct)[..6].copy_from_slice(&code);
        let replacement = kernel.replacement(|at| branch(0xe8, at, function));
        kernel.table(
            ".altinstructions",
            &[&move |at| {
                let mut bytes = [relative(at, direct), relative(at + 4, replacement)].concat();
                bytes.extend(ALWAYS.to_le_bytes());
                bytes.extend([2, 0, 6, 5]);
                bytes
            }],
        );
        let (file, _) = kernel.file_and_memory();
        let unpacked = unpack(&file).expect("an ELF file");
        let kernel = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
        for plan in plan_linux(&kernel, &[], |_| true) {
            let call = branch(0xe8, plan.address, function);
            assert_eq!(plan.after[..5], call, "{plan:x?}");
            assert_eq!(plan.certainty, PlanCertainty::Initial);
            assert_eq!(plan.why, "pv_ops has native at first");
        }
    }
}

#[test]
fn the_command_prints_plans() {
    for width in BOTH {
        let mut of = sites(width);
        let elf = file("linux-plan", &format!("{width:?}"), &of.kernel.file_and_memory().0);
        let output = tool(&["plan", &elf, "--cpu", "Broadwell"]);
        assert_eq!(output.exit, Exit::Holds, "{}", output.err);
        for words in [
            "alternative → computed (smap)  work+",
            "  + 0f 01 cb  stac",
            "alternative → undecided (rethunk is not known)",
            "  ? 0f 01 cb  stac (!rethunk)",
            "jump-label → initial (some_key is off at first)",
            "7 sites, 3 would change",
        ] {
            assert!(output.out.contains(words), "{words}: {}", output.out);
        }
        // What stays as it is, is only counted.
        assert!(!output.out.contains("smp-lock →"), "{}", output.out);
        for (arguments, words) in [
            (&["--table", "return", "--cpu", "Broadwell,-rethunk"][..], "1 site, 1 would change"),
            (&["--key", "some_key=on", "--table", "jump-label"], "jump-label  computed"),
            (&["--function", "nowhere"], "0 sites, 0 would change"),
            (&["--json", "--cpu", "Broadwell"], r#""certainty": "undecided""#),
        ] {
            let output = tool(&[&["plan", &elf][..], arguments].concat());
            assert_eq!(output.exit, Exit::Holds, "{}", output.err);
            assert!(output.out.contains(words), "{arguments:?}: {}", output.out);
        }
        for (arguments, words) in [
            (&["--cpu", "Broadwell,+nothing"][..], "`nothing` is no feature"),
            (&["--key", "some_key"], "is no state of a key"),
            (&["--key", "nobody=on"], "there is no key nobody"),
            (&["--platform", "cli=nop"], "for kernels with this crate"),
        ] {
            let output = tool(&[&["plan", &elf][..], arguments].concat());
            assert_eq!(output.exit, Exit::Failed, "{}", output.out);
            assert!(output.err.contains(words), "{arguments:?}: {}", output.err);
        }
    }
}
