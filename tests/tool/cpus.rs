//! Tests `plan --cpu` and `apply --cpu`: models, dumps, features that are switched on and off, and
//! which variants are selected then.

use std::fs;

use patchlet::Width;
use patchlet::inspect::{CpuSpec, Exit, Model, parse};

use crate::sample::{FUNCTION, PATCHLET, Sample};
use crate::tool::{Output, file, findings, tool};

const WIDTHS: [Width; 2] = [Width::Bits64, Width::Bits32];

fn sample(width: Width) -> Sample {
    Sample::new(width).with_op_records().with_variants_and_branches()
}

fn plan(path: &str, arguments: &[&str]) -> Output {
    tool(&[&["plan", path], arguments].concat())
}

/// Returns what the site of `time.ticks_low` gets, and for which condition, as the heading says.
fn ticks(output: &Output) -> String {
    assert_eq!(output.exit, Exit::Holds, "{}", output.err);
    let line = output.out.lines().find(|line| line.contains("time.ticks_low")).expect("its line");
    let (_, gets) = line.split_once(" → ").expect("what it gets");
    gets.rsplit_once("  ").expect("its function").0.to_owned()
}

/// Checks that the last eligible variant is selected, by facts that the manuals say of each CPU: ERMS
/// came with Ivy Bridge, SMAP with Broadwell, FSRM with Ice Lake (the first version of QEMU's model
/// lacks it) and with Zen 3.
#[test]
fn the_last_eligible_variant_is_selected() {
    for width in WIDTHS {
        let path = file("cpu", &format!("{width:?}"), &sample(width).bytes());
        for (cpu, gets) in [
            ("486", "call"),
            ("pentium3", "call"),
            ("qemu64", "call"),
            ("SandyBridge", "call"),
            ("IvyBridge", "patchlet (ERMS !BROKEN)"),
            ("haswell", "patchlet (ERMS !BROKEN)"),
            ("Haswell,-erms", "call"),
            ("Haswell,+broken", "call"),
            ("Haswell,+BROKEN,-broken", "patchlet (ERMS !BROKEN)"),
            ("Haswell,erms=off", "call"),
            ("Haswell,erms=off,smap=on", "patchlet (SMAP_ENABLED)"),
            ("Broadwell,+broken", "patchlet (SMAP_ENABLED)"),
            ("Broadwell,+broken,-smap", "call"),
            ("Broadwell,+broken,-SMAP_ENABLED", "call"),
            ("Broadwell,-erms,smap-enabled=off", "call"),
            ("Icelake-Server-v4", "call (FSRM)"),
            ("Icelake-Server", "patchlet (ERMS !BROKEN)"),
            ("Icelake-Server-v4,-fsrm", "patchlet (ERMS !BROKEN)"),
            ("EPYC-Milan", "call (FSRM)"),
            ("EPYC", "patchlet (SMAP_ENABLED)"),
        ] {
            let output = plan(&path, &["--cpu", cpu]);
            assert_eq!(ticks(&output), gets, "{width:?} {cpu}");
            let name = cpu.split(',').next().expect("a name");
            let line = format!("{name}: of the features in conditions it has ");
            assert!(output.out.starts_with(&line), "{}", output.out);
        }
        // `flush_page` has nothing to do on AMD, and its default elsewhere.
        for (cpu, gets) in
            [("EPYC", "nothing (AMD)"), ("Haswell", "patchlet"), ("Haswell,+amd", "nothing (AMD)")]
        {
            let out = plan(&path, &["--cpu", cpu]).out;
            assert!(out.contains(&format!("tlb.flush_page → {gets}  ")), "{cpu}: {out}");
        }
    }
}

/// Checks that a platform has the last word about its slots, as a hypervisor's layer has.
#[test]
fn a_platform_counts_more_than_a_cpu() {
    let path = file("cpu-platform", "kernel", &sample(Width::Bits64).bytes());
    let both = plan(&path, &["--cpu", "IvyBridge", "--platform", "ticks_low=null,save_fl=nop"]);
    assert_eq!(ticks(&both), "trap");
    assert!(both.out.contains("pv.save_fl → nothing  "), "{}", both.out);
    assert!(both.out.contains("tlb.flush_page → patchlet  "), "{}", both.out);
    // Without a CPU, no variant is selected.
    assert_eq!(ticks(&plan(&path, &[])), "call");
}

