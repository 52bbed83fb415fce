//! What a command line says of a CPU: `MODEL,+name,-name`. QEMU has the same syntax.

use std::collections::BTreeSet;

use super::models::{TCG, names, registers_of};
use super::registers::{CpuidValues, switched_on};
use crate::cpu::{CpuidRegister, Feature, FeatureWord, Features};
use crate::insn::Width;
use crate::inspect::error::FileError;
use crate::inspect::formats::VariantImage;
use crate::inspect::near::{did_you_mean, near};

/// Names of features, and whether the CPU has each.
type Changes = Vec<(String, bool)>;

/// A CPU to plan for: a model or a dump, and features that are switched on or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSpec {
    /// The words on the command line, without the features behind them.
    name: String,
    /// What CPUID says; of several CPUs if these differ.
    cpus: Vec<CpuidValues>,
    /// Whether QEMU emulates the CPU.
    is_emulated: bool,
    /// What the command line says of features, in its order.
    changes: Changes,
}

impl CpuSpec {
    /// Returns the CPU of these words: the name of a QEMU model, and behind commas `+name`,
    /// `-name`, `name=on` or `name=off`. With `tcg`, the CPU has only what QEMU's own emulation has
    /// in programs of this width; `max` is then all of it.
    ///
    /// # Errors
    /// Returns an error for an unknown model, which names those that are near.
    pub fn model(words: &str, tcg: Option<Width>) -> Result<Self, FileError> {
        let (name, changes) = parts(words)?;
        let emulated = tcg.map(|width| {
            let [wide, narrow] = TCG;
            if width == Width::Bits64 { wide } else { narrow }
        });
        let mut cpus: Vec<CpuidValues> = emulated.and_then(registers_of).into_iter().collect();
        match name {
            "max" | "host" if cpus.is_empty() || name == "host" => {
                return Err(FileError::new(format!(
                    "`{name}` is what one machine has: say `--accel tcg` with `max` for all that \
                     QEMU's own emulation has, or give a dump of the machine (`cpuid -r`), \
                     `--cpu @FILE`"
                )));
            }
            "max" => {}
            _ => cpus
                .push(registers_of(name).filter(|_| !TCG.contains(&name)).ok_or_else(|| {
                let all = near(name, names());
                FileError::new(format!(
                    "no CPU model is called `{name}`{} (`qemu-system-x86_64 -cpu help` lists them, \
                     and `--cpu @FILE` takes a dump of another by `cpuid -r`)",
                    did_you_mean(&all)
                ))
            })?),
        }
        Ok(Self { name: name.to_owned(), cpus, is_emulated: tcg.is_some(), changes })
    }

    /// Returns the CPU of a dump, the output of `cpuid -r`. Of several CPUs in it, what all of them
    /// have counts. `words` is the name of the file, and behind commas what [`model`](Self::model)
    /// takes.
    ///
    /// # Errors
    /// Returns an error if the text is no such dump.
    pub fn dump(words: &str, text: &str) -> Result<Self, FileError> {
        let (name, changes) = parts(words)?;
        let cpus = CpuidValues::of_dump(text)?;
        Ok(Self { name: name.to_owned(), cpus, is_emulated: false, changes })
    }

    /// Returns the name of the model or file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the bits of a register of CPUID that all CPUs have, or `None` if it is not known.
    pub(crate) fn register(
        &self,
        leaf: u32,
        sub_leaf: u32,
        register: CpuidRegister,
    ) -> Option<u32> {
        let mut values = self.cpus.iter().map(|cpu| cpu.register(leaf, sub_leaf, register));
        let first = values.next()??;
        values.try_fold(first, |all, value| Some(all & value?))
    }

    /// Returns what the command line says of features: names, and whether the CPU has each.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (&str, bool)> {
        self.changes.iter().map(|(name, is_on)| (&**name, *is_on))
    }

    /// Returns what the CPU has, as far as the conditions of these variants ask for it.
    ///
    /// Features that an operating system switches on are there where the CPU has what they are
    /// about, and a kernel's own are not, unless the command line says otherwise.
    ///
    /// # Errors
    /// Returns an error for a name that is no feature and stands in no condition.
    pub fn features(&self, variants: &[VariantImage<'_>]) -> Result<CpuFeatures, FileError> {
        // A vendor is what the model says, also under an emulation of another vendor's.
        let mut all = self.cpus.last().map_or(Features::EMPTY, CpuidValues::features);
        if self.is_emulated && all.has(Feature::HYPERVISOR) {
            all = all.with(Feature::TCG);
        }
        let mut xcr0 = u32::MAX;
        for cpu in &self.cpus {
            let has = cpu.features();
            for (_, feature) in Feature::named() {
                let is_fact = feature.place().0 == FeatureWord::Facts;
                if !is_fact && !has.has(feature) {
                    all = all.without(feature);
                }
            }
            xcr0 &= cpu.xcr0();
        }
        let own_names = || variants.iter().flat_map(VariantImage::requirements).map(|word| word.0);
        let mut own = BTreeSet::new();
        let mut switched = Vec::new();
        for (word, is_on) in &self.changes {
            let is_meant = |name: &&str| is_same(name, word);
            if let Some(feature) = feature_named(word) {
                all = if *is_on { all.with(feature) } else { all.without(feature) };
                switched.push((feature, *is_on));
            } else if let Some(name) = own_names().find(is_meant) {
                if *is_on {
                    own.insert(name.to_owned());
                } else {
                    own.remove(name);
                }
            } else {
                let known = Feature::named().map(|(name, _)| name).chain(own_names());
                let close = near(&word.replace(['-', '.'], "_"), known);
                return Err(FileError::new(format!(
                    "`{word}` is no feature that is known here, and stands in no condition of the \
                     file{}",
                    did_you_mean(&close)
                )));
            }
        }
        let mut features = switched_on(all, xcr0);
        // What the command line says of a feature that an operating system switches on counts more
        // than what follows from the CPU.
        for (feature, is_on) in switched {
            features = if is_on { features.with(feature) } else { features.without(feature) };
        }
        Ok(CpuFeatures { features, own })
    }
}

