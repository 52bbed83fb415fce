//! The tool: arguments in, text or JSON out, an exit status back.

mod apply;
mod diff;
mod help;
mod list;
mod output;
mod plan;
mod sites;
mod verify;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};

use super::arguments::{Arguments, Command};
use super::error::Error;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything holds.
    Holds,
    /// There is a finding, or a difference.
    Finding,
    /// A file cannot be read or written, or the command line is wrong.
    Failed,
}

impl Exit {
    /// As a number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Finding => 1,
            Self::Failed => 2,
        }
    }
}

/// Where the tool writes, and what may be written there.
#[expect(missing_debug_implementations, reason = "writers have none")]
#[non_exhaustive]
pub struct Terminal<'t> {
    /// Results.
    pub out: &'t mut dyn Write,
    /// Errors and progress.
    pub err: &'t mut dyn Write,
    /// Whether `out` takes colours.
    pub colour: bool,
    /// Columns of `out`; none if lines may have any length.
    pub width: Option<usize>,
    /// Whether to show progress on `err`, if something takes longer than a
    /// second.
    pub progress: bool,
}

impl<'t> Terminal<'t> {
    /// What a pipe takes: no colour, lines of any length, no progress.
    pub fn new(out: &'t mut dyn Write, err: &'t mut dyn Write) -> Self {
        Self { out, err, colour: false, width: None, progress: false }
    }
}

/// Why a command did not come to its end.
enum Stop {
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

/// Runs the tool; the first argument is its name.
pub fn run<A>(arguments: impl IntoIterator<Item = A>, terminal: &mut Terminal<'_>) -> Exit
where
    A: Into<OsString> + Clone,
{
    let parser = Arguments::command().term_width(terminal.width.unwrap_or(0));
    let matches = parser.try_get_matches_from(arguments);
    let command = match matches.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments.command,
        Err(error) => return usage(&error, terminal),
    };
    let result = match command {
        Command::List(arguments) => list::list(&arguments, terminal),
        Command::Sites(arguments) => sites::sites(&arguments, terminal),
        Command::Verify(arguments) => verify::verify(&arguments, terminal),
        Command::Plan(arguments) => plan::plan(&arguments, terminal),
        Command::Apply(arguments) => apply::apply(&arguments, terminal),
        Command::Diff(arguments) => diff::diff(&arguments, terminal),
        Command::Completions { shell } => help::completions(shell, terminal),
        Command::Man => help::man(terminal),
    };
    let flushed = terminal.out.flush().map_err(Stop::from);
    match result.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        // What was not printed was not read: nobody may take this for a proof.
        Err(Stop::Closed) => Exit::Failed,
        Err(Stop::Failed(message)) => fail(terminal, &message),
    }
}

/// `--help` and `--version` come this way too.
fn usage(error: &clap::Error, terminal: &mut Terminal<'_>) -> Exit {
    let text = error.render();
    let text = if terminal.colour { text.ansi().to_string() } else { text.to_string() };
    let wrong = error.use_stderr();
    let written = if wrong {
        terminal.err.write_all(text.as_bytes())
    } else {
        terminal.out.write_all(text.as_bytes()).and_then(|()| terminal.out.flush())
    };
    if wrong || written.is_err() { Exit::Failed } else { Exit::Holds }
}

fn fail(terminal: &mut Terminal<'_>, message: &str) -> Exit {
    // Nobody is left to be told if this fails, too.
    let _ = writeln!(terminal.err, "patchlet: {message}");
    Exit::Failed
}

/// With the name of the file.
fn in_file(path: &Path) -> impl Fn(Error) -> Stop {
    move |error| Stop::Failed(format!("{}: {error}", path.display()))
}
