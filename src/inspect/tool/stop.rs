//! The error of a command.

use std::io;
use std::path::Path;

use super::terminal::{Exit, Terminal};
use crate::inspect::error::FileError;

/// The reason why a command did not come to its end.
pub(super) enum Stop {
    /// Something failed. The sentence says what, with the name of the file.
    Failed(String),
    /// The reader of the output has closed the pipe (`patchlet list | head`). No message is
    /// printed.
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

/// Returns a function that adds the name of the file to an error.
pub(super) fn in_file(path: &Path) -> impl Fn(FileError) -> Stop {
    move |error| Stop::Failed(format!("{}: {error}", path.display()))
}

/// Prints why something failed, and returns the exit status for it.
pub(super) fn fail(terminal: &mut Terminal<'_>, message: &str) -> Exit {
    // If this write fails, there is no other place to report it; the exit status still does.
    let _ = writeln!(terminal.err, "patchlet: {message}");
    Exit::Failed
}
