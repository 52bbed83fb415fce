//! The table of features: which bit of which register says that a CPU has one. The first two words
//! are for a kernel's own, see `Feature::own`.

use super::feature::Feature;

/// The register or the facts whose 32 bits are one word of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeatureWord {
    /// A register that the instruction CPUID gives.
    Cpuid {
        /// The leaf: EAX before the instruction.
        leaf: u32,
        /// The sub-leaf: ECX before the instruction. Most leaves do not look at it.
        sub_leaf: u32,
        /// The register.
        register: CpuidRegister,
    },
    /// Facts that are no bit of CPUID: bit 0, the vendor is Intel; bit 1, it is AMD.
    Facts,
    /// Control register 4, which ring 0 can read.
    Cr4,
    /// The low half of XCR0, the state components that XSAVE may use (SDM vol. 1, "Managing State
    /// Using the XSAVE Feature Set").
    Xcr0,
    /// Features of the kernel's own: 0 to 31, or 32 to 63.
    Own,
}

/// A register in which CPUID returns features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuidRegister {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// Writes what a word of the table is, and the sentence about it in the docs of its features.
macro_rules! word {
    (own) => {
        FeatureWord::Own
    };
    (facts) => {
        FeatureWord::Facts
    };
    (cr4) => {
        FeatureWord::Cr4
    };
    (xcr0) => {
        FeatureWord::Xcr0
    };
    ($register:ident of $leaf:literal / $sub_leaf:literal) => {
        FeatureWord::Cpuid { leaf: $leaf, sub_leaf: $sub_leaf, register: CpuidRegister::$register }
    };
}

/// Defines the words of the table and the constants of [`Feature`]. A word is its number, what it
/// is, where the manuals describe it, and its features, each with its bit.
macro_rules! features {
    ($(
        $number:literal = [$($word:tt)+], $manual:literal: {
            $($(#[doc = $doc:literal])+ $name:ident = $bit:literal;)*
        }
    )+) => {
        /// What each word of a set of features is.
        pub(super) const WORDS: [FeatureWord; [$($number),+].len()] = {
            let mut words = [FeatureWord::Own; [$($number),+].len()];
            $(words[$number] = word!($($word)+);)+
            words
        };

        impl Feature {
            $($(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nBit ", $bit, " of ", $manual, ".")]
                pub const $name: Self = Self::new($number, $bit);
            )*)+
        }

        /// The names of all features that have one.
        pub(super) const NAMED: &[(&str, Feature)] =
            &[$($((stringify!($name), Feature::$name),)*)+];
    };
}

features! {
    0 = [own], "a kernel's own features": {}
    1 = [own], "a kernel's own features": {}
    2 = [Ecx of 1 / 0], "CPUID leaf 1, ECX (SDM vol. 2A, \"CPUID\")": {
        /// The interrupt controller can be used by MSRs.
        X2APIC = 21;
        /// XSAVE, XRSTOR, XSETBV and XGETBV.
        XSAVE = 26;
        /// The operating system has switched XSAVE on: CR4.OSXSAVE.
        OSXSAVE = 27;
        /// The CPU is virtual. Intel and AMD have no such CPU; hypervisors set the bit.
        HYPERVISOR = 31;
    }
    3 = [Edx of 1 / 0], "CPUID leaf 1, EDX (SDM vol. 2A, \"CPUID\")": {
        /// FXSAVE and FXRSTOR.
        FXSR = 24;
        /// The SSE2 instructions.
        SSE2 = 26;
    }
    4 = [Ebx of 7 / 0], "CPUID leaf 7, sub-leaf 0, EBX (SDM vol. 2A, \"CPUID\")": {
        /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE. They raise #UD until the operating system
        /// has switched them on: [`FSGSBASE_ENABLED`](Self::FSGSBASE_ENABLED).
        FSGSBASE = 0;
        /// Supervisor-mode execution prevention.
        SMEP = 7;
        /// REP MOVSB and REP STOSB are fast for long ranges.
        ERMS = 9;
        /// INVPCID.
        INVPCID = 10;
        /// Supervisor-mode access prevention, and the instructions STAC and CLAC.
        SMAP = 20;
        /// CLFLUSHOPT.
        CLFLUSHOPT = 23;
    }
    5 = [Ecx of 7 / 0], "CPUID leaf 7, sub-leaf 0, ECX (SDM vol. 2A, \"CPUID\")": {}
    6 = [Edx of 7 / 0], "CPUID leaf 7, sub-leaf 0, EDX (SDM vol. 2A, \"CPUID\")": {
        /// REP MOVSB is fast for short ranges, too.
        FSRM = 4;
    }
    7 = [Eax of 7 / 1], "CPUID leaf 7, sub-leaf 1, EAX (SDM vol. 2A, \"CPUID\")": {}
    8 = [Eax of 0xd / 1], "CPUID leaf 0DH, sub-leaf 1, EAX (SDM vol. 2A, \"CPUID\")": {
        /// XSAVEOPT.
        XSAVEOPT = 0;
        /// XSAVEC, and the compacted form of XRSTOR.
        XSAVEC = 1;
        /// XSAVES and XRSTORS.
        XSAVES = 3;
    }
    9 = [Ecx of 0x8000_0001 / 0], "CPUID leaf 8000_0001H, ECX (AMD APM vol. 3, appendix E)": {}
    10 = [Edx of 0x8000_0001 / 0], "CPUID leaf 8000_0001H, EDX (AMD APM vol. 3, appendix E)": {
        /// RDTSCP.
        RDTSCP = 27;
    }
    11 = [facts], "the facts that are no bit of CPUID": {
        /// The vendor that CPUID leaf 0 names is Intel (`GenuineIntel`).
        INTEL = 0;
        /// The vendor that CPUID leaf 0 names is AMD (`AuthenticAMD`).
        AMD = 1;
    }
    12 = [cr4], "CR4 (SDM vol. 3A, \"Control Registers\")": {
        /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE are switched on: CR4.FSGSBASE.
        FSGSBASE_ENABLED = 16;
        /// Supervisor-mode access prevention is switched on: CR4.SMAP.
        SMAP_ENABLED = 21;
    }
    13 = [xcr0], "XCR0 (SDM vol. 1, \"Managing State Using the XSAVE Feature Set\")": {
        /// XSAVE may save x87 state. The bit is always 1.
        XCR0_X87 = 0;
        /// XSAVE may save the XMM registers.
        XCR0_SSE = 1;
        /// XSAVE may save the upper halves of the YMM registers.
        XCR0_AVX = 2;
    }
}
