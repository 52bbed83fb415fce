//! The terminal that the tool writes to, and the exit status.

use std::io::Write;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything holds: status 0.
    Holds,
    /// There is a finding, a difference or a raw instruction: status 1.
    Finding,
    /// A file cannot be read or written, or the command line is wrong: status 2.
    Failed,
}

impl Exit {
    /// Returns the number for the system: 0, 1 or 2.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Finding => 1,
            Self::Failed => 2,
        }
    }

    /// Returns the worse of two statuses, for a command that reads several files.
    #[must_use]
    pub const fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Finding, _) | (_, Self::Finding) => Self::Finding,
            (Self::Holds, Self::Holds) => Self::Holds,
        }
    }
}

/// The writers of the tool, and what may be written to them.
#[expect(missing_debug_implementations, reason = "writers have none")]
#[non_exhaustive]
pub struct Terminal<'t> {
    /// Writer for results.
    pub out: &'t mut dyn Write,
    /// Writer for errors and progress.
    pub err: &'t mut dyn Write,
    /// Whether to write colours to `out`, as ANSI escape sequences.
    pub colour: bool,
    /// Width of `out` in characters; `None` if lines may have any length.
    pub width: Option<usize>,
    /// Whether to show progress on `err` if something takes longer than a second.
    pub progress: bool,
}

/// The meaning of a piece of text, which decides its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Heading,
    Good,
    Bad,
}

impl<'t> Terminal<'t> {
    /// Makes a terminal that writes as to a pipe: no colour, lines of any length, no progress.
    pub fn new(out: &'t mut dyn Write, err: &'t mut dyn Write) -> Self {
        Self { out, err, colour: false, width: None, progress: false }
    }

    /// Returns the text in its colour, or unchanged if `colour` is false.
    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        use anstyle::{AnsiColor, Style};

        if !self.colour {
            return text.to_owned();
        }
        let style = match paint {
            Paint::Heading => Style::new().bold(),
            Paint::Good => AnsiColor::Green.on_default(),
            Paint::Bad => AnsiColor::Red.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}
