//! What CPUID says on a CPU, as numbers, and the features that follow.

use std::collections::BTreeMap;

use crate::cpu::{CpuidRegister, CpuidResult, Feature, FeatureWord, Features};
use crate::inspect::error::FileError;

/// The values that CPUID returns on a CPU, by leaf and sub-leaf. A leaf that is not there is all zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuidValues {
    leaves: BTreeMap<(u32, u32), CpuidResult>,
    /// The registers that are known; `None` for all, as of a dump.
    known: Option<Vec<(u32, u32, CpuidRegister)>>,
}

impl CpuidValues {
    /// Returns the values of a CPU of this vendor that has all leaves which a model can have, with
    /// zeros in them so far.
    pub(super) fn of_vendor(vendor: &str) -> Self {
        let mut values = Self { known: Some(vec![]), ..Self::default() };
        let mut name = vendor.bytes().chain(std::iter::repeat(0));
        // The highest leaf, and the vendor's name in this order.
        values.put(0, 0, CpuidRegister::Eax, 0x1f);
        for register in [CpuidRegister::Ebx, CpuidRegister::Edx, CpuidRegister::Ecx] {
            let number = name.by_ref().take(4).zip([0, 8, 16, 24]);
            let number = number.fold(0, |number, (byte, shift)| number | u32::from(byte) << shift);
            values.put(0, 0, register, number);
        }
        // The highest sub-leaf of leaf 7, and the highest of the extended leaves.
        values.put(7, 0, CpuidRegister::Eax, 2);
        values.put(0x8000_0000, 0, CpuidRegister::Eax, 0x8000_0021);
        values
    }

    /// Notes the value of a register.
    pub(super) fn put(&mut self, leaf: u32, sub_leaf: u32, register: CpuidRegister, value: u32) {
        if let Some(known) = &mut self.known {
            known.push((leaf, sub_leaf, register));
        }
        let [eax, ebx, ecx, edx] = self.leaves.entry((leaf, sub_leaf)).or_default();
        *match register {
            CpuidRegister::Eax => eax,
            CpuidRegister::Ebx => ebx,
            CpuidRegister::Ecx => ecx,
            CpuidRegister::Edx => edx,
        } = value;
    }

    /// Returns the value of a register, or `None` if the model's table does not have it.
    pub(super) fn register(
        &self,
        leaf: u32,
        sub_leaf: u32,
        register: CpuidRegister,
    ) -> Option<u32> {
        let is_known = |known: &Vec<_>| known.contains(&(leaf, sub_leaf, register));
        if !self.known.as_ref().is_none_or(is_known) {
            return None;
        }
        let [eax, ebx, ecx, edx] = self.get(leaf, sub_leaf);
        Some(match register {
            CpuidRegister::Eax => eax,
            CpuidRegister::Ebx => ebx,
            CpuidRegister::Ecx => ecx,
            CpuidRegister::Edx => edx,
        })
    }

    fn get(&self, leaf: u32, sub_leaf: u32) -> CpuidResult {
        self.leaves.get(&(leaf, sub_leaf)).copied().unwrap_or_default()
    }

    /// Reads a dump: the output of `cpuid -r`, `0x00000007 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…`
    /// for each leaf, and `CPU 0:` before those of each CPU. Returns one for each CPU.
    ///
    /// # Errors
    /// Returns an error for a line of another form, and if there is no leaf.
    pub(super) fn of_dump(text: &str) -> Result<Vec<Self>, FileError> {
        let mut cpus: Vec<Self> = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() {
                continue;
            }
            if line.starts_with("CPU") && line.ends_with(':') {
                cpus.push(Self::default());
                continue;
            }
            let (leaf, sub_leaf, values) = line_of_dump(line).ok_or_else(|| {
                FileError::new(format!(
                    "line {number} is none of `cpuid -r`; they look like \
                     `0x00000007 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…`"
                ))
            })?;
            if cpus.is_empty() {
                cpus.push(Self::default());
            }
            if let Some(cpu) = cpus.last_mut() {
                cpu.leaves.insert((leaf, sub_leaf), values);
            }
        }
        cpus.retain(|cpu| !cpu.leaves.is_empty());
        if cpus.is_empty() {
            return Err(FileError::new(
                "there is no leaf of CPUID in it: give the output of `cpuid -r`",
            ));
        }
        Ok(cpus)
    }

    /// Returns the features that CPUID says. Of what an operating system has to switch on, these are
    /// those that CPUID knows of.
    pub(super) fn features(&self) -> Features {
        Features::from_cpuid(|leaf, sub_leaf| self.get(leaf, sub_leaf))
    }

    /// Returns the state components that XSAVE can save on this CPU, as bits of XCR0 (SDM vol. 2A,
    /// "CPUID", leaf 0DH).
    pub(super) fn xcr0(&self) -> u32 {
        let [eax, ..] = self.get(0xd, 0);
        eax
    }
}