/// Takes words apart: the name, and the features behind it.
fn parts(words: &str) -> Result<(&str, Changes), FileError> {
    let mut parts = words.split(',').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let mut changes = Vec::new();
    for part in parts {
        let (feature, is_on) =
            match (part.strip_prefix('+'), part.strip_prefix('-'), part.split_once('=')) {
                (Some(feature), ..) => (feature, true),
                (_, Some(feature), _) => (feature, false),
                (.., Some((feature, "on"))) => (feature, true),
                (.., Some((feature, "off"))) => (feature, false),
                _ => {
                    return Err(FileError::new(format!(
                        "`{part}` behind the CPU is neither `+name` nor `-name`"
                    )));
                }
            };
        changes.push((feature.to_owned(), is_on));
    }
    Ok((name, changes))
}

/// Returns whether a word of the command line is this name: case does not count, and `-` and `.`
/// stand for `_`, as QEMU has them in names.
pub(crate) fn is_same(name: &str, word: &str) -> bool {
    name.eq_ignore_ascii_case(&word.replace(['-', '.'], "_"))
}

/// Returns the feature that a word of the command line names, by the name here or by QEMU's.
pub(crate) fn feature_named(word: &str) -> Option<Feature> {
    let same = |name: &str| is_same(name, word);
    let alias = ALIASES.iter().find(|alias| same(alias.0)).map(|alias| alias.1);
    let mut named = Feature::named();
    named.find(|(name, _)| same(name) || alias == Some(name)).map(|(_, feature)| feature)
}

/// QEMU's names of features, with `_` for `-` and `.`, where they differ from those here.
const ALIASES: &[(&str, &str)] = &[
    ("3dnowprefetch", "PREFETCHW"),
    ("aes", "AESNI"),
    ("avx512bitalg", "AVX512_BITALG"),
    ("avx512ifma", "AVX512_IFMA"),
    ("avx512vbmi", "AVX512_VBMI"),
    ("avx512vbmi2", "AVX512_VBMI2"),
    ("avx512vnni", "AVX512_VNNI"),
    ("clflush", "CLFSH"),
    ("cx16", "CMPXCHG16B"),
    ("cx8", "CMPXCHG8B"),
    ("fxsr_opt", "FFXSR"),
    ("ht", "HTT"),
    ("ibpb", "AMD_IBPB"),
    ("ibrs", "AMD_IBRS"),
    ("invtsc", "INVARIANT_TSC"),
    ("lahf_lm", "LAHF_SAHF"),
    ("lm", "LONG_MODE"),
    ("misalignsse", "MISALIGN_SSE"),
    ("pdpe1gb", "PAGE_1GB"),
    ("pni", "SSE3"),
    ("pse36", "PSE_36"),
    ("sha_ni", "SHA"),
    ("spec_ctrl", "IBRS_IBPB"),
    ("ss", "SELF_SNOOP"),
    ("topoext", "TOPOLOGY_EXTENSIONS"),
    ("tsx_ldtrk", "TSXLDTRK"),
    ("xd", "NX"),
    ("xgetbv1", "XGETBV_1"),
];

/// The features that variants are selected by on one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuFeatures {
    features: Features,
    /// The names of the kernel's own features that are there.
    own: BTreeSet<String>,
}

impl CpuFeatures {
    /// Returns whether the CPU, or the kernel, has the feature of this name in a condition.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        Feature::find(name)
            .map_or_else(|| self.own.contains(name), |feature| self.features.has(feature))
    }

    /// Returns whether a variant is eligible.
    #[must_use]
    pub fn meets(&self, variant: &VariantImage<'_>) -> bool {
        variant.requirements().all(|(name, is_present)| self.has(name) == is_present)
    }

    /// Returns the last eligible of the variants of an op, which are in the order of its list.
    #[must_use]
    pub fn select<'v, 'd>(&self, variants: &'v [VariantImage<'d>]) -> Option<&'v VariantImage<'d>> {
        variants.iter().rev().find(|variant| self.meets(variant))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIASES, feature_named};
    use crate::cpu::Feature;

    /// Checks that each of QEMU's names stands for a feature, and for none of its own.
    #[test]
    fn aliases_are_of_features() {
        for (alias, name) in ALIASES {
            assert!(Feature::find(name).is_some(), "{name}");
            assert!(Feature::find(&alias.to_uppercase()).is_none(), "{alias}");
            assert_eq!(feature_named(&alias.replace('_', "-")), Feature::find(name), "{alias}");
        }
        assert_eq!(feature_named("sse4.1"), Some(Feature::SSE4_1));
        assert_eq!(feature_named("own"), None);
    }
}