/// Checks that what `ops!` was told counts, and not only the address: `function` is called also if its
/// instructions are those of a patchlet, and `nothing` is known without symbols.
#[test]
fn a_variant_is_what_its_record_says() {
    for width in WIDTHS {
        for (means, gets) in [(FUNCTION, "call (FSRM)"), (PATCHLET, "patchlet (FSRM)")] {
            let mut sample = sample(width);
            let halt = sample.address_of("patchlet_native_halt");
            sample.variant(1, 3, "FSRM", halt, means);
            let path = file("cpu-means", &format!("{width:?}"), &sample.bytes());
            assert_eq!(ticks(&plan(&path, &["--cpu", "EPYC-Milan"])), gets);
        }
        // The same of what an op is natively: its slot holds the native function of `invlpg`.
        let mut sample = sample(width);
        let stripped = file("cpu-means", "stripped", &sample.clone().stripped().bytes());
        let out = plan(&stripped, &["--cpu", "EPYC"]).out;
        assert!(out.contains("tlb.flush_page → nothing (AMD)  "), "{out}");
        let out = plan(&stripped, &["--cpu", "Haswell"]).out;
        assert!(out.contains("tlb.flush_page → patchlet  "), "{out}");
        sample.op_record(crate::sample::builtin(width).len())[10] |= FUNCTION << 5;
        let path = file("cpu-means", "function", &sample.bytes());
        let out = plan(&path, &["--cpu", "Haswell"]).out;
        assert!(out.contains("tlb.flush_page → call  "), "{out}");
        assert_eq!(findings(&sample.bytes()), []);
    }
}

/// Checks `--accel tcg`, and the names that mean no model.
#[test]
fn what_an_emulation_lacks_is_left_out() {
    let path = file("cpu-tcg", "kernel", &sample(Width::Bits64).bytes());
    // QEMU's emulation has ERMS and SMAP, and not FSRM.
    let tcg = |cpu: &str| plan(&path, &["--cpu", cpu, "--accel", "tcg"]);
    assert_eq!(ticks(&tcg("max")), "patchlet (ERMS !BROKEN)");
    assert_eq!(ticks(&tcg("max,-erms")), "patchlet (SMAP_ENABLED)");
    assert_eq!(ticks(&tcg("Icelake-Server-v4")), "patchlet (ERMS !BROKEN)");
    assert_eq!(ticks(&tcg("SandyBridge")), "call");
    // The vendor is that of the model.
    assert!(tcg("Haswell").out.contains("tlb.flush_page → patchlet  "));
    assert!(tcg("EPYC").out.contains("tlb.flush_page → nothing (AMD)  "));
    for (arguments, why) in [
        (&["--cpu", "max"][..], "`max` is what one machine has: say `--accel tcg`"),
        (&["--cpu", "host", "--accel", "tcg"], "`host` is what one machine has"),
        (&["--cpu", "tcg"], "no CPU model is called `tcg`"),
        (&["--accel", "tcg"], "--cpu"),
        (&["--cpu", "haswel"], "`haswel`; did you mean Haswell, Haswell-v1, Haswell-v2?"),
        (&["--cpu", ""], "no CPU model is called ``"),
        (&["--cpu", "Haswell,erms"], "`erms` behind the CPU is neither `+name` nor `-name`"),
        (&["--cpu", "Haswell,+smep_enbled"], "`smep_enbled` is no feature"),
        (
            &["--cpu", "Haswell,+brokn"],
            "`brokn` is no feature that is known here, and stands in no condition of the file; did you mean BROKEN?",
        ),
        (&["--cpu", "@/nowhere"], "/nowhere: cannot read it"),
    ] {
        let output = plan(&path, arguments);
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{arguments:?}");
        assert!(output.err.contains(why), "{arguments:?}: {}", output.err);
    }
}

/// A dump of two CPUs, of which the second has no ERMS.
const DUMP: &str = "\
CPU 0:
   0x00000000 0x00: eax=0x00000016 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
   0x00000001 0x00: eax=0x000306c3 ebx=0x00100800 ecx=0x7ffafbff edx=0xbfebfbff
   0x00000007 0x00: eax=0x00000000 ebx=0x00100200 ecx=0x00000000 edx=0x00000010
CPU 1:
   0x00000000 0x00: eax=0x00000016 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69
   0x00000007 0x00: eax=0x00000000 ebx=0x00100000 ecx=0x00000000 edx=0x00000000
";

