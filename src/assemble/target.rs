//! The target that cargo builds for, read from the variables of a build script.

use std::env;

use super::error::AssembleError;

/// The width of a target that patchlets can be assembled for. It is a type of its own, because
/// the build script cannot use `patchlet::Width` before the crate is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetWidth {
    /// 32 bit, such as i686: ELF32, EM_386.
    Bits32,
    /// x86_64 with 64-bit pointers: ELF64, EM_X86_64.
    Bits64,
}

/// The target that cargo builds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildTarget {
    /// Name of the target: that of a target of rustc, or the stem of a custom target's file.
    pub(super) name: String,
    pub(crate) width: TargetWidth,
}

impl BuildTarget {
    /// Reads the target from the variables that cargo sets for a build script.
    ///
    /// # Errors
    /// Returns [`AssembleError::Target`] unless the target is 32- or 64-bit x86 with ELF objects.
    pub(crate) fn from_cargo() -> Result<Self, AssembleError> {
        let var = |name| env::var(name).unwrap_or_default();
        Self::new(
            var("TARGET"),
            &var("CARGO_CFG_TARGET_ARCH"),
            &var("CARGO_CFG_TARGET_POINTER_WIDTH"),
            &var("CARGO_CFG_TARGET_OS"),
        )
    }

    fn new(name: String, arch: &str, pointer_width: &str, os: &str) -> Result<Self, AssembleError> {
        let elf = !matches!(
            os,
            "windows" | "uefi" | "macos" | "ios" | "tvos" | "watchos" | "visionos" | "cygwin"
        );
        match (arch, pointer_width) {
            ("x86_64", "64") if elf => Ok(Self { name, width: TargetWidth::Bits64 }),
            ("x86", "32") if elf => Ok(Self { name, width: TargetWidth::Bits32 }),
            _ => Err(AssembleError::Target { name }),
        }
    }

    /// Returns a `cc::Build` for the target.
    ///
    /// `cc` splits the name in TARGET at its hyphens and refuses a name without any, which a
    /// custom target may have (`mykernel.json`). For such a target, `cc` gets the name of a known
    /// target of the same width; other properties of the target do not matter to assembling.
    /// `cc` still reads CC and TARGET_CC, AR and TARGET_AR, but looks for `CC_<name>` and
    /// `AR_<name>` under the name it got. So this function reads `CC_mykernel` and `AR_mykernel`.
    pub(super) fn build(&self) -> cc::Build {
        let mut build = cc::Build::new();
        if self.name.contains('-') {
            return build;
        }
        build.target(match self.width {
            TargetWidth::Bits32 => "i686-unknown-linux-gnu",
            TargetWidth::Bits64 => "x86_64-unknown-none",
        });
        let tool = |kind: &str| {
            let variable = format!("{kind}_{}", self.name);
            println!("cargo::rerun-if-env-changed={variable}");
            env::var(variable).ok()
        };
        if let Some(compiler) = tool("CC") {
            // The value can have several words: `ccache gcc`, `gcc -flag`.
            let mut words = compiler.split_whitespace();
            build.compiler(words.next().unwrap_or_default());
            for argument in words {
                build.flag(argument);
            }
        }
        if let Some(archiver) = tool("AR") {
            build.archiver(archiver);
        }
        build
    }
}
