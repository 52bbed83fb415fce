//! The tool `patchlet`, which reads, verifies and patches ELF files. Its code is in
//! [`patchlet::inspect`]; this file sets up the terminal and returns the exit status.

use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use patchlet::inspect::{Terminal, run};

fn main() -> ExitCode {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let (mut out, mut err) = (BufWriter::new(stdout.lock()), stderr.lock());
    let mut terminal = Terminal::new(&mut out, &mut err);
    // `choice` heeds NO_COLOR and the like. `is_terminal` is asked as well, so that
    // CLICOLOR_FORCE does not put colours into a pipe.
    let wanted = !matches!(AutoStream::choice(&stdout), ColorChoice::Never);
    terminal.colour = stdout.is_terminal() && wanted;
    terminal.width =
        terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    terminal.progress = stderr.is_terminal();
    ExitCode::from(run(std::env::args_os(), &mut terminal).code())
}