#[test]
fn a_dump_says_what_all_of_its_cpus_have() {
    let path = file("cpu-dump", "kernel", &sample(Width::Bits64).bytes());
    let dump = file("cpu-dump", "both", DUMP.as_bytes());
    let first = DUMP.split("CPU 1:").next().expect("the first CPU");
    let first = file("cpu-dump", "first", first.as_bytes());
    assert_eq!(ticks(&plan(&path, &["--cpu", &format!("@{first}")])), "call (FSRM)");
    assert_eq!(
        ticks(&plan(&path, &["--cpu", &format!("@{first},-fsrm")])),
        "patchlet (ERMS !BROKEN)"
    );
    let both = plan(&path, &["--cpu", &format!("@{dump}")]);
    assert_eq!(ticks(&both), "patchlet (SMAP_ENABLED)");
    assert!(both.out.contains("it has SMAP_ENABLED, and lacks AMD BROKEN ERMS FSRM\n"));
    for (text, why) in [
        ("", "there is no leaf of CPUID in it"),
        ("CPU 0:\n", "there is no leaf of CPUID in it"),
        ("CPU 0:\n0x7 0x0: eax=0x0 ebx=0x0 ecx=0x0\n", "line 2 is none of `cpuid -r`"),
        ("0x7 0x0: ebx=0x0 eax=0x0 ecx=0x0 edx=0x0\n", "line 1 is none of `cpuid -r`"),
        ("0x7: eax=0x0 ebx=0x0 ecx=0x0 edx=0x0\n", "line 1 is none of `cpuid -r`"),
        ("vendor_id = \"GenuineIntel\"\n", "line 1 is none of `cpuid -r`"),
    ] {
        let dump = file("cpu-dump", "bad", text.as_bytes());
        let output = plan(&path, &["--cpu", &format!("@{dump}")]);
        assert_eq!((output.exit, &*output.out), (Exit::Failed, ""), "{text}");
        assert!(output.err.contains(why), "{text}: {}", output.err);
        let output = plan(&path, &["--cpu", &format!("@{dump}"), "--accel", "tcg"]);
        assert!(output.err.contains("--accel is for models"), "{}", output.err);
    }
}

/// Checks what follows for state that an operating system switches on: XSAVE and its components.
#[test]
fn what_an_operating_system_switches_on_follows_from_the_cpu() {
    let mut sample = sample(Width::Bits64);
    let tick = sample.address_of("tick");
    for (place, name) in
        (3..).zip(["OSXSAVE", "XCR0_X87", "XCR0_AVX", "XSAVEOPT", "FSGSBASE_ENABLED", "HYPERVISOR"])
    {
        sample.variant(1, place, name, tick, FUNCTION);
    }
    let bytes = sample.bytes();
    let model = Model::new(parse(&bytes).expect("ELF")).expect("linked");
    let has = |cpu: &str, name: &str| {
        let cpu = CpuSpec::model(cpu, None).expect(cpu);
        cpu.features(model.variants()).expect("known names").has(name)
    };
    for (cpu, name, expected) in [
        ("Haswell", "OSXSAVE", true),
        ("Haswell", "XCR0_X87", true),
        ("Haswell", "XCR0_AVX", true),
        ("Haswell", "XSAVEOPT", true),
        ("Haswell", "FSGSBASE_ENABLED", true),
        ("Haswell,-xsave", "OSXSAVE", false),
        ("Haswell,-xsave", "XCR0_X87", false),
        ("Haswell,-xsave", "XSAVEOPT", false),
        ("Haswell,-osxsave", "OSXSAVE", false),
        ("Haswell,-osxsave", "XSAVEOPT", true),
        ("Haswell,-fsgsbase", "FSGSBASE_ENABLED", false),
        ("Haswell,-xcr0_avx", "XCR0_AVX", false),
        ("Nehalem", "OSXSAVE", false),
        ("Nehalem", "XCR0_X87", false),
        ("Nehalem,+fsgsbase_enabled", "FSGSBASE_ENABLED", true),
        ("Haswell", "TCG", false),
        ("Haswell", "HYPERVISOR", true),
        ("Haswell,-hypervisor", "HYPERVISOR", false),
        ("Haswell", "BROKEN", false),
        ("Haswell", "NO_NAME_AT_ALL", false),
    ] {
        assert_eq!(has(cpu, name), expected, "{cpu} {name}");
    }
    // QEMU's emulation says that it is one, unless it hides that the CPU is virtual.
    for (cpu, expected) in [("Haswell", true), ("max", true), ("max,-tcg", false)] {
        let cpu = CpuSpec::model(cpu, Some(Width::Bits64)).expect(cpu);
        let features = cpu.features(model.variants()).expect("known names");
        assert_eq!(features.has("TCG"), expected);
    }
}

