//! Features of the CPU: their names, `--cpu`, and what is taken from the text.

use patchlet::Width;
use patchlet::inspect::{
    CpuSpec, Explanation, LinuxKernel, RawAddress, Verdict, explain_linux, unpack,
};

use crate::kernel::{ABSENT, ALWAYS, Kernel, PHYSICAL, PRESENT, relative};
use crate::sample::Section;
use crate::tool::{file, tool};
use patchlet::inspect::Exit;

/// One of Linux' own, which no CPU tells.
const XENPV: u16 = 8 * 32 + 16;

/// Explains a kernel on a CPU that the command line names.
fn explain_on(cpu: Option<&str>, file: &[u8], memory: &[u8]) -> Explanation {
    let unpacked = unpack(file).expect("an ELF file");
    let mut linux = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
    if let Some(words) = cpu {
        let cpu = CpuSpec::model(words, None).unwrap_or_else(|error| panic!("{error}"));
        linux = linux.on_cpu(&cpu).unwrap_or_else(|error| panic!("{error}"));
    }
    explain_linux(&linux, memory, Some(RawAddress::Physical(PHYSICAL)), true)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Adds a site with NOPs that becomes CLAC with the feature; `has` is whether it is seen so.
fn site(kernel: &mut Kernel, feature: u16, has: bool) -> (u64, [u8; 4]) {
    let seen = if has { [0x0f, 0x01, 0xca] } else { [0x0f, 0x1f, 0x00] };
    let site = kernel.site(&[0x90; 3], &seen);
    let [low, high] = feature.to_le_bytes();
    (site, [low, high, 3, 3])
}

/// Returns a kernel without the features of the CPU in its memory, and the address of each site.
fn kernel(width: Width, list: &[(u16, bool)]) -> (Kernel, Vec<u64>) {
    let mut kernel = Kernel::new(width);
    // Not where the features stand: no CPU is without a floating-point unit.
    kernel.words[0] = 0;
    let clac = kernel.replacement(|_| vec![0x0f, 0x01, 0xca]);
    let sites: Vec<_> = list.iter().map(|&(of, has)| site(&mut kernel, of, has)).collect();
    let records: Vec<Box<dyn Fn(u64) -> Vec<u8>>> = sites
        .iter()
        .map(|&(site, [low, high, length, other])| {
            Box::new(move |at: u64| {
                let mut record = relative(at, site);
                record.extend(relative(at + 4, clac));
                record.extend([low, high, 0, 0, length, other]);
                record
            }) as Box<dyn Fn(u64) -> Vec<u8>>
        })
        .collect();
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| &**of).collect();
    kernel.table(".altinstructions", &records);
    (kernel, sites.iter().map(|site| site.0).collect())
}

/// Returns the verdict about a site, and what it is said to depend on.
fn about(explanation: &Explanation, site: u64) -> (Verdict, &str) {
    let of = explanation.list.iter().find(|of| of.address_in_file == site).expect("the site");
    (of.verdict, &of.depends)
}

/// Without any word about the CPU a feature is what most of its sites are: these are allowed, and
/// the others are unexplained. What every CPU has is known.
#[test]
fn what_nothing_says_is_taken_from_most_sites() {
    for width in [Width::Bits64, Width::Bits32] {
        let list = [
            (PRESENT, true),
            (PRESENT, true),
            (PRESENT, false),
            (XENPV, false),
            (XENPV, false),
            (ALWAYS, true),
        ];
        let (mut kernel, sites) = kernel(width, &list);
        // The NOP of three bytes that 32-bit kernels have by default.
        if width == Width::Bits32 {
            for &site in [&sites[2], &sites[3], &sites[4]] {
                kernel.patched.insert(site, vec![0x8d, 0x76, 0x00]);
            }
        }
        let (file, memory) = kernel.file_and_memory();
        let explanation = explain_on(None, &file, &memory);
        assert!(explanation.notes[0].contains("were not found"), "{:?}", explanation.notes);
        assert_eq!(about(&explanation, sites[0]), (Verdict::Allowed, "smap"));
        assert_eq!(about(&explanation, sites[1]), (Verdict::Allowed, "smap"));
        assert_eq!(about(&explanation, sites[2]), (Verdict::Unexplained, "smap"));
        assert_eq!(about(&explanation, sites[3]), (Verdict::Allowed, "xenpv"));
        assert_eq!(about(&explanation, sites[5]), (Verdict::Proven, "always"));
    }
}

