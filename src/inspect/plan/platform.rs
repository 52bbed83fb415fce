//! A platform: what slots hold and keys say, as a command line gives it.

use crate::inspect::cpu::CpuSpec;
use crate::inspect::error::FileError;

/// A platform to patch a file for: a CPU that variants are selected by, what slots hold then, and
/// what keys say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformSpec {
    /// Name of a slot and name of its target, as on the command line. Every other slot holds the
    /// function of the variant that is selected, or its native function.
    pub(super) overrides: Vec<(String, String)>,
    /// The CPU that variants are selected by. Without one, none is selected.
    pub(super) cpu: Option<CpuSpec>,
    /// Name of a key, and whether it is on, as on the command line. Every other key has the state
    /// that the file says.
    pub(super) keys: Vec<(String, bool)>,
}

impl PlatformSpec {
    /// Returns the platform of bare metal: every slot holds its native function, and every key has
    /// the state that the file says.
    #[must_use]
    pub const fn native() -> Self {
        Self { overrides: vec![], cpu: None, keys: vec![] }
    }

    /// Returns this platform on a CPU: each slot holds the last variant of its op that is eligible
    /// there, unless the platform says what it holds.
    #[must_use]
    pub fn on_cpu(mut self, cpu: CpuSpec) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Returns the CPU that variants are selected by, if there is one.
    #[must_use]
    pub const fn cpu(&self) -> Option<&CpuSpec> {
        self.cpu.as_ref()
    }

    /// Returns this platform with the key of this name on or off.
    #[must_use]
    pub fn with_key(mut self, name: &str, is_on: bool) -> Self {
        self.keys.push((name.to_owned(), is_on));
        self
    }
}

/// Parses `native`, or `slot=target` with commas between.
impl std::str::FromStr for PlatformSpec {
    type Err = FileError;

    fn from_str(text: &str) -> Result<Self, FileError> {
        let mut platform = Self::native();
        for part in text.split(',').map(str::trim).filter(|&part| part != "native") {
            match part.split_once('=') {
                Some((slot, target)) if !slot.is_empty() && !target.is_empty() => {
                    platform.overrides.push((slot.trim().to_owned(), target.trim().to_owned()));
                }
                _ => {
                    return Err(FileError::new(format!(
                        "`{part}` is no platform: say `native`, or `slot=target` with commas between"
                    )));
                }
            }
        }
        Ok(platform)
    }
}