/// Checks that a file that is patched for a CPU is verified and reverted without saying for which,
/// and that its slots are what they were.
#[test]
fn a_file_is_patched_for_a_cpu() {
    for width in WIDTHS {
        let sample = sample(width);
        let path = file("cpu-apply", &format!("{width:?}"), &sample.bytes());
        let (out, back) = (format!("{path}.patched"), format!("{path}.back"));
        let output = tool(&["apply", &path, "-o", &out, "--cpu", "Broadwell"]);
        assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
        let patched = fs::read(&out).expect("it was written");
        let mut native = sample.clone();
        let site = sample.sites[3].1;
        // rep movsb, and a NOP of four bytes.
        native.at(site)[..6].copy_from_slice(&[0xf3, 0xa4, 0x0f, 0x1f, 0x40, 0x00]);
        let data = native.bytes();
        let differs = |&at: &usize| patched[at] != data[at];
        let section = |name: &str| sample.section(name).data.clone();
        let slots = section(".data");
        assert!(patched.windows(slots.len()).any(|bytes| bytes == slots), "slots changed");
        // Only the five other sites differ from that.
        let others = [9, 6, 16, 6, 6].iter().sum::<usize>();
        assert!((0..data.len()).filter(differs).count() <= others);
        assert_eq!(findings(&patched), [], "{width:?}");

        let states = tool(&["sites", &out]).out;
        assert!(states.contains("6 sites: 0 indirect, 5 native, 1 variant, 0 foreign"), "{states}");
        let output = tool(&["apply", "--revert", &out, "-o", &back]);
        assert_eq!(output.exit, Exit::Holds, "{}", output.out);
        assert!(fs::read(&back).expect("it was written") == sample.bytes());
        // Patched again, for another CPU.
        let output = tool(&["apply", &out, "-o", &back, "--cpu", "Icelake-Server-v4"]);
        assert!(output.out.contains("6 sites, 1 patched"), "{}", output.out);
        let output = tool(&["apply", &out, "-o", &back, "--revert", "--cpu", "Broadwell"]);
        assert_eq!(output.exit, Exit::Failed);
    }
}

/// Checks that `--contracts` compares the patchlets of variants with their ops, too: with the class
/// of the op, of which `extern_c` allows what a C function may change.
#[test]
fn contracts_of_variants_are_compared_with_their_ops() {
    const CONTRACTS: &str = "\
/* in: -   out: -   clobbers: RCX (32-bit: ECX)   flags: unchanged   privilege: any */
PATCHLET(set_c)
/* in: -   out: -   clobbers: RBX (32-bit: EBX)   flags: unchanged   privilege: any */
PATCHLET(set_b)
/* in: -   out: -   clobbers: GS base   flags: unchanged   privilege: CPL 0 */
PATCHLET(swap_base)
";
    let contracts = file("cpu-contracts", "own.S", CONTRACTS.as_bytes());
    for width in WIDTHS {
        let [rcx, rbx] = if width == Width::Bits64 { ["RCX", "RBX"] } else { ["ECX", "EBX"] };
        let both = |class: u8| {
            let mut sample = sample(width);
            // mov $1, %ecx, and mov $1, %ebx.
            // And swapgs, for which no class has a register. (It is one of 64-bit code only; here
            // 32-bit code has INVD in its place.)
            let swapgs: &[u8] =
                if width == Width::Bits64 { &[0x0f, 0x01, 0xf8] } else { &[0x0f, 0x08] };
            for (place, name, code) in [
                (3, "set_c", &[0xb9, 1, 0, 0, 0][..]),
                (4, "set_b", &[0xbb, 1, 0, 0, 0]),
                (5, "swap_base", swapgs),
            ] {
                sample.patchlet(name, code);
                let native = sample.address_of(&format!("patchlet_native_{name}"));
                sample.variant(1, place, "FSRM", native, PATCHLET);
            }
            sample.op_record(crate::sample::builtin(width).len() + 1)[10] = class | FUNCTION << 5;
            assert_eq!(findings(&sample.bytes()), []);
            let path = file("cpu-contracts", &format!("{width:?}-{class}"), &sample.bytes());
            tool(&["verify", &path, "--contracts", &contracts]).out
        };
        let line = |name: &str, register: &str| {
            format!(
                "contract: op `time.ticks_low` of table `own_ops`: has a variant that is the \
                 patchlet `{name}`, but it changes {register}, which the code around a site keeps"
            )
        };
        // Callee-save, C, and the C of any signature.
        for (class, found) in [
            (0, vec![("set_b", rbx), ("set_c", rcx)]),
            (1, vec![("set_b", rbx)]),
            (3, vec![("set_b", rbx)]),
        ] {
            let out = both(class);
            assert_eq!(out.matches("contract: ").count(), found.len(), "{width:?} {class}: {out}");
            for (name, register) in found {
                assert!(out.contains(&line(name, register)), "{width:?} {class}: {out}");
            }
        }
        // The class of ops for assembly says nothing.
        assert!(both(2).contains("everything holds"), "{}", both(2));
    }
}
