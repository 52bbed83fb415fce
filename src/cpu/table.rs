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
    /// Facts that are no bit of CPUID: vendor and hypervisor. `detect.rs` finds them.
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
        /// The SSE3 instructions.
        SSE3 = 0;
        /// PCLMULQDQ.
        PCLMULQDQ = 1;
        /// MONITOR and MWAIT.
        MONITOR = 3;
        /// Virtualization by VMX. Firmware can have switched it off.
        VMX = 5;
        /// The SSSE3 instructions.
        SSSE3 = 9;
        /// Fused multiply and add.
        FMA = 12;
        /// CMPXCHG16B.
        CMPXCHG16B = 13;
        /// Process-context identifiers in CR3.
        PCID = 17;
        /// The SSE4.1 instructions.
        SSE4_1 = 19;
        /// The SSE4.2 instructions.
        SSE4_2 = 20;
        /// The interrupt controller can be used by MSRs.
        X2APIC = 21;
        /// MOVBE.
        MOVBE = 22;
        /// POPCNT.
        POPCNT = 23;
        /// The timer of the interrupt controller can wait for a value of the time-stamp counter.
        TSC_DEADLINE = 24;
        /// The AES instructions.
        AESNI = 25;
        /// XSAVE, XRSTOR, XSETBV and XGETBV.
        XSAVE = 26;
        /// The operating system has switched XSAVE on: CR4.OSXSAVE.
        OSXSAVE = 27;
        /// The AVX instructions. They also need XCR0.
        AVX = 28;
        /// Conversion of floats of 16 bits.
        F16C = 29;
        /// RDRAND.
        RDRAND = 30;
        /// The CPU is virtual. Intel and AMD have no such CPU; hypervisors set the bit.
        HYPERVISOR = 31;
    }
    3 = [Edx of 1 / 0], "CPUID leaf 1, EDX (SDM vol. 2A, \"CPUID\")": {
        /// An x87 unit.
        FPU = 0;
        /// Extensions of the virtual 8086 mode.
        VME = 1;
        /// Pages of 4 MiB.
        PSE = 3;
        /// RDTSC.
        TSC = 4;
        /// RDMSR and WRMSR.
        MSR = 5;
        /// Page-table entries of 64 bits.
        PAE = 6;
        /// CMPXCHG8B.
        CMPXCHG8B = 8;
        /// A local interrupt controller.
        APIC = 9;
        /// SYSENTER and SYSEXIT.
        SEP = 11;
        /// Memory-type range registers.
        MTRR = 12;
        /// Global pages.
        PGE = 13;
        /// CMOV, and FCOMI if there is an x87 unit.
        CMOV = 15;
        /// The page attribute table.
        PAT = 16;
        /// Pages of 4 MiB above 4 GiB.
        PSE_36 = 17;
        /// CLFLUSH.
        CLFSH = 19;
        /// The MMX instructions.
        MMX = 23;
        /// FXSAVE and FXRSTOR.
        FXSR = 24;
        /// The SSE instructions.
        SSE = 25;
        /// The SSE2 instructions.
        SSE2 = 26;
        /// The CPU snoops its own caches.
        SELF_SNOOP = 27;
        /// The package may have several logical processors.
        HTT = 28;
    }
    4 = [Ebx of 7 / 0], "CPUID leaf 7, sub-leaf 0, EBX (SDM vol. 2A, \"CPUID\")": {
        /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE. They raise #UD until the operating system has
        /// switched them on: [`FSGSBASE_ENABLED`](Self::FSGSBASE_ENABLED).
        FSGSBASE = 0;
        /// The MSR that adjusts the time-stamp counter.
        TSC_ADJUST = 1;
        /// The first group of bit-manipulation instructions.
        BMI1 = 3;
        /// Hardware lock elision.
        HLE = 4;
        /// The AVX2 instructions. They also need XCR0.
        AVX2 = 5;
        /// Supervisor-mode execution prevention.
        SMEP = 7;
        /// The second group of bit-manipulation instructions.
        BMI2 = 8;
        /// REP MOVSB and REP STOSB are fast for long ranges.
        ERMS = 9;
        /// INVPCID.
        INVPCID = 10;
        /// Restricted transactional memory.
        RTM = 11;
        /// Memory protection extensions.
        MPX = 14;
        /// The foundation of AVX-512. It also needs XCR0.
        AVX512F = 16;
        /// AVX-512 for double and quad words.
        AVX512DQ = 17;
        /// RDSEED.
        RDSEED = 18;
        /// ADCX and ADOX.
        ADX = 19;
        /// Supervisor-mode access prevention, and the instructions STAC and CLAC.
        SMAP = 20;
        /// AVX-512 fused multiply and add of integers.
        AVX512_IFMA = 21;
        /// CLFLUSHOPT.
        CLFLUSHOPT = 23;
        /// CLWB.
        CLWB = 24;
        /// Processor trace.
        INTEL_PT = 25;
        /// AVX-512 conflict detection.
        AVX512CD = 28;
        /// The SHA instructions.
        SHA = 29;
        /// AVX-512 for bytes and words.
        AVX512BW = 30;
        /// AVX-512 for shorter vectors.
        AVX512VL = 31;
    }
    5 = [Ecx of 7 / 0], "CPUID leaf 7, sub-leaf 0, ECX (SDM vol. 2A, \"CPUID\")": {
        /// AVX-512 manipulation of bytes.
        AVX512_VBMI = 1;
        /// User-mode instruction prevention.
        UMIP = 2;
        /// Protection keys for user pages.
        PKU = 3;
        /// The operating system has switched protection keys on: CR4.PKE.
        OSPKE = 4;
        /// TPAUSE, UMONITOR and UMWAIT.
        WAITPKG = 5;
        /// AVX-512 manipulation of bytes, second group.
        AVX512_VBMI2 = 6;
        /// Shadow stacks.
        CET_SS = 7;
        /// The Galois-field instructions.
        GFNI = 8;
        /// The AES instructions on vectors.
        VAES = 9;
        /// PCLMULQDQ on vectors.
        VPCLMULQDQ = 10;
        /// AVX-512 neural-network instructions.
        AVX512_VNNI = 11;
        /// AVX-512 bit algorithms.
        AVX512_BITALG = 12;
        /// AVX-512 counts of set bits.
        AVX512_VPOPCNTDQ = 14;
        /// Linear addresses of 57 bits.
        LA57 = 16;
        /// RDPID.
        RDPID = 22;
        /// A trap on bus locks.
        BUS_LOCK_DETECT = 24;
        /// CLDEMOTE.
        CLDEMOTE = 25;
        /// MOVDIRI.
        MOVDIRI = 27;
        /// MOVDIR64B.
        MOVDIR64B = 28;
        /// ENQCMD.
        ENQCMD = 29;
        /// Protection keys for supervisor pages.
        PKS = 31;
    }
    6 = [Edx of 7 / 0], "CPUID leaf 7, sub-leaf 0, EDX (SDM vol. 2A, \"CPUID\")": {
        /// REP MOVSB is fast for short ranges, too.
        FSRM = 4;
        /// User interrupts.
        UINTR = 5;
        /// VERW also overwrites the CPU's buffers.
        MD_CLEAR = 10;
        /// SERIALIZE.
        SERIALIZE = 14;
        /// The machine has CPUs that differ. Use what they have in common, by
        /// `Features::intersection`.
        HYBRID = 15;
        /// Transactions can suspend the tracking of loads.
        TSXLDTRK = 16;
        /// Indirect branch tracking.
        CET_IBT = 20;
        /// Tiles of bfloat16.
        AMX_BF16 = 22;
        /// AVX-512 for floats of 16 bits.
        AVX512_FP16 = 23;
        /// Tiles.
        AMX_TILE = 24;
        /// Tiles of bytes.
        AMX_INT8 = 25;
        /// The MSRs that restrict and forget predictions of indirect branches.
        IBRS_IBPB = 26;
        /// The MSR that separates the predictions of two threads.
        STIBP = 27;
        /// The MSR that flushes the first data cache.
        L1D_FLUSH = 28;
        /// The MSR IA32_ARCH_CAPABILITIES.
        ARCH_CAPABILITIES = 29;
        /// The MSR that disables the speculative bypass of stores.
        SSBD = 31;
    }
    7 = [Eax of 7 / 1], "CPUID leaf 7, sub-leaf 1, EAX (SDM vol. 2A, \"CPUID\")": {
        /// Neural-network instructions for AVX.
        AVX_VNNI = 4;
        /// AVX-512 for bfloat16.
        AVX512_BF16 = 5;
        /// Linear-address space separation.
        LASS = 6;
        /// REP MOVSB of length zero is fast.
        FZRM = 10;
        /// REP STOSB is fast for short ranges.
        FSRS = 11;
        /// REP CMPSB and REP SCASB are fast for short ranges.
        FSRC = 12;
        /// Flexible return and event delivery.
        FRED = 17;
        /// LKGS.
        LKGS = 18;
        /// WRMSRNS.
        WRMSRNS = 19;
        /// Tiles of floats of 16 bits.
        AMX_FP16 = 21;
        /// Linear-address masking.
        LAM = 26;
    }
    8 = [Eax of 0xd / 1], "CPUID leaf 0DH, sub-leaf 1, EAX (SDM vol. 2A, \"CPUID\")": {
        /// XSAVEOPT.
        XSAVEOPT = 0;
        /// XSAVEC, and the compacted form of XRSTOR.
        XSAVEC = 1;
        /// XGETBV with ECX = 1.
        XGETBV_1 = 2;
        /// XSAVES and XRSTORS.
        XSAVES = 3;
        /// Extended feature disable.
        XFD = 4;
    }
    9 = [Ecx of 0x8000_0001 / 0], "CPUID leaf 8000_0001H, ECX (AMD APM vol. 3, \"CPUID\" and appendix E)": {
        /// LAHF and SAHF in 64-bit mode.
        LAHF_SAHF = 0;
        /// Virtualization by SVM. Firmware can have switched it off.
        SVM = 2;
        /// LZCNT.
        ABM = 5;
        /// The SSE4A instructions.
        SSE4A = 6;
        /// SSE operands need not be aligned.
        MISALIGN_SSE = 7;
        /// PREFETCHW.
        PREFETCHW = 8;
        /// The XOP instructions.
        XOP = 11;
        /// Fused multiply and add with four operands.
        FMA4 = 16;
        /// The leaves that describe the topology.
        TOPOLOGY_EXTENSIONS = 22;
        /// MONITORX and MWAITX.
        MONITORX = 29;
    }
    10 = [Edx of 0x8000_0001 / 0], "CPUID leaf 8000_0001H, EDX (AMD APM vol. 3, \"CPUID\" and appendix E)": {
        /// SYSCALL and SYSRET. Intel's CPUs say so in 64-bit mode only.
        SYSCALL = 11;
        /// Pages that cannot be executed.
        NX = 20;
        /// AMD's extensions of MMX.
        MMXEXT = 22;
        /// FXSAVE and FXRSTOR can leave out the XMM registers.
        FFXSR = 25;
        /// Pages of 1 GiB.
        PAGE_1GB = 26;
        /// RDTSCP.
        RDTSCP = 27;
        /// 64-bit mode.
        LONG_MODE = 29;
    }
    11 = [Edx of 0x8000_0007 / 0], "CPUID leaf 8000_0007H, EDX (AMD APM vol. 3, \"CPUID\" and appendix E)": {
        /// The time-stamp counter has one rate in all states of the CPU.
        INVARIANT_TSC = 8;
    }
    12 = [Ebx of 0x8000_0008 / 0], "CPUID leaf 8000_0008H, EBX (AMD APM vol. 3, \"CPUID\" and appendix E)": {
        /// CLZERO.
        CLZERO = 0;
        /// INVLPGB and TLBSYNC.
        INVLPGB = 3;
        /// WBNOINVD.
        WBNOINVD = 9;
        /// The MSR that forgets predictions of indirect branches, on AMD's CPUs.
        AMD_IBPB = 12;
        /// The MSR that restricts predictions of indirect branches, on AMD's CPUs.
        AMD_IBRS = 14;
        /// The MSR that separates the predictions of two threads, on AMD's CPUs.
        AMD_STIBP = 15;
        /// The MSR that disables the speculative bypass of stores, on AMD's CPUs.
        AMD_SSBD = 24;
    }
    13 = [Eax of 0x8000_0021 / 0], "CPUID leaf 8000_0021H, EAX (AMD APM vol. 3, \"CPUID\" and appendix E)": {
        /// LFENCE waits for all earlier instructions, whatever MSRs say.
        LFENCE_SERIALIZING = 2;
        /// Loading a null selector clears the base of FS or GS.
        NULL_SELECTOR_CLEARS_BASE = 6;
        /// Predictions of indirect branches are restricted without writing an MSR each time.
        AUTOMATIC_IBRS = 8;
    }
    14 = [facts], "the facts that are no bit of CPUID: who made the CPU (leaf 0), and which hypervisor it runs on (leaf 4000_0000H)": {
        /// The vendor is Intel (`GenuineIntel`).
        INTEL = 0;
        /// The vendor is AMD (`AuthenticAMD`).
        AMD = 1;
        /// The vendor is Hygon (`HygonGenuine`).
        HYGON = 2;
        /// The vendor is Centaur (`CentaurHauls`).
        CENTAUR = 3;
        /// The vendor is Zhaoxin (`  Shanghai  `).
        ZHAOXIN = 4;
        /// The hypervisor is KVM.
        KVM = 8;
        /// The hypervisor is Hyper-V, or another one that offers its interface.
        HYPER_V = 9;
        /// The hypervisor is Xen.
        XEN = 10;
        /// The hypervisor is VMware.
        VMWARE = 11;
        /// The hypervisor is the emulation of QEMU.
        TCG = 12;
        /// The CPU is in a guest that TDX protects (leaf 21H, `IntelTDX`).
        TDX_GUEST = 16;
    }
    15 = [cr4], "CR4 (SDM vol. 3A, \"Control Registers\")": {
        /// Page-table entries have 64 bits: CR4.PAE.
        PAE_ENABLED = 5;
        /// Global pages are switched on: CR4.PGE.
        PGE_ENABLED = 7;
        /// FXSAVE and FXRSTOR include the XMM registers: CR4.OSFXSR.
        OSFXSR_ENABLED = 9;
        /// User-mode instruction prevention is switched on: CR4.UMIP.
        UMIP_ENABLED = 11;
        /// Linear addresses have 57 bits: CR4.LA57.
        LA57_ENABLED = 12;
        /// RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE are switched on: CR4.FSGSBASE.
        FSGSBASE_ENABLED = 16;
        /// Process-context identifiers are switched on: CR4.PCIDE.
        PCID_ENABLED = 17;
        /// Supervisor-mode execution prevention is switched on: CR4.SMEP.
        SMEP_ENABLED = 20;
        /// Supervisor-mode access prevention is switched on: CR4.SMAP.
        SMAP_ENABLED = 21;
        /// Protection keys for user pages are switched on: CR4.PKE.
        PKE_ENABLED = 22;
        /// Control-flow enforcement is switched on: CR4.CET.
        CET_ENABLED = 23;
        /// Protection keys for supervisor pages are switched on: CR4.PKS.
        PKS_ENABLED = 24;
    }
    16 = [xcr0], "XCR0 (SDM vol. 1, \"Managing State Using the XSAVE Feature Set\")": {
        /// XSAVE may save x87 state. The bit is always 1.
        XCR0_X87 = 0;
        /// XSAVE may save the XMM registers.
        XCR0_SSE = 1;
        /// XSAVE may save the upper halves of the YMM registers.
        XCR0_AVX = 2;
        /// XSAVE may save the mask registers of AVX-512.
        XCR0_OPMASK = 5;
        /// XSAVE may save the upper halves of the ZMM registers.
        XCR0_ZMM_HI256 = 6;
        /// XSAVE may save the upper sixteen ZMM registers.
        XCR0_HI16_ZMM = 7;
        /// XSAVE may save the rights of protection keys.
        XCR0_PKRU = 9;
        /// XSAVE may save the configuration of tiles.
        XCR0_TILECFG = 17;
        /// XSAVE may save the data of tiles.
        XCR0_TILEDATA = 18;
    }
}
