//! Features of the CPU as Linux numbers them: 32 times a word, plus a bit. A word is either a
//! register of CPUID or Linux' own. Behind the words of features stand words of the CPU's faults.
//!
//! In Linux' own words a number can mean different things in kernels of different age. A name is
//! therefore taken from the kernel's file where it has one, in the array for `/proc/cpuinfo`; and
//! of those that this file does not show, only names are known here whose number has never moved
//! between 5.10 and 7.3.

mod names;
mod words;

use std::collections::BTreeMap;

use crate::cpu::FeatureWord;
use crate::inspect::cpu::{CpuSpec, feature_named};
use crate::inspect::error::FileError;
use crate::inspect::near::{did_you_mean, near};

use words::{WORDS, WordSource, number_of_place};

pub(crate) use names::FeatureNames;

/// Numbers of features that rules ask for: 32 times the word, plus the bit. All kernels with the
/// tables whose sites depend on them have these numbers.
pub(crate) mod feature {
    /// Indirect branches go through thunks.
    pub(crate) const RETPOLINE: u16 = 11 * 32 + 12;
    /// Indirect branches have an LFENCE in front of them.
    pub(crate) const RETPOLINE_LFENCE: u16 = 11 * 32 + 13;
    /// Calls are counted, in kernels that have a template for it.
    pub(crate) const CALL_DEPTH: u16 = 11 * 32 + 19;
    /// Returns go through a thunk.
    pub(crate) const RETHUNK: u16 = 11 * 32 + 14;
    /// Every CPU has it.
    pub(crate) const ALWAYS: u16 = 3 * 32 + 21;
}

/// Bits of CPUID's words that Linux clears on its own account in some kernels or on some CPUs: for
/// a fault of the CPU, or because it does not use them. Where CPUID says that they are there they
/// are not known to be.
const CLEARED: &[u16] = &[
    9,            // APIC
    11,           // SYSENTER
    28,           // hyper-threading
    4 * 32 + 3,   // MONITOR
    4 * 32 + 5,   // VMX
    4 * 32 + 21,  // x2APIC
    4 * 32 + 24,  // TSC deadline
    4 * 32 + 27,  // XSAVE is switched on
    4 * 32 + 30,  // RDRAND
    6 * 32 + 2,   // SVM
    9 * 32 + 2,   // SGX
    9 * 32 + 4,   // HLE
    9 * 32 + 9,   // fast REP MOVSB
    9 * 32 + 11,  // RTM
    9 * 32 + 14,  // MPX
    9 * 32 + 18,  // RDSEED
    10 * 32 + 3,  // XSAVES
    12 * 32 + 17, // FRED
    12 * 32 + 26, // masking of linear addresses
    16 * 32 + 3,  // protection keys
    16 * 32 + 4,  // protection keys are switched on
    16 * 32 + 7,  // shadow stacks
    16 * 32 + 16, // linear addresses of 57 bits
    16 * 32 + 29, // ENQCMD
    18 * 32 + 19, // last branch records
    18 * 32 + 20, // tracking of indirect branches
];

/// Bits of CPUID's words that Linux sets on its own account.
const SET: &[u16] = &[
    28,           // hyper-threading
    32 + 11,      // SYSCALL
    32 + 20,      // NX
    4 * 32 + 27,  // XSAVE is switched on
    4 * 32 + 30,  // RDRAND
    6 * 32 + 1,   // hyper-threading is several cores
    6 * 32 + 8,   // PREFETCHW
    6 * 32 + 22,  // topology extensions
    13 * 32 + 29, // no confusion of branch types
    16 * 32 + 4,  // protection keys are switched on
    20 * 32 + 2,  // LFENCE waits
    20 * 32 + 6,  // a null selector clears the base
    20 * 32 + 27, // selective barrier of predictions
    20 * 32 + 28, // the barrier forgets types of branches
    20 * 32 + 29, // no speculative return stack overflow
];

/// The features of the CPU as the kernel has noted them, by the kernel's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelFeatures {
    /// The bits that are set, of those that are known.
    words: Vec<u32>,
    /// The bits whose state is known.
    known: Vec<u32>,
    /// Bits that are taken from the text, by number.
    inferred: BTreeMap<u16, bool>,
}

impl KernelFeatures {
    /// Makes the features of the words that the kernel has in memory.
    pub(crate) fn new(words: Vec<u32>) -> Self {
        let known = vec![u32::MAX; words.len()];
        Self { words, known, inferred: BTreeMap::new() }
    }

