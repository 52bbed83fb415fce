//! Features of CPUs: the table, detection from plain data, sets, and names. What a real CPU and
//! QEMU's models say is compared in `cpu_models.rs`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use patchlet::cpu::{CpuidRegister, CpuidResult, Feature, FeatureWord, Features};

/// A CPU as data: what CPUID returns for a leaf and a sub-leaf. For all others it returns ones, as
/// no real CPU does, to show that nobody looks.
#[derive(Default)]
struct Cpu {
    leaves: BTreeMap<(u32, u32), CpuidResult>,
    asked: RefCell<BTreeSet<(u32, u32)>>,
}

impl Cpu {
    /// Makes a CPU with a vendor and its highest leaves.
    fn new(vendor: &[u8; 12], basic: u32, extended: u32) -> Self {
        let mut cpu = Self::default();
        let [ebx, edx, ecx] = spelt(vendor);
        cpu.leaves.insert((0, 0), [basic, ebx, ecx, edx]);
        cpu.leaves.insert((0x8000_0000, 0), [extended, 0, 0, 0]);
        cpu
    }

    fn leaf(mut self, leaf: u32, sub_leaf: u32, result: CpuidResult) -> Self {
        self.leaves.insert((leaf, sub_leaf), result);
        self
    }

    fn features(&self) -> Features {
        Features::from_cpuid(|leaf, sub_leaf| {
            self.asked.borrow_mut().insert((leaf, sub_leaf));
            self.leaves.get(&(leaf, sub_leaf)).copied().unwrap_or([u32::MAX; 4])
        })
    }
}

fn spelt(name: &[u8; 12]) -> [u32; 3] {
    [0, 4, 8].map(|at| u32::from_le_bytes(name[at..at + 4].try_into().expect("four bytes")))
}

fn names(features: Features) -> Vec<&'static str> {
    features.names().collect()
}

#[test]
fn every_bit_of_cpuid_is_the_feature_that_its_place_says() {
    for (name, feature) in Feature::named() {
        let (FeatureWord::Cpuid { leaf, sub_leaf, register }, bit) = feature.place() else {
            continue;
        };
        let mut cpu = Cpu::new(b"NobodyMadeIt", 0x20, 0x8000_0021);
        let words = Feature::named().filter_map(|(_, feature)| match feature.place().0 {
            FeatureWord::Cpuid { leaf, sub_leaf, .. } => Some((leaf, sub_leaf)),
            _ => None,
        });
        for word in words {
            cpu.leaves.insert(word, [0; 4]);
        }
        // There is a sub-leaf 1 of leaf 7.
        cpu.leaves.insert((7, 0), [1, 0, 0, 0]);
        let index = match register {
            CpuidRegister::Eax => 0,
            CpuidRegister::Ebx => 1,
            CpuidRegister::Ecx => 2,
            CpuidRegister::Edx => 3,
        };
        cpu.leaves.get_mut(&(leaf, sub_leaf)).expect("a word of the table")[index] |= 1 << bit;
        cpu.leaves.insert((0x4000_0000, 0), [0; 4]);
        assert_eq!(names(cpu.features()), [name]);
    }
}

