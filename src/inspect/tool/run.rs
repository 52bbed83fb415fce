//! The entry of the tool: it parses the arguments, runs the command, and returns the exit status.

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

use super::arguments::{Arguments, Command};
use super::commands::{
    apply, audit, completions, diff, explain, list, man, oops, plan, raw, sites, verify,
};
use super::stop::{Stop, fail};
use super::terminal::{Exit, Terminal};

/// Runs the tool and returns its exit status. The first argument is the name of the program.
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
        Command::List(arguments) => list(&arguments, terminal),
        Command::Sites(arguments) => sites(&arguments, terminal),
        Command::Verify(arguments) => verify(&arguments, terminal),
        Command::Plan(arguments) => plan(&arguments, terminal),
        Command::Raw(arguments) => raw(&arguments, terminal),
        Command::Apply(arguments) => apply(&arguments, terminal),
        Command::Audit(arguments) => audit(&arguments, terminal),
        Command::Explain(arguments) => match &arguments.oops {
            Some(log) => oops(&arguments, log, terminal),
            None => explain(&arguments, terminal),
        },
        Command::Diff(arguments) => diff(&arguments, terminal),
        Command::Completions { shell } => completions(shell, terminal),
        Command::Man => man(terminal),
    };
    let flushed = terminal.out.flush().map_err(Stop::from);
    match result.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        // The reader of the output is gone, so the findings may not have been read: the exit
        // status must not say that everything holds.
        Err(Stop::Closed) => Exit::Failed,
        Err(Stop::Failed(message)) => fail(terminal, &message),
    }
}

/// Prints clap's message about the arguments. For `--help` and `--version` it is the output.
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
