//! Boots the test kernels on CPU models of QEMU, from the 486 to the newest: the kernel detects
//! features, selects variants of the ready-made table, patches, runs each op and checks its effect.
//! Here what it has detected and what stands in its sites are compared with what is right for the
//! model, by a table of this test, and with what `patchlet plan --cpu` says of the kernel's file.
#![cfg(feature = "inspect")]

mod support {
    pub mod by_feature;
    pub mod kernel;
    pub mod models;
    #[allow(dead_code, reason = "the width alone is needed")]
    pub mod table;
}
#[allow(dead_code, reason = "golden files are for tests/tool.rs")]
#[path = "tool/run.rs"]
mod tool;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use patchlet::cpu::{CpuidRegister, Feature, FeatureWord, Features};
use patchlet::inspect::Exit;
use support::by_feature::{self, Stands};
use support::kernel;
use support::models::{Run, Site, boot, functions};
use support::table::Width;

/// The models for the 64-bit kernel: the oldest that QEMU has, those where a feature of the table
/// came, and one of each vendor.
const MODELS_64: [&str; 13] = [
    "qemu64",
    "kvm64",
    "Opteron_G1",
    "Conroe",
    "phenom",
    "Nehalem",
    "SandyBridge",
    "Haswell",
    "Broadwell",
    "Skylake-Client",
    "Icelake-Server",
    "EPYC",
    "Dhyana",
];

/// The models for the 32-bit kernel that is compiled for a 486.
const MODELS_32: [&str; 10] = [
    "486",
    "pentium",
    "pentium2",
    "pentium3",
    "athlon",
    "coreduo",
    "n270",
    "qemu32",
    "Broadwell",
    "EPYC",
];

#[test]
fn models_64() {
    every_model(Width::Bits64, &kernel::build(Width::Bits64, "fat"), &MODELS_64);
}

#[test]
fn models_32() {
    every_model(Width::Bits32, &kernel::build_for_486(), &MODELS_32);
}

fn every_model(width: Width, kernel: &Path, models: &[&str]) {
    let known = Models::read();
    let mut seen = BTreeSet::new();
    for model in models {
        let run = boot(kernel, model);
        let left_out: Vec<_> = run.complaints.lines().filter_map(left_out_by_tcg).collect();
        let expected = with_what_the_kernel_switches_on(known.features(model, &left_out));
        assert_eq!(run.features, expected, "{width}, {model}: features");
        check_sites(width, kernel, model, &run, &mut seen);
        let names = left_out.iter().filter_map(|place| {
            Feature::named().find(|(_, feature)| feature.place() == *place).map(|(name, _)| name)
        });
        let words = [(*model).to_owned()].into_iter().chain(names.map(|name| format!("-{name}")));
        as_planned(kernel, &words.collect::<Vec<_>>().join(","), &[], &run);
    }
    // What `max` is differs by version of QEMU: at least this, and here the kernel is believed.
    let least = known.features(if width == Width::Bits64 { "tcg" } else { "tcg32" }, &[]);
    for (model, more, less) in [
        ("max", None, None),
        // TCG executes REP MOVSB as ever and does not claim that it is fast. QEMU can be told to.
        ("max,+fsrm,x-force-features=on", Some("FSRM"), None),
        // QEMU 7.2 lets no CPU set CR4.OSXSAVE that has XSAVE and none of the features in leaf 0DH,
        // sub-leaf 1, as Opteron_G5. This one has XGETBV with ECX = 1.
        ("max,-xsaveopt,-xsavec,-xsaves", None, Some("XSAVEOPT")),
    ] {
        let run = boot(kernel, model);
        assert!(more.is_none_or(|name| run.features.contains(name)), "{width}, {model}");
        let missing: Vec<_> = least.difference(&run.features).collect();
        assert_eq!(missing, less.iter().collect::<Vec<_>>(), "{width}, {model}");
        check_sites(width, kernel, model, &run, &mut seen);
        let changes = run.features.difference(&least).map(|name| format!("+{name}"));
        let changes = changes.chain(less.map(|name| format!("-{name}")));
        let words = ["max".to_owned()].into_iter().chain(changes).collect::<Vec<_>>().join(",");
        as_planned(kernel, &words, &["--accel", "tcg"], &run);
    }

    // TCG 7.2 has neither XSAVEC nor XSAVES, so no model selects these. Every other variant was seen.
    let all = by_feature::set(width).into_iter().map(|(name, _)| name);
    let expected = ["cpu_xsavec", "cpu_xsaves", "cpu_xrstors"];
    let unseen: Vec<_> =
        all.filter(|name| !seen.contains(name) && !expected.contains(name)).collect();
    assert!(unseen.is_empty(), "{width}: no model has {unseen:?}");
}

