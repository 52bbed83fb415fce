//! The target that cargo builds for, read from the variables of a build script.

use std::env;

use super::error::AssembleError;

/// The two kinds of target that patchlets can be assembled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetWidth {
    /// i686 and the like: ELF32, EM_386.
    Bits32,
    /// x86_64 with 64-bit pointers: ELF64, EM_X86_64.
    Bits64,
}

/// The target cargo builds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildTarget {
    /// What cargo calls it: a target of rustc, or the stem of the file of a custom one.
    pub(super) name: String,
    pub(crate) width: TargetWidth,
}

impl BuildTarget {
    /// Reads the variables cargo gives to a build script. Decides by the target,
    /// never by the host.
    ///
    /// # Errors
    /// [`AssembleError::Target`] for anything but 32- and 64-bit x86 with ELF objects.
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
    /// `cc` takes the name in TARGET apart at its hyphens and refuses a name without any,
    /// which a custom target may have (`mykernel.json`). Nothing that `cc` would conclude
    /// from the name matters to assembling, so it is then given the name of a target of
    /// the same width. It still reads CC and TARGET_CC, AR and TARGET_AR; what it would
    /// no longer find, `CC_mykernel` and `AR_mykernel`, is handed to it here.
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
            // "ccache gcc" and "gcc -flag" are a program and its first arguments.
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
