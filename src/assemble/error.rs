//! The error of assembling patchlets in a build script.

use std::fmt;
use std::path::{Path, PathBuf};

/// The reason why no library was made. Each error prints as one sentence with the place, the
/// values and the likely fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum AssembleError {
    /// The target is neither 32- nor 64-bit x86 with ELF objects.
    Target {
        /// Name of the target.
        name: String,
    },
    /// There is no C compiler, or it could not be started.
    Compiler {
        /// The compiler that was tried, and what happened.
        reason: String,
    },
    /// The compiler is started through another program (`ccache gcc`), and that program
    /// could not be started.
    Wrapper {
        /// The program that starts the compiler.
        wrapper: PathBuf,
        /// The compiler.
        compiler: PathBuf,
        /// The error that the system reported.
        reason: String,
    },
    /// The assembler reported an error.
    Assembler {
        /// The source file.
        source: PathBuf,
        /// The first error that the assembler reported.
        reason: String,
    },
    /// There is no archiver, or it could not make the library.
    Archiver {
        /// The archiver that was tried, and what happened.
        reason: String,
    },
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The error that the system reported.
        reason: String,
    },
    /// A check of the object failed: the patchlets in it could not be used.
    Object {
        /// The source file that the object was made from.
        source: PathBuf,
        /// What is wrong, with the patchlet and the likely fix.
        reason: String,
    },
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AssembleError::Target { name } => write!(
                f,
                "patchlet: target `{name}` is not supported: build for 32-bit or 64-bit x86 with ELF \
                 objects, such as x86_64-unknown-none or i686-unknown-linux-gnu"
            ),
            AssembleError::Compiler { reason } => write!(
                f,
                "patchlet: no working C compiler to assemble with: {reason}; install gcc or clang, \
                 or name one in the variable CC"
            ),
            AssembleError::Wrapper { wrapper, compiler, reason } => write!(
                f,
                "patchlet: the compiler `{compiler}` is to be started by `{wrapper}`, which does \
                 not start: {reason}; install `{wrapper}`, or take it out of the variable CC or \
                 RUSTC_WRAPPER",
                compiler = compiler.display(),
                wrapper = wrapper.display(),
            ),
            AssembleError::Assembler { source, reason } => {
                write!(f, "patchlet: {} does not assemble: {reason}", source.display())
            }
            AssembleError::Archiver { reason } => write!(
                f,
                "patchlet: no working archiver to make the library with: {reason}; install binutils \
                 or llvm, or name one in the variable AR"
            ),
            AssembleError::Io { path, reason } => {
                write!(f, "patchlet: {}: {reason}", path.display())
            }
            AssembleError::Object { source, reason } => {
                write!(f, "patchlet: {}: {reason}", source.display())
            }
        }
    }
}

impl std::error::Error for AssembleError {}

/// Makes an error of a file's path and the error that the system reported.
pub(super) fn io(path: &Path, error: &std::io::Error) -> AssembleError {
    AssembleError::Io { path: path.to_owned(), reason: error.to_string() }
}

/// Joins the lines of a message, since cargo shows only the first line of an error.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