/// A site that depends on more features than are tried together is asked when other sites have
/// said what some of these are.
#[test]
fn a_site_of_many_features_is_asked_last() {
    // Four of Linux' own. The last two are only at the site of all four.
    let all = [XENPV, XENPV + 2, XENPV + 3, XENPV + 4];
    let list = [(all[0], false), (all[1], true)];
    let (mut kernel, _) = kernel(Width::Bits64, &list);
    let table = kernel.sample.sections.pop().expect("the table");
    let site = kernel.site(&[0x90; 3], &[0x0f, 0x01, 0xc2]);
    let mut bytes = table.data.clone();
    for (number, feature) in (0..).zip(all) {
        let replacement = kernel.replacement(|_| vec![0x0f, 0x01, 0xc0 + number]);
        let at = table.address + bytes.len() as u64;
        bytes.extend(relative(at, site));
        bytes.extend(relative(at + 4, replacement));
        bytes.extend(feature.to_le_bytes());
        bytes.extend([0, 0, 3, 3]);
    }
    kernel.sample.sections.push(Section { data: bytes, ..table });
    let (file, memory) = kernel.file_and_memory();
    let explanation = explain_on(None, &file, &memory);
    // The third is there and the fourth is not, for the last that is there counts.
    assert_eq!(about(&explanation, site).0, Verdict::Allowed);
    let notes = &explanation.notes[0];
    assert!(notes.contains("4 more are taken"), "{notes}");
}

/// With a model, what CPUID says is known and proves; what only the kernel decides does not.
#[test]
fn a_model_says_what_cpuid_says() {
    let list = [(PRESENT, true), (ABSENT, false), (XENPV, false)];
    let (mut kernel, sites) = kernel(Width::Bits64, &list);
    let (file, memory) = kernel.file_and_memory();
    let verdicts = |cpu: &str| {
        let explanation = explain_on(Some(cpu), &file, &memory);
        [0, 1, 2].map(|at| about(&explanation, sites[at]).0)
    };
    use Verdict::{Allowed, Proven, Unexplained};
    // Broadwell has SMAP, and Haswell has not. Neither has AVX-512.
    assert_eq!(verdicts("Broadwell"), [Proven, Proven, Allowed]);
    assert_eq!(verdicts("Haswell"), [Unexplained, Proven, Allowed]);
    // Names of Linux, of QEMU, and numbers.
    assert_eq!(verdicts("Haswell,+smap,-xenpv"), [Proven, Proven, Proven]);
    assert_eq!(verdicts("Haswell,+9*32+20,xenpv=on"), [Proven, Proven, Unexplained]);
    assert_eq!(verdicts("Broadwell,+avx512ifma"), [Proven, Unexplained, Allowed]);
}

/// The names of features are those in the kernel's array for `/proc/cpuinfo`, if it has one.
#[test]
fn names_are_those_of_the_file() {
    for width in [Width::Bits64, Width::Bits32] {
        for with_symbol in [true, false] {
            let (mut kernel, sites) = kernel(width, &[(PRESENT, true), (22 * 32 + 6, false)]);
            let nop = if width == Width::Bits64 { [0x0f, 0x1f, 0] } else { [0x8d, 0x76, 0] };
            kernel.patched.insert(sites[1], nop.to_vec());
            kernel.words[0] = 1;
            let rodata = kernel.sample.section_mut(".rodata");
            let start = rodata.address + rodata.data.len() as u64;
            let texts = b"\0constant_tsc\0no_smoke\0ts\0fid\0vid\0fxsave_leak\0";
            rodata.data.extend(texts);
            rodata.data.resize(rodata.data.len().next_multiple_of(8), 0);
            let array = rodata.address + rodata.data.len() as u64;
            let text = |name: &str| {
                let whole = format!("\0{name}\0");
                let at = texts.windows(whole.len()).position(|part| part == whole.as_bytes());
                start + at.expect("the name") as u64 + 1
            };
            let mut pointers = vec![0; 22 * 32 + 32];
            pointers[3 * 32 + 8] = text("constant_tsc");
            pointers[usize::from(PRESENT)] = text("no_smoke");
            for (at, name) in ["ts", "fid", "vid"].into_iter().enumerate() {
                pointers[22 * 32 + at] = text(name);
            }
            // The faults, in an array of their own.
            pointers.push(0);
            pointers.extend([0, 0, 0, 0, 0, text("fxsave_leak")]);
            let mut bytes = vec![];
            for pointer in pointers {
                kernel.sample.put(&mut bytes, pointer);
            }
            kernel.sample.section_mut(".rodata").data.extend(bytes);
            if with_symbol {
                kernel.sample.symbol("x86_cap_flags", array, 8, 1, ".rodata");
            }
            let (file, memory) = kernel.file_and_memory();
            let explanation = explain_on(None, &file, &memory);
            assert_eq!(about(&explanation, sites[0]).1, "no_smoke");
            assert_eq!(about(&explanation, sites[1]).1, "fault:fxsave_leak");
        }
    }
}

