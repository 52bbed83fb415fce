//! The error of assembling.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why there is no library. Each error is one sentence with the place, the values and
/// the likely fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum AssembleError {
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

/// Makes an error of what the system says of a file.
pub(super) fn io(path: &Path, error: &std::io::Error) -> AssembleError {
    AssembleError::Io { path: path.to_owned(), reason: error.to_string() }
}

/// Puts a message of several lines into one, since cargo shows only the first.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
