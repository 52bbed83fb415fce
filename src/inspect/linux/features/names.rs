//! Names of features, as Linux has them.

use std::collections::BTreeMap;

use super::words::place;
use crate::cpu::{Feature, FeatureWord};
use crate::inspect::cpu::is_same;
use crate::inspect::elf::{Image, little_endian};
use crate::inspect::linux::names::Names;

/// Names that `/proc/cpuinfo` does not show, of Linux' own words, with numbers that have not moved
/// from 5.10 (with the mitigations of 2022) to 7.3.
const HIDDEN: &[(u16, &str)] = &[
    (3 * 32 + 21, "always"),
    (7 * 32 + 16, "msr_spec_ctrl"),
    (7 * 32 + 19, "rsb_ctxsw"),
    (7 * 32 + 21, "use_ibpb"),
    (7 * 32 + 22, "use_ibrs_fw"),
    (7 * 32 + 23, "spec_store_bypass_disable"),
    (7 * 32 + 24, "ls_cfg_ssbd"),
    (7 * 32 + 28, "zen"),
    (7 * 32 + 29, "l1tf_pteinv"),
    (7 * 32 + 31, "msr_ia32_feat_ctl"),
    (8 * 32 + 16, "xenpv"),
    (8 * 32 + 18, "vmcall"),
    (8 * 32 + 19, "vmw_vmmcall"),
    (11 * 32 + 4, "fence_swapgs_user"),
    (11 * 32 + 5, "fence_swapgs_kernel"),
    (11 * 32 + 10, "entry_ibpb"),
    (11 * 32 + 12, "retpoline"),
    (11 * 32 + 13, "retpoline_lfence"),
    (11 * 32 + 14, "rethunk"),
    (11 * 32 + 15, "unret"),
    (11 * 32 + 24, "srso"),
    (11 * 32 + 25, "srso_alias"),
];

/// The names of the features and faults of CPUs that a kernel knows.
#[derive(Debug, Default)]
pub(crate) struct FeatureNames {
    names: BTreeMap<u16, String>,
    /// How many words of features there are, if the file says it. Behind them are words of faults.
    pub words: Option<usize>,
}

impl FeatureNames {
    /// Reads the names from the arrays of a file: pointers to texts, with null for what is not
    /// shown. They are found by their symbol, else by a text that only one of them has.
    pub(crate) fn read(image: &Image<'_>, names: &Names) -> Self {
        let mut found = Self::default();
        /// More words of features than there are.
        const MOST_WORDS: usize = 32;
        /// The first names of the array behind it, of properties of power management.
        const POWER: [&str; 3] = ["ts", "fid", "vid"];
        let features = Array::find(image, names, "x86_cap_flags", "constant_tsc", 3 * 32 + 8);
        let Some(cpu) = features else { return found };
        for word in 0..MOST_WORDS {
            let is_power = POWER
                .iter()
                .enumerate()
                .all(|(at, name)| cpu.text(word * 32 + at).as_deref() == Some(*name));
            if is_power {
                found.words = Some(word);
                break;
            }
            let shown = (word * 32..word * 32 + 32).map(|at| (at, cpu.text(at)));
            for (at, name) in shown {
                if let (Ok(number), Some(name)) = (u16::try_from(at), name) {
                    found.names.insert(number, name);
                }
            }
        }
        let Some(words) = found.words else {
            // Where the array ends is not known, so what is behind the words of all kernels can
            // be another thing.
            found.names.retain(|&number, _| number < 20 * 32);
            return found;
        };
        if let Some(faults) = Array::find(image, names, "x86_bug_flags", "fxsave_leak", 6) {
            for (at, name) in (0..64).filter_map(|at| Some((at, faults.text(at)?))) {
                if let Ok(number) = u16::try_from(words * 32 + at) {
                    found.names.insert(number, format!("fault:{name}"));
                }
            }
        }
        found
    }

