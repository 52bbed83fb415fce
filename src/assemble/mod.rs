//! Assembling patchlets, and checking the object before anything links it.
//!
//! For build scripts, with feature `build` under `[build-dependencies]`. The
//! crate's own `build.rs` is the first user. A kernel with patchlets of its own
//! needs this much:
//!
//! ```no_run
//! // build.rs
//! if let Err(error) = patchlet::assemble::Assembly::new("src/own.S")
//!     .include_from_cargo()
//!     .compile("own_patchlets")
//! {
//!     println!("cargo::error={error}");
//!     std::process::exit(1);
//! }
//! ```
//!
//! The object is checked, because a mistake here would be executed in ring 0 later:
//! - it is ELF of the target's width;
//! - its section of patchlets is read-only and not executable;
//! - every patchlet has a start and an end label, hidden and in this order;
//! - there is no gap, no overlap and no byte outside a patchlet;
//! - there is no relocation, since a linker may rewrite a relocated instruction, and a
//!   displacement would be right for the data's address, not for the site's;
//! - every native function is the bytes of its patchlet, behind the ENDBR that indirect
//!   branch tracking wants.
//!
//! The compiler assembles for the target and runs on the host, so its name can be needed
//! in a variable when the two differ; `docs/linking.md` has a table.

mod check;
mod error;
mod run;
mod target;
mod tracking;

use std::path::PathBuf;
use std::{env, fs};

pub use error::AssembleError;

use error::{io, one_line};

// Only the crate's own build script looks at the width.
#[allow(unused_imports)]
pub(crate) use target::{BuildTarget, TargetWidth};

/// One `.S` file on its way to a static library.
#[derive(Clone, Debug)]
pub struct Assembly {
    source: PathBuf,
    include: Vec<PathBuf>,
}

impl Assembly {
    /// Makes an assembly of this source file, relative to the package's folder.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), include: Vec::new() }
    }

    /// Adds a folder in which `#include`, `.include` and `.incbin` look.
    #[must_use]
    pub fn include(mut self, folder: impl Into<PathBuf>) -> Self {
        self.include.push(folder.into());
        self
    }

    /// Adds the folder of `patchlet.h`, as cargo hands it to packages that
    /// depend on `patchlet` directly.
    #[must_use]
    pub fn include_from_cargo(self) -> Self {
        match env::var_os("DEP_PATCHLET_INCLUDE") {
            Some(folder) => self.include(folder),
            None => self,
        }
    }

    /// Assembles, checks, and tells cargo to link the result whole as the static
    /// library `library`. Also prints a `rerun-if-changed` line for the source
    /// and for every file that it pulls in by `#include`, `.include` or `.incbin`.
    ///
    /// # Errors
    /// Every variant of [`AssembleError`]; no library is left behind then.
    pub fn compile(&self, library: &str) -> Result<(), AssembleError> {
        let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| AssembleError::Io {
            path: "OUT_DIR".into(),
            reason: "not set, but only a build script can tell cargo what to link".into(),
        })?;
        let object = out.join(format!("{library}.o"));
        let archive = out.join(format!("lib{library}.a"));
        // If this build fails, the library of an earlier one must not be linked.
        for stale in [&object, &archive] {
            if stale.exists() {
                fs::remove_file(stale).map_err(|error| io(stale, &error))?;
            }
        }
        let target = BuildTarget::from_cargo()?;
        println!("cargo::rerun-if-changed={}", self.source.display());
        for input in self.assemble(&object, &target)? {
            println!("cargo::rerun-if-changed={}", input.display());
        }
        let bytes = fs::read(&object).map_err(|error| io(&object, &error))?;
        check::check(&bytes, target.width)
            .map_err(|reason| AssembleError::Object { source: self.source.clone(), reason })?;
        // Whole: nothing in an archive member refers to the patchlets by a name
        // that a linker must resolve before it looks at the member.
        target
            .build()
            .object(&object)
            .link_lib_modifier("+whole-archive")
            .try_compile(library)
            .map_err(|error| {
                // The archiver may have written a part of it.
                let _ = fs::remove_file(&archive);
                AssembleError::Archiver { reason: one_line(&error.to_string()) }
            })
    }
}

/// Tells whether the program is built with indirect branch tracking.
#[allow(dead_code)] // Only the crate's own build script asks.
pub(crate) fn tracks_branches(target: &BuildTarget) -> bool {
    let compiler = target.build().no_default_flags(true).try_get_compiler();
    tracking::is_on(compiler.as_ref().map_or(&[], cc::Tool::args))
}