    /// Makes features of which only the one is known that every CPU has.
    pub(crate) fn unknown() -> Self {
        let mut features = Self { words: vec![], known: vec![], inferred: BTreeMap::new() };
        features.put(feature::ALWAYS, true);
        features
    }

    /// Makes features of which only these are known.
    pub(crate) fn of(known: impl Iterator<Item = (u16, bool)>) -> Self {
        let mut features = Self::unknown();
        known.for_each(|(number, is_set)| features.put(number, is_set));
        features
    }

    /// Returns the features that the kernel finds on a CPU, of which what only the kernel decides is
    /// not known; and what the command line says of features by their name, Linux' or another.
    ///
    /// # Errors
    /// Returns an error for a name that no feature of the kernel has.
    pub(crate) fn of_cpu(cpu: &CpuSpec, names: &FeatureNames) -> Result<Self, FileError> {
        let mut features = Self::unknown();
        let words = names.words.unwrap_or(20).min(WORDS.len());
        for (word, source) in (0..).zip(WORDS.into_iter().take(words)) {
            let WordSource::Cpuid(leaf, sub_leaf, register) = source else { continue };
            let Some(value) = cpu.register(leaf, sub_leaf, register) else { continue };
            for bit in 0..32 {
                let number = word * 32 + bit;
                let is_set = value >> bit & 1 == 1;
                let can_change = if is_set { CLEARED } else { SET };
                if !can_change.contains(&number) {
                    features.put(number, is_set);
                }
            }
        }
        for (name, is_on) in cpu.changes() {
            let number = names.number(name).or_else(|| number_of_cpuid(name)).ok_or_else(|| {
                FileError::new(format!(
                    "`{name}` is no feature that this kernel has a name for{} (a number is \
                     written as `11*32+14`)",
                    did_you_mean(&near(name, names.all()))
                ))
            })?;
            features.put(number, is_on);
        }
        Ok(features)
    }

    /// Notes that a feature is there or is not.
    fn put(&mut self, number: u16, is_set: bool) {
        let (word, bit) = (usize::from(number / 32), 1 << (number % 32));
        for words in [&mut self.words, &mut self.known] {
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
        }
        if let (Some(value), Some(known)) = (self.words.get_mut(word), self.known.get_mut(word)) {
            *known |= bit;
            if is_set {
                *value |= bit;
            } else {
                *value &= !bit;
            }
        }
    }

    /// Returns whether the CPU has a feature, if that is known. A kernel has no feature beyond its
    /// words, if these were read.
    pub(crate) fn has(&self, number: u16) -> Option<bool> {
        let (word, bit) = (usize::from(number / 32), number % 32);
        let known = self.known.get(word).copied().unwrap_or_else(|| {
            // All words are there if the first is known as a whole.
            if self.is_complete() { u32::MAX } else { 0 }
        });
        let value = self.words.get(word).copied().unwrap_or(0);
        (known >> bit & 1 == 1).then_some(value >> bit & 1 == 1)
    }

    /// Returns whether the state of every feature is known.
    pub(crate) fn is_complete(&self) -> bool {
        !self.known.is_empty() && self.known.iter().all(|&known| known == u32::MAX)
    }

    /// Returns whether the CPU has a feature: as it is known, else as the text says, if it was
    /// asked.
    pub(crate) fn has_or_inferred(&self, number: u16) -> Option<bool> {
        self.has(number).or_else(|| self.inferred.get(&number).copied())
    }

    /// Notes what the text says of a feature of which nothing else is known.
    pub(crate) fn infer(&mut self, number: u16, is_set: bool) {
        self.inferred.insert(number, is_set);
    }

    /// Returns the numbers of features that both know, and that only one of them has.
    pub(crate) fn contradictions(&self, other: &Self) -> Vec<u16> {
        let numbers = 0..u16::try_from(self.words.len().min(other.words.len()) * 32).unwrap_or(0);
        let differs = |&number: &u16| match (self.has(number), other.has(number)) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        };
        numbers.filter(differs).collect()
    }

    /// Returns how many features were inferred from the text.
    pub(crate) fn inferred(&self) -> usize {
        self.inferred.len()
    }

    /// Returns how many words there are.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }
}

/// Returns the number of a feature that CPUID tells, by its name here or in QEMU.
fn number_of_cpuid(name: &str) -> Option<u16> {
    let (FeatureWord::Cpuid { leaf, sub_leaf, register }, bit) = feature_named(name)?.place()
    else {
        return None;
    };
    number_of_place(leaf, sub_leaf, register, bit)
}