/// Returns the place of a feature that TCG does not have, from a line such as `warning: TCG doesn't
/// support requested feature: CPUID.07H:EBX.erms [bit 9]`.
fn left_out_by_tcg(line: &str) -> Option<(FeatureWord, u32)> {
    let (_, place) = line.split_once("requested feature: CPUID.")?;
    let (leaf, rest) = place.split_once("H:")?;
    let leaf = u32::from_str_radix(leaf, 16).ok()?;
    let register = register(rest.get(..3)?)?;
    let (_, bit) = rest.split_once("[bit ")?;
    // QEMU does not name sub-leaves. In EAX, leaf 7 has no features but those of sub-leaf 1, and
    // leaf 0DH none with a name here.
    let sub_leaf = u32::from(register == CpuidRegister::Eax && matches!(leaf, 7 | 0xd));
    Some((FeatureWord::Cpuid { leaf, sub_leaf, register }, bit.split(']').next()?.parse().ok()?))
}

fn register(name: &str) -> Option<CpuidRegister> {
    Some(match name.to_ascii_uppercase().as_str() {
        "EAX" => CpuidRegister::Eax,
        "EBX" => CpuidRegister::Ebx,
        "ECX" => CpuidRegister::Ecx,
        "EDX" => CpuidRegister::Edx,
        _ => return None,
    })
}

/// The CPU models of QEMU, from the tool's data.
struct Models {
    columns: Vec<FeatureWord>,
    rows: BTreeMap<String, (String, Vec<u32>)>,
}

impl Models {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inspect/cpu/models.txt");
        let text = fs::read_to_string(path).expect("the models");
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let column = |name: &str| {
            let [leaf, sub_leaf, name] = name.split('/').collect::<Vec<_>>().try_into().ok()?;
            let number = |digits| u32::from_str_radix(digits, 16).ok();
            Some(FeatureWord::Cpuid {
                leaf: number(leaf)?,
                sub_leaf: number(sub_leaf)?,
                register: register(name)?,
            })
        };
        let columns = lines.next().expect("a title").split(' ').skip(2);
        let columns = columns.map(|name| column(name).expect(name)).collect();
        let row = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (name, vendor) = (words.next()?, words.next()?);
            let values = words.map(|word| u32::from_str_radix(&word, 16).expect("hex")).collect();
            Some((name, (vendor, values)))
        };
        Self { columns, rows: lines.filter_map(row).collect() }
    }

    /// Returns the features of a model, without what TCG leaves out.
    fn features(&self, model: &str, left_out: &[(FeatureWord, u32)]) -> BTreeSet<String> {
        let (vendor, values) = self.rows.get(model).unwrap_or_else(|| panic!("no model {model}"));
        let bit_of = |(word, bit): (FeatureWord, u32)| {
            let column = self.columns.iter().position(|column| *column == word)?;
            Some(values[column] >> bit & 1 != 0 && !left_out.contains(&(word, bit)))
        };
        let by_bit = Feature::named()
            .filter(|(_, feature)| bit_of(feature.place()) == Some(true))
            .map(|(name, _)| name);
        let vendor = match vendor.as_str() {
            "GenuineIntel" => Some("INTEL"),
            "AuthenticAMD" => Some("AMD"),
            "HygonGenuine" => Some("HYGON"),
            _ => None,
        };
        // QEMU's own emulation says that it is one.
        by_bit.chain(vendor).chain(["HYPERVISOR", "TCG"]).map(str::to_owned).collect()
    }
}

/// Adds what the test kernel switches on in CR4 and XCR0.
fn with_what_the_kernel_switches_on(mut features: BTreeSet<String>) -> BTreeSet<String> {
    for (feature, switched_on) in [
        // QEMU clears the bit on a CPU without SSE.
        ("SSE", "OSFXSR_ENABLED"),
        ("FSGSBASE", "FSGSBASE_ENABLED"),
        ("XSAVE", "OSXSAVE"),
        ("XSAVE", "XCR0_X87"),
        ("XSAVE", "XCR0_SSE"),
        ("AVX", "XCR0_AVX"),
        // Paging by PAE needs both.
        ("NX", "PAE_ENABLED"),
    ] {
        if features.contains(feature) {
            features.insert(switched_on.into());
        }
    }
    features
}