/// Returns leaf, sub-leaf and the four registers of a line of a dump.
fn line_of_dump(line: &str) -> Option<(u32, u32, CpuidResult)> {
    let hex = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let (place, rest) = line.split_once(':')?;
    let mut place = place.split_whitespace();
    let (leaf, sub_leaf) = (hex(place.next()?)?, hex(place.next()?)?);
    let mut values = [0; 4];
    let mut cells = rest.split_whitespace();
    for (value, name) in values.iter_mut().zip(["eax=", "ebx=", "ecx=", "edx="]) {
        *value = hex(cells.next()?.strip_prefix(name)?)?;
    }
    (place.next().is_none() && cells.next().is_none()).then_some((leaf, sub_leaf, values))
}

/// The features that an operating system switches on by a bit of CR4, without `_ENABLED`, and the
/// feature of the CPU that the bit is about, where the two have different names.
const SWITCHES: [(&str, Feature); 3] =
    [("OSFXSR", Feature::FXSR), ("PKE", Feature::PKU), ("CET", Feature::CET_SS)];

/// Returns the features of `features`, and those which an operating system switches on where the
/// CPU has what they are about. `xcr0` are the state components that XSAVE can save.
pub(super) fn switched_on(features: Features, xcr0: u32) -> Features {
    let has_named = |name: &str| Feature::find(name).map(|feature| features.has(feature));
    let xsave = features.has(Feature::XSAVE);
    let mut all = features;
    for (name, feature) in Feature::named() {
        let is_on = match feature.place() {
            (FeatureWord::Cr4, _) => {
                let what = name.strip_suffix("_ENABLED").unwrap_or(name);
                match SWITCHES.iter().find(|(switch, _)| *switch == what) {
                    Some((_, feature)) => features.has(*feature),
                    None => has_named(what).unwrap_or(false),
                }
            }
            // A component without which XSAVE saves nothing more, or whose instructions are not
            // there, is not switched on.
            (FeatureWord::Xcr0, bit) => {
                let what = name.strip_prefix("XCR0_").and_then(has_named);
                xsave && xcr0 >> bit & 1 != 0 && what.unwrap_or(true)
            }
            (FeatureWord::Cpuid { leaf: 0xd, .. }, _) => xsave && features.has(feature),
            _ if feature == Feature::OSXSAVE => xsave,
            _ if feature == Feature::OSPKE => features.has(Feature::PKU),
            _ => continue,
        };
        all = if is_on { all.with(feature) } else { all.without(feature) };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::SWITCHES;
    use crate::cpu::{Feature, FeatureWord};

    /// Checks that it is known of each bit of CR4 which feature of the CPU it is about.
    #[test]
    fn every_switch_is_about_a_feature() {
        let mut switches = 0;
        for (name, feature) in Feature::named() {
            if feature.place().0 == FeatureWord::Cr4 {
                let what = name.strip_suffix("_ENABLED").expect(name);
                let is_known = SWITCHES.iter().any(|(switch, _)| *switch == what);
                assert!(is_known != Feature::find(what).is_some(), "{name}");
                switches += 1;
            }
        }
        assert!(switches > 5);
    }
}
