//! Where the tool writes, and its exit status.

use std::io::Write;

/// The exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything holds.
    Holds,
    /// There is a finding, or a difference.
    Finding,
    /// A file cannot be read or written, or the command line is wrong.
    Failed,
}

impl Exit {
    /// Returns it as a number, for the system.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Finding => 1,
            Self::Failed => 2,
        }
    }

    /// Returns the worse of the two, for a command that read several files.
    #[must_use]
    pub const fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Finding, _) | (_, Self::Finding) => Self::Finding,
            (Self::Holds, Self::Holds) => Self::Holds,
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

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Heading,
    Good,
    Bad,
}

impl<'t> Terminal<'t> {
    /// Returns what a pipe takes: no colour, lines of any length, no progress.
    pub fn new(out: &'t mut dyn Write, err: &'t mut dyn Write) -> Self {
        Self { out, err, colour: false, width: None, progress: false }
    }

    /// Returns the text in its colour, if there is any colour at all.
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