/// Bits that are easily mistaken, from the manuals (SDM vol. 2A, "CPUID"; AMD APM vol. 3, appendix
/// E; SDM vol. 3A, "Control Registers"), independently of the table.
#[test]
fn the_table_is_that_of_the_manuals() {
    use CpuidRegister::{Eax, Ebx, Ecx, Edx};
    let cpuid = |leaf, sub_leaf, register| FeatureWord::Cpuid { leaf, sub_leaf, register };
    for (feature, word, bit) in [
        (Feature::TSC, cpuid(1, 0, Edx), 4),
        (Feature::CLFSH, cpuid(1, 0, Edx), 19),
        (Feature::FXSR, cpuid(1, 0, Edx), 24),
        (Feature::SSE2, cpuid(1, 0, Edx), 26),
        (Feature::X2APIC, cpuid(1, 0, Ecx), 21),
        (Feature::XSAVE, cpuid(1, 0, Ecx), 26),
        (Feature::OSXSAVE, cpuid(1, 0, Ecx), 27),
        (Feature::HYPERVISOR, cpuid(1, 0, Ecx), 31),
        (Feature::FSGSBASE, cpuid(7, 0, Ebx), 0),
        (Feature::ERMS, cpuid(7, 0, Ebx), 9),
        (Feature::INVPCID, cpuid(7, 0, Ebx), 10),
        (Feature::SMAP, cpuid(7, 0, Ebx), 20),
        (Feature::CLFLUSHOPT, cpuid(7, 0, Ebx), 23),
        (Feature::FSRM, cpuid(7, 0, Edx), 4),
        (Feature::FSRS, cpuid(7, 1, Eax), 11),
        (Feature::XSAVEOPT, cpuid(0xd, 1, Eax), 0),
        (Feature::XSAVEC, cpuid(0xd, 1, Eax), 1),
        (Feature::XSAVES, cpuid(0xd, 1, Eax), 3),
        (Feature::RDTSCP, cpuid(0x8000_0001, 0, Edx), 27),
        (Feature::INVARIANT_TSC, cpuid(0x8000_0007, 0, Edx), 8),
        (Feature::LFENCE_SERIALIZING, cpuid(0x8000_0021, 0, Eax), 2),
        (Feature::FSGSBASE_ENABLED, FeatureWord::Cr4, 16),
        (Feature::SMAP_ENABLED, FeatureWord::Cr4, 21),
        (Feature::XCR0_AVX, FeatureWord::Xcr0, 2),
    ] {
        assert_eq!(feature.place(), (word, bit), "{feature:?}");
    }
}

/// An Intel CPU answers for a leaf above its highest with the highest, and an old one for the
/// extended leaves likewise.
#[test]
fn leaves_that_do_not_exist_are_not_asked() {
    for extended in [0x30, 0xffff_ffff] {
        let cpu = Cpu::new(b"GenuineIntel", 1, extended).leaf(1, 0, [0, 0, 0, 1 << 4]);
        assert_eq!(names(cpu.features()), ["TSC", "INTEL"]);
        let asked: Vec<_> = cpu.asked.into_inner().into_iter().collect();
        assert_eq!(asked, [(0, 0), (1, 0), (0x8000_0000, 0)]);
    }

    // Leaf 7 without sub-leaf 1, and no leaf 0DH.
    let cpu =
        Cpu::new(b"GenuineIntel", 7, 0x8000_0000).leaf(1, 0, [0; 4]).leaf(7, 0, [0, 1 << 9, 0, 0]);
    assert_eq!(names(cpu.features()), ["ERMS", "INTEL"]);
    assert!(!cpu.asked.borrow().contains(&(7, 1)));
}

#[test]
fn vendor_and_hypervisor_are_facts() {
    let cpu = |vendor: &[u8; 12]| Cpu::new(vendor, 1, 0).leaf(1, 0, [0; 4]);
    for (vendor, name) in [
        (b"GenuineIntel", "INTEL"),
        (b"AuthenticAMD", "AMD"),
        (b"HygonGenuine", "HYGON"),
        (b"CentaurHauls", "CENTAUR"),
        (b"  Shanghai  ", "ZHAOXIN"),
    ] {
        assert_eq!(names(cpu(vendor).features()), [name]);
    }
    for (hypervisor, name) in [
        (b"KVMKVMKVM\0\0\0", "KVM"),
        (b"Microsoft Hv", "HYPER_V"),
        (b"XenVMMXenVMM", "XEN"),
        (b"VMwareVMware", "VMWARE"),
        (b"TCGTCGTCGTCG", "TCG"),
    ] {
        let [ebx, ecx, edx] = spelt(hypervisor);
        let named = [0x4000_0001, ebx, ecx, edx];
        let virtual_cpu = cpu(b"Somebodyelse").leaf(0x4000_0000, 0, named);
        // Without the bit that says so, the CPU is not virtual and the leaf is not asked.
        assert_eq!(names(virtual_cpu.features()), [""; 0]);
        let virtual_cpu = virtual_cpu.leaf(1, 0, [0, 0, 1 << 31, 0]);
        assert_eq!(names(virtual_cpu.features()), ["HYPERVISOR", name]);
    }
    let [ebx, edx, ecx] = spelt(b"IntelTDX    ");
    let mut tdx = Cpu::new(b"GenuineIntel", 0x21, 0).leaf(0x21, 0, [0, ebx, ecx, edx]);
    for leaf in [(1, 0), (7, 0), (0xd, 1)] {
        tdx = tdx.leaf(leaf.0, leaf.1, [0; 4]);
    }
    assert_eq!(names(tdx.features()), ["INTEL", "TDX_GUEST"]);
}

