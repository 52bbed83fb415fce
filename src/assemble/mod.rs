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
mod run;
mod target;
mod tracking;

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

// Only the crate's own build script looks at the width.
#[allow(unused_imports)]
pub(crate) use target::{Target, Width};

/// Why there is no library. Each error is one sentence with the place, the values and
/// the likely fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The target is neither 32- nor 64-bit x86 with ELF objects.
    Target {
        /// The target's name.
        name: String,
    },
    /// There is no C compiler, or it could not be started.
    Compiler {
        /// What was tried and what happened.
        reason: String,
    },
    /// The compiler is started through another program (`ccache gcc`), and that program
    /// could not be started.
    Wrapper {
        /// The program before the compiler.
        wrapper: PathBuf,
        /// The compiler.
        compiler: PathBuf,
        /// The system's word on it.
        reason: String,
    },
    /// The assembler found an error.
    Assembler {
        /// The source file.
        source: PathBuf,
        /// The assembler's first complaint.
        reason: String,
    },
    /// There is no archiver, or it could not make the library.
    Archiver {
        /// What was tried and what happened.
        reason: String,
    },
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word on it.
        reason: String,
    },
    /// The object is not what it must be.
    Object {
        /// The source file it was made from.
        source: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Target { name } => write!(
                f,
                "patchlet: target `{name}` is not supported: build for 32-bit or 64-bit x86 with ELF \
                 objects, such as x86_64-unknown-none or i686-unknown-linux-gnu"
            ),
            Error::Compiler { reason } => write!(
                f,
                "patchlet: no working C compiler to assemble with: {reason}; install gcc or clang, \
                 or name one in the variable CC"
            ),
            Error::Wrapper { wrapper, compiler, reason } => write!(
                f,
                "patchlet: the compiler `{compiler}` is to be started by `{wrapper}`, which does \
                 not start: {reason}; install `{wrapper}`, or take it out of the variable CC or \
                 RUSTC_WRAPPER",
                compiler = compiler.display(),
                wrapper = wrapper.display(),
            ),
            Error::Assembler { source, reason } => {
                write!(f, "patchlet: {} does not assemble: {reason}", source.display())
            }
            Error::Archiver { reason } => write!(
                f,
                "patchlet: no working archiver to make the library with: {reason}; install binutils \
                 or llvm, or name one in the variable AR"
            ),
            Error::Io { path, reason } => write!(f, "patchlet: {}: {reason}", path.display()),
            Error::Object { source, reason } => {
                write!(f, "patchlet: {}: {reason}", source.display())
            }
        }
    }
}

impl std::error::Error for Error {}

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
    /// Every variant of [`Error`]; no library is left behind then.
    pub fn compile(&self, library: &str) -> Result<(), Error> {
        let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| Error::Io {
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
        let target = Target::from_cargo()?;
        println!("cargo::rerun-if-changed={}", self.source.display());
        for input in self.assemble(&object, &target)? {
            println!("cargo::rerun-if-changed={}", input.display());
        }
        let bytes = fs::read(&object).map_err(|error| io(&object, &error))?;
        check::check(&bytes, target.width)
            .map_err(|reason| Error::Object { source: self.source.clone(), reason })?;
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
                Error::Archiver { reason: one_line(&error.to_string()) }
            })
    }
}

/// Tells whether the program is built with indirect branch tracking.
#[allow(dead_code)] // Only the crate's own build script asks.
pub(crate) fn tracks_branches(target: &Target) -> bool {
    let compiler = target.build().no_default_flags(true).try_get_compiler();
    tracking::is_on(compiler.as_ref().map_or(&[], cc::Tool::args))
}

/// Makes an error of what the system says of a file.
fn io(path: &Path, error: &std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), reason: error.to_string() }
}

/// Puts a message of several lines into one, since cargo shows only the first.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