/// The command takes the CPU, and says what a feature could have been meant to be.
#[test]
fn the_command_takes_a_cpu() {
    let (mut kernel, _) = kernel(Width::Bits64, &[(PRESENT, true), (XENPV, false)]);
    let (elf, memory) = kernel.file_and_memory();
    let elf = file("explain", "vmlinux-cpu", &elf);
    let dump = file("explain", "ram-cpu", &memory);
    let run =
        |cpu: &str| tool(&["explain", &elf, "--memory", &dump, "--phys", "0x600000", "--cpu", cpu]);
    let output = run("Broadwell");
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    assert!(output.out.contains("those of --cpu; 1 more"), "{}", output.out);
    let output = run("Haswell");
    assert_eq!(output.exit, Exit::Finding, "{}{}", output.out, output.err);
    let output = run("Haswell,+xenpw");
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("did you mean xenpv"), "{}", output.err);
    // What the dump says counts more, and that it says something else is said.
    kernel.words[0] = 1;
    let (_, memory) = kernel.file_and_memory();
    let changed = file("explain", "ram-with-cpu", &memory);
    let arguments = ["explain", &elf, "--memory", &changed, "--phys", "0x600000"];
    let output = tool(&[&arguments[..], &["--cpu", "Haswell,-smap"]].concat());
    assert_eq!(output.exit, Exit::Holds, "{}{}", output.out, output.err);
    assert!(output.out.contains("otherwise than --cpu of: "), "{}", output.out);
}

/// Returns a section with the type of `boot_cpu_data`: 21 words at this offset.
fn types(offset: u32) -> Vec<u8> {
    let names = b"\0cpuinfo_x86\0x86_capability\0";
    let types: [u32; 16] = [
        // An integer; an array of 21 of them; the structure with one member.
        0,
        1 << 24,
        4,
        32,
        0,
        3 << 24,
        0,
        1,
        1,
        21,
        1,
        4 << 24 | 1,
        200,
        13,
        2,
        offset * 8,
    ];
    let mut data = vec![0x9f, 0xeb, 1, 0];
    for number in [24, 0, 64, 64, names.len() as u32].into_iter().chain(types) {
        data.extend(number.to_le_bytes());
    }
    data.extend(names);
    data
}

/// Where the types of the build say where the features are, these are read there.
#[test]
fn features_are_where_the_types_say() {
    for width in [Width::Bits64, Width::Bits32] {
        for (offset, verdict) in [(40, Verdict::Proven), (44, Verdict::Allowed)] {
            let (mut kernel, sites) = kernel(width, &[(PRESENT, true)]);
            let mut cpu = vec![0x5a; 40];
            for word in 0..21_u16 {
                let is_there = |number: u16| u32::from(number / 32 == word) << (number % 32);
                cpu.extend((u32::from(word == 0) | is_there(PRESENT)).to_le_bytes());
            }
            cpu.resize(200, 0);
            kernel.variable("boot_cpu_data", &[0; 200], &cpu);
            let bytes = types(offset);
            kernel.table(".BTF", &[&|_| bytes.clone()]);
            let (file, memory) = kernel.file_and_memory();
            let explanation = explain_on(None, &file, &memory);
            assert_eq!(about(&explanation, sites[0]), (verdict, "smap"), "{offset}");
        }
    }
}
