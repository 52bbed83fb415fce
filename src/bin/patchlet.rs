//! The tool `patchlet`: patchlets and patch sites in ELF files. Everything is in
//! [`patchlet::inspect`]; here are the terminal and the exit status.

use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use patchlet::inspect::{Terminal, run};

fn main() -> ExitCode {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let (mut out, mut err) = (BufWriter::new(stdout.lock()), stderr.lock());
    let mut terminal = Terminal::new(&mut out, &mut err);
    // On a terminal only, and not with NO_COLOR and the like.
    let wanted = !matches!(AutoStream::choice(&stdout), ColorChoice::Never);
    terminal.colour = stdout.is_terminal() && wanted;
    terminal.width =
        terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    terminal.progress = stderr.is_terminal();
    ExitCode::from(run(std::env::args_os(), &mut terminal).code())
}
