//! Why a command did not come to its end.

use std::io;
use std::path::Path;

use super::terminal::{Exit, Terminal};
use crate::inspect::error::FileError;

/// Why a command did not come to its end.
pub(super) enum Stop {
    Failed(String),
    /// Nobody reads on (`patchlet list | head`): nothing to tell anybody.
    Closed,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("cannot write: {error}")),
        }
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}

/// Adds the name of the file to an error.
pub(super) fn in_file(path: &Path) -> impl Fn(FileError) -> Stop {
    move |error| Stop::Failed(format!("{}: {error}", path.display()))
}

/// Prints why something failed.
pub(super) fn fail(terminal: &mut Terminal<'_>, message: &str) -> Exit {
    // Nobody is left to be told if this fails, too.
    let _ = writeln!(terminal.err, "patchlet: {message}");
    Exit::Failed
}