#[test]
fn control_registers_are_features_of_their_own() {
    let features = Features::EMPTY.with(Feature::FSGSBASE).with_control_registers(1 << 16, 0b111);
    let expected = ["FSGSBASE", "FSGSBASE_ENABLED", "XCR0_X87", "XCR0_SSE", "XCR0_AVX"];
    assert_eq!(names(features), expected);
    // The registers as they are now, not together with what they were.
    assert_eq!(names(features.with_control_registers(0, 0)), ["FSGSBASE"]);
}

/// For CPUs that differ: of each feature, whether all have it.
#[test]
fn an_intersection_has_what_both_sets_have() {
    let own = (0..64).map(Feature::own);
    for feature in Feature::named().map(|(_, feature)| feature).chain(own) {
        for other in [Feature::ERMS, Feature::SMAP, Feature::own(0), Feature::own(63)] {
            if feature == other {
                continue;
            }
            let [with, without] = [Features::EMPTY.with(feature), Features::EMPTY.with(other)];
            for (a, b) in [(with, with), (with, without), (without, with), (without, without)] {
                let both = a.intersection(b);
                for asked in [feature, other] {
                    assert_eq!(both.has(asked), a.has(asked) && b.has(asked), "{asked:?}");
                }
            }
        }
    }
}

#[test]
fn sets_print_their_names() {
    const BROKEN: Feature = Feature::own(3);
    let features = Features::EMPTY.with(Feature::SMAP).with(Feature::ERMS).with(BROKEN);
    assert_eq!(features.to_string(), "ERMS SMAP");
    assert_eq!(format!("{features:?}"), "{ERMS, SMAP, own(3)}");
    assert_eq!(format!("{:?}", [Feature::ERMS.present(), BROKEN.absent()]), "[ERMS, !own(3)]");
    let first_and_last = Features::EMPTY.with(Feature::own(0)).with(Feature::own(63));
    assert_eq!(format!("{first_and_last:?}"), "{own(0), own(63)}");
}

#[test]
fn a_name_finds_its_feature_and_no_two_are_the_same() {
    let mut places = BTreeSet::new();
    for (name, feature) in Feature::named() {
        assert_eq!((Feature::find(name), feature.name()), (Some(feature), Some(name)));
        assert!(places.insert(format!("{:?}", feature.place())), "{name} is another one's bit");
    }
    assert_eq!(Feature::find("erms"), None);
    assert_eq!(Feature::own(0).name(), None);
}

/// Compares the detection by this crate with that of the standard library.
#[test]
fn this_cpu_has_what_the_standard_library_says() {
    let features = Features::detect();
    assert_eq!(features, Features::detect());
    assert!(features.has(Feature::FPU) && features.has(Feature::TSC));
    macro_rules! compare {
        ($($name:tt $feature:ident)*) => {
            $(assert_eq!(std::is_x86_feature_detected!($name), features.has(Feature::$feature));)*
        };
    }
    // Without those that also need XCR0.
    compare! {
        "sse2" SSE2 "sse3" SSE3 "ssse3" SSSE3 "sse4.1" SSE4_1 "sse4.2" SSE4_2 "popcnt" POPCNT
        "aes" AESNI "pclmulqdq" PCLMULQDQ "rdrand" RDRAND "rdseed" RDSEED "bmi1" BMI1 "bmi2" BMI2
        "adx" ADX "fxsr" FXSR "movbe" MOVBE "cmpxchg16b" CMPXCHG16B "sse4a" SSE4A "lzcnt" ABM
    }
}
