//! The detection of features: from what CPUID says, whoever executes it. No function here executes
//! an instruction that not every CPU has; `this_cpu.rs` does.

use super::feature::Feature;
use super::features::Features;
use super::table::{CpuidRegister, FeatureWord, WORDS};

/// The registers that CPUID returns for one leaf and sub-leaf: EAX, EBX, ECX and EDX.
pub type CpuidResult = [u32; 4];

/// The facts that leaf 0 tells by EBX, EDX and ECX, which are the vendor's name.
const VENDORS: [(&[u8; 12], Feature); 5] = [
    (b"GenuineIntel", Feature::INTEL),
    (b"AuthenticAMD", Feature::AMD),
    (b"HygonGenuine", Feature::HYGON),
    (b"CentaurHauls", Feature::CENTAUR),
    (b"  Shanghai  ", Feature::ZHAOXIN),
];

/// The facts that leaf 4000_0000H tells by EBX, ECX and EDX, which are the hypervisor's name.
const HYPERVISORS: [(&[u8; 12], Feature); 5] = [
    (b"KVMKVMKVM\0\0\0", Feature::KVM),
    (b"Microsoft Hv", Feature::HYPER_V),
    (b"XenVMMXenVMM", Feature::XEN),
    (b"VMwareVMware", Feature::VMWARE),
    (b"TCGTCGTCGTCG", Feature::TCG),
];

/// The name that TDX has in leaf 21H, in EBX, EDX and ECX.
const TDX: &[u8; 12] = b"IntelTDX    ";

impl Features {
    /// Returns the features of a CPU whose CPUID returns for a leaf and a sub-leaf what `cpuid` does.
    ///
    /// `cpuid` need not be the instruction: in a confidential guest, where CPUID traps before the
    /// kernel can handle that, it can be the table that firmware has left; in a test, plain data. It
    /// is asked only for leaves that leaf 0 or 8000_0000H says exist, because an Intel CPU answers
    /// for any higher leaf with what the highest one has.
    ///
    /// ```
    /// use patchlet::cpu::{Feature, Features};
    ///
    /// // A CPU with leaves up to 1, and the bit of RDTSC in that.
    /// let features = Features::from_cpuid(|leaf, _sub_leaf| match leaf {
    ///     0 => [1, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
    ///     1 => [0, 0, 0, 1 << 4],
    ///     _ => [0; 4],
    /// });
    /// assert!(features.has(Feature::TSC) && features.has(Feature::INTEL));
    /// ```
    #[must_use]
    pub fn from_cpuid(cpuid: impl Fn(u32, u32) -> CpuidResult) -> Self {
        let limits = Limits::of(&cpuid);
        let mut features = Self::EMPTY;
        for (index, word) in WORDS.iter().enumerate() {
            if let FeatureWord::Cpuid { leaf, sub_leaf, register } = *word
                && limits.allow(leaf, sub_leaf)
            {
                let [eax, ebx, ecx, edx] = cpuid(leaf, sub_leaf);
                let value = match register {
                    CpuidRegister::Eax => eax,
                    CpuidRegister::Ebx => ebx,
                    CpuidRegister::Ecx => ecx,
                    CpuidRegister::Edx => edx,
                };
                features = features.with_word(index, value);
            }
        }
        let [_, ebx, ecx, edx] = cpuid(0, 0);
        features = features.with_named(&VENDORS, [ebx, edx, ecx]);
        if features.has(Feature::HYPERVISOR) {
            let [_, ebx, ecx, edx] = cpuid(0x4000_0000, 0);
            features = features.with_named(&HYPERVISORS, [ebx, ecx, edx]);
        }
        if limits.allow(0x21, 0) {
            let [_, ebx, ecx, edx] = cpuid(0x21, 0);
            features = features.with_named(&[(TDX, Feature::TDX_GUEST)], [ebx, edx, ecx]);
        }
        features
    }

    /// Returns this set with what two control registers say: which features the operating system
    /// has switched on.
    #[must_use]
    pub fn with_control_registers(mut self, cr4: u32, xcr0: u32) -> Self {
        for (index, word) in WORDS.iter().enumerate() {
            match word {
                FeatureWord::Cr4 => self = self.with_word(index, cr4),
                FeatureWord::Xcr0 => self = self.with_word(index, xcr0),
                _ => {}
            }
        }
        self
    }

    /// Returns this set with the feature whose name three registers spell, if one of these does.
    fn with_named(self, names: &[(&[u8; 12], Feature)], registers: [u32; 3]) -> Self {
        let mut spelt = [0; 12];
        for (bytes, register) in spelt.chunks_exact_mut(4).zip(registers) {
            bytes.copy_from_slice(&register.to_le_bytes());
        }
        match names.iter().find(|(name, _)| **name == spelt) {
            Some((_, feature)) => self.with(*feature),
            None => self,
        }
    }
}

/// The highest leaves that a CPU has.
struct Limits {
    basic: u32,
    extended: u32,
    /// The highest sub-leaf of leaf 7.
    of_leaf_7: u32,
}

impl Limits {
    fn of(cpuid: &impl Fn(u32, u32) -> CpuidResult) -> Self {
        let [basic, ..] = cpuid(0, 0);
        // Old CPUs have no extended leaves, and answer with something else.
        let [extended, ..] = cpuid(0x8000_0000, 0);
        let extended = if extended >> 16 == 0x8000 { extended } else { 0 };
        let of_leaf_7 = if basic >= 7 { cpuid(7, 0)[0] } else { 0 };
        Self { basic, extended, of_leaf_7 }
    }

    fn allow(&self, leaf: u32, sub_leaf: u32) -> bool {
        let limit = if leaf >= 0x8000_0000 { self.extended } else { self.basic };
        leaf <= limit && (leaf != 7 || sub_leaf <= self.of_leaf_7)
    }
}
