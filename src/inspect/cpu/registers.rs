//! What CPUID says on a CPU, as numbers, and the features that follow.

use std::collections::BTreeMap;

use crate::cpu::{CpuidRegister, Feature, FeatureWord, Features};
use crate::inspect::error::FileError;

/// The registers that CPUID returns, by leaf, sub-leaf and register. One that is not there is 0, as
/// CPUID says of a leaf that a CPU does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuidValues {
    vendor: String,
    values: BTreeMap<(u32, u32, u8), u32>,
}

impl CpuidValues {
    /// Returns the registers of a CPU of this vendor, of which none is known yet.
    pub(super) fn new(vendor: &str) -> Self {
        Self { vendor: vendor.to_owned(), values: BTreeMap::new() }
    }

    /// Notes the value of a register.
    pub(super) fn put(&mut self, leaf: u32, sub_leaf: u32, register: CpuidRegister, value: u32) {
        self.values.insert((leaf, sub_leaf, register as u8), value);
    }

    fn get(&self, leaf: u32, sub_leaf: u32, register: CpuidRegister) -> u32 {
        self.values.get(&(leaf, sub_leaf, register as u8)).copied().unwrap_or(0)
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
                    "line {number} is none of `cpuid -r`: `{line}`; they look like \
                     `0x00000007 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…`"
                ))
            })?;
            if cpus.is_empty() {
                cpus.push(Self::default());
            }
            let Some(cpu) = cpus.last_mut() else { continue };
            for (register, value) in REGISTERS.into_iter().zip(values) {
                cpu.put(leaf, sub_leaf, register, value);
            }
        }
        cpus.retain(|cpu| !cpu.values.is_empty());
        for cpu in &mut cpus {
            let name = [CpuidRegister::Ebx, CpuidRegister::Edx, CpuidRegister::Ecx];
            let name = name.map(|register| cpu.get(0, 0, register).to_le_bytes()).concat();
            cpu.vendor = String::from_utf8_lossy(&name).into_owned();
        }
        if cpus.is_empty() {
            return Err(FileError::new(
                "there is no leaf of CPUID in it: give the output of `cpuid -r`",
            ));
        }
        Ok(cpus)
    }

    /// Returns the features that CPUID says, without those that an operating system has to switch
    /// on.
    pub(super) fn features(&self) -> Features {
        let has = |feature: Feature| match feature.place() {
            (FeatureWord::Cpuid { leaf, sub_leaf, register }, bit) => {
                self.get(leaf, sub_leaf, register) >> bit & 1 != 0
            }
            (FeatureWord::Facts, _) => {
                (feature == Feature::INTEL && self.vendor == "GenuineIntel")
                    || (feature == Feature::AMD && self.vendor == "AuthenticAMD")
            }
            _ => false,
        };
        all_named(has)
    }

    /// Returns the state components that XSAVE can save on this CPU, as bits of XCR0 (SDM vol. 2A,
    /// "CPUID", leaf 0DH).
    pub(super) fn xcr0(&self) -> u32 {
        self.get(0xd, 0, CpuidRegister::Eax)
    }
}

/// The registers in the order of a line of a dump.
const REGISTERS: [CpuidRegister; 4] =
    [CpuidRegister::Eax, CpuidRegister::Ebx, CpuidRegister::Ecx, CpuidRegister::Edx];

/// Returns leaf, sub-leaf and the four registers of a line of a dump.
fn line_of_dump(line: &str) -> Option<(u32, u32, [u32; 4])> {
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

/// Returns the set of all named features for which `has` is true.
pub(super) fn all_named(has: impl Fn(Feature) -> bool) -> Features {
    let named = Feature::named().map(|(_, feature)| feature).filter(|&feature| has(feature));
    named.fold(Features::EMPTY, Features::with)
}

/// Returns the features of `features`, and those which an operating system switches on where the
/// CPU has what they are about. `xcr0` are the state components that XSAVE can save.
pub(super) fn switched_on(features: Features, xcr0: u32) -> Features {
    let has_named = |name: &str| Feature::find(name).map(|feature| features.has(feature));
    let xsave = features.has(Feature::XSAVE);
    let mut all = features;
    for (name, feature) in Feature::named() {
        let is_on = match feature.place() {
            (FeatureWord::Cr4, _) => {
                name.strip_suffix("_ENABLED").and_then(has_named).unwrap_or(false)
            }
            // A component without which XSAVE saves nothing more, or whose instructions are not
            // there, is not switched on.
            (FeatureWord::Xcr0, bit) => {
                let what = name.strip_prefix("XCR0_").and_then(has_named);
                xsave && xcr0 >> bit & 1 != 0 && what.unwrap_or(true)
            }
            (FeatureWord::Cpuid { leaf: 0xd, .. }, _) => xsave && features.has(feature),
            _ if name == "OSXSAVE" => xsave,
            _ if name == "OSPKE" => has_named("PKU").unwrap_or(false),
            _ => continue,
        };
        all = if is_on { all.with(feature) } else { all.without(feature) };
    }
    all
}