/// Checks what stands in the sites, and adds the patchlets among them to `seen`.
fn check_sites(
    width: Width,
    kernel: &Path,
    model: &str,
    run: &Run,
    seen: &mut BTreeSet<&'static str>,
) {
    let right = by_feature::right(width, &run.features);
    let mut ops: Vec<_> = run.sites.iter().map(|site| site.op.as_str()).collect();
    ops.dedup();
    assert_eq!(ops, right.iter().map(|(op, _)| *op).collect::<Vec<_>>(), "{width}, {model}");
    let right: BTreeMap<_, _> = right.into_iter().collect();
    let set: BTreeMap<_, _> = by_feature::set(width).into_iter().collect();
    let functions = functions(kernel);
    for Site { op, address, bytes } in &run.sites {
        let stands = right[op.as_str()];
        let instruction = match stands {
            Stands::Nothing => vec![],
            Stands::Patchlet(name) => {
                seen.insert(name);
                set[name].clone()
            }
            Stands::Call(symbol) => {
                let from = address + 5;
                let displacement = functions[symbol].wrapping_sub(from) as u32;
                [&[0xe8][..], &displacement.to_le_bytes()].concat()
            }
        };
        let expected = with_nops(width, instruction, bytes.len());
        assert_eq!(*bytes, expected, "{width}, {model}, {op}: {stands:?}");
    }
}

/// Checks that each site of the kernel holds what the tool says that it gets on a CPU.
fn as_planned(kernel: &Path, cpu: &str, more: &[&str], run: &Run) {
    let kernel = kernel.to_str().expect("UTF-8");
    let output = tool::tool(&[&["plan", kernel, "--json", "--cpu", cpu], more].concat());
    assert_eq!(output.exit, Exit::Holds, "{cpu}: {}", output.err);
    let plan: serde_json::Value = serde_json::from_str(&output.out).expect("JSON");
    let sites = plan["sites"].as_array().expect("sites");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let planned: BTreeMap<_, _> = sites
        .iter()
        .map(|site| (text(&site["address"]), (text(&site["op"]), text(&site["after"]["bytes"]))))
        .collect();
    for Site { op, address, bytes } in &run.sites {
        let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let stands = (op.clone(), bytes.join(" "));
        assert_eq!(planned.get(&format!("{address:#x}")), Some(&stands), "{cpu}, {op}");
    }
}

/// Fills a site up with the fewest NOPs (SDM vol. 2B, "NOP"), and for a 486 with instructions that
/// change no register.
fn with_nops(width: Width, mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    let nops: &[&[u8]] = if width == Width::Bits64 {
        &[
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0, 0, 0, 0],
            &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
            &[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
        ]
    } else {
        &[
            &[0x90],
            &[0x89, 0xf6],
            &[0x8d, 0x76, 0x00],
            &[0x8d, 0x74, 0x26, 0x00],
            &[0x90, 0x8d, 0x74, 0x26, 0x00],
            &[0x8d, 0xb6, 0, 0, 0, 0],
            &[0x8d, 0xb4, 0x26, 0, 0, 0, 0],
        ]
    };
    while bytes.len() < len {
        let left = (len - bytes.len()).min(nops.len());
        bytes.extend(nops[left - 1]);
    }
    bytes
}

/// The library that this test is linked with detects the same features from the tool's data as the
/// table of this test reads there.
#[test]
fn detection_from_data_is_the_table_of_models() {
    let known = Models::read();
    for (model, (vendor, values)) in &known.rows {
        let word =
            |word| known.columns.iter().position(|column| *column == word).map(|at| values[at]);
        let text = |at: usize| {
            u32::from_le_bytes(vendor.as_bytes()[at..at + 4].try_into().expect("four bytes"))
        };
        let features = Features::from_cpuid(|leaf, sub_leaf| match leaf {
            0 => [0xd, text(0), text(8), text(4)],
            0x8000_0000 => [0x8000_0008, 0, 0, 0],
            0x4000_0000 => [0, 0x5447_4354, 0x4354_4743, 0x4743_5447],
            _ => {
                use CpuidRegister::{Eax, Ebx, Ecx, Edx};
                let mut registers = [Eax, Ebx, Ecx, Edx].map(|register| {
                    word(FeatureWord::Cpuid { leaf, sub_leaf, register }).unwrap_or(0)
                });
                match (leaf, sub_leaf) {
                    // There is a sub-leaf 1, and the CPU is virtual.
                    (7, 0) => registers[0] = 1,
                    (1, 0) => registers[2] |= 1 << 31,
                    _ => {}
                }
                registers
            }
        });
        let names: BTreeSet<_> = features.names().map(str::to_owned).collect();
        assert_eq!(names, known.features(model, &[]), "{model}");
    }
}
