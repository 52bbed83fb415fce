//! Assembles patchlets in a build script, and checks the object before anything links it.
//!
//! A kernel with patchlets of its own has `patchlet` with the feature `build` under
//! `[build-dependencies]`, and this in its build script. The crate's own `build.rs` uses this
//! module, too.
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
//! The object is checked, because a mistake in it would later be executed in ring 0:
//! - it is ELF of the target's width;
//! - its section of patchlets is read-only and not executable;
//! - every patchlet has a start and an end label, hidden and in this order;
//! - there is no gap, no overlap and no byte outside a patchlet;
//! - there is no relocation, since a linker may rewrite a relocated instruction, and a
//!   displacement would be right for the patchlet's address and wrong for a site's;
//! - every native function has the bytes of its patchlet, behind an ENDBR if the program is built
//!   with indirect branch tracking;
//! - every hole of a blob is the operand with which the instruction before it ends, inside of the
//!   blob, and shares no byte with another.
//!
//! If host and target differ, the compiler for the target may have to be named in a variable;
//! `docs/linking.md` has a table.

mod check;
mod error;
mod places;
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

/// A `.S` file with patchlets, and the folders of the files that it includes.
#[derive(Clone, Debug)]
pub struct Assembly {
    source: PathBuf,
    include: Vec<PathBuf>,
    optional: bool,
}

impl Assembly {
    /// Makes an assembly of a source file. The path is relative to the package's folder.
    pub fn new(source: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), include: Vec::new(), optional: false }
    }

    /// Makes the patchlets optional: a program has them only if it refers to one of them, if it is
    /// linked with `--gc-sections`, as cargo does it. Patchlets are otherwise always linked.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Adds a folder in which `#include`, `.include` and `.incbin` look for files.
    #[must_use]
    pub fn include(mut self, folder: impl Into<PathBuf>) -> Self {
        self.include.push(folder.into());
        self
    }

    /// Adds the folder of `patchlet.h`. Cargo tells it to the build script of a package that
    /// depends on `patchlet` directly, in the variable `DEP_PATCHLET_INCLUDE`; any other package
    /// has to give it by [`include`](Self::include).
    #[must_use]
    pub fn include_from_cargo(self) -> Self {
        match env::var_os("DEP_PATCHLET_INCLUDE") {
            Some(folder) => self.include(folder),
            None => self,
        }
    }

    /// Assembles the source, checks the object, and tells cargo to link it whole (unless it is
    /// [`optional`](Self::optional)) as the static library `library`. Also prints a `rerun-if-changed` line for the source
    /// and for every file that it takes in by `#include`, `.include` or `.incbin`.
    ///
    /// # Errors
    /// Can return every variant of [`AssembleError`]. No library is left behind then.
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
        let mut build = target.build();
        // Whole, because a linker takes a member of an archive only if the member defines a symbol
        // that is still undefined. A kernel may reach its patchlets by the index alone.
        if !self.optional {
            build.link_lib_modifier("+whole-archive");
        }
        build.object(&object).try_compile(library).map_err(|error| {
            // A failed archiver may leave an incomplete library.
            let _ = fs::remove_file(&archive);
            AssembleError::Archiver { reason: one_line(&error.to_string()) }
        })
    }
}

/// Returns whether the program is built with indirect branch tracking.
#[allow(dead_code)] // Only the crate's own build script calls it.
pub(crate) fn tracks_branches(target: &BuildTarget) -> bool {
    let compiler = target.build().no_default_flags(true).try_get_compiler();
    tracking::is_on(compiler.as_ref().map_or(&[], cc::Tool::args))
}