    /// Returns the name of a feature, if it is known.
    pub(crate) fn name(&self, number: u16) -> Option<String> {
        if let Some(name) = self.names.get(&number) {
            return Some(name.clone());
        }
        if let Some((_, name)) = HIDDEN.iter().find(|(of, _)| *of == number) {
            return Some((*name).to_owned());
        }
        if self.words.is_some_and(|words| usize::from(number / 32) >= words) {
            return None;
        }
        let (leaf, sub_leaf, register, bit) = place(number)?;
        let word = FeatureWord::Cpuid { leaf, sub_leaf, register };
        let (name, _) = Feature::named().find(|(_, feature)| feature.place() == (word, bit))?;
        Some(name.to_lowercase())
    }

    /// Returns a feature in words: its name, or its number as Linux' sources write it.
    pub(crate) fn words_for(&self, number: u16) -> String {
        self.name(number).unwrap_or_else(|| format!("feature {}*32+{}", number / 32, number % 32))
    }

    /// Returns the number of the feature of this name, or that is written as `11*32+14`.
    pub(crate) fn number(&self, name: &str) -> Option<u16> {
        if let Some((word, bit)) = name.split_once("*32+") {
            let (word, bit): (u16, u16) = (word.parse().ok()?, bit.parse().ok()?);
            return (word < 64 && bit < 32).then_some(word * 32 + bit);
        }
        let shown = self.names.iter().map(|(&number, name)| (number, &**name));
        let hidden = HIDDEN.iter().copied().filter(|(number, _)| !self.names.contains_key(number));
        shown.chain(hidden).find(|(_, of)| is_same(of, name)).map(|(number, _)| number)
    }

    /// Returns all names.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(|name| &**name).chain(HIDDEN.iter().map(|(_, name)| *name))
    }
}

/// An array of pointers to texts.
struct Array<'i, 'd> {
    image: &'i Image<'d>,
    address: u64,
}

impl<'i, 'd> Array<'i, 'd> {
    /// Finds an array by its symbol, or by one of its texts and the place that this has in it.
    fn find(
        image: &'i Image<'d>,
        names: &Names,
        symbol: &str,
        text: &str,
        place: u64,
    ) -> Option<Self> {
        let size = image.width().pointer_size();
        let has_text = |array: &Self| {
            usize::try_from(place).ok().and_then(|place| array.text(place)).as_deref() == Some(text)
        };
        let named = names.address(symbol).map(|address| Self { image, address });
        if let Some(array) = named.filter(has_text) {
            return Some(array);
        }
        let mut with_zero = text.as_bytes().to_vec();
        with_zero.push(0);
        let data = || image.sections().iter().filter(|section| !section.is_executable());
        let texts = data().filter_map(|section| {
            let at = section.data.windows(with_zero.len()).position(|part| part == with_zero)?;
            section.address.checked_add(at as u64)
        });
        let step = usize::try_from(size).ok()?;
        // One section has it; a file with many of them is made up.
        texts.filter(|&address| address != 0).take(4).find_map(|pointer| {
            data().filter(|section| section.address != 0).find_map(|section| {
                let mut numbers = section.data.chunks_exact(step);
                let at = numbers.position(|number| little_endian(number) == pointer)? as u64;
                let address = section.address.checked_add(at * size)?;
                Some(Self { image, address: address.checked_sub(place * size)? })
            })
        })
    }

    /// Returns the text of an element; `None` for null, and for what is no short text.
    fn text(&self, at: usize) -> Option<String> {
        const LONGEST: u64 = 32;
        let place = self.address.checked_add(at as u64 * self.image.width().pointer_size())?;
        let pointer = self.image.pointer_at(place).filter(|&pointer| pointer != 0)?;
        let section = self.image.section_at(pointer)?;
        let rest = section.data.get(usize::try_from(pointer - section.address).ok()?..)?;
        let text: Vec<u8> = rest.iter().take(LONGEST as usize).copied().collect();
        let end = text.iter().position(|&byte| byte == 0).filter(|&end| end > 0)?;
        let text = text.get(..end)?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        text.iter().all(is_name).then(|| String::from_utf8_lossy(text).into_owned())
    }
}
