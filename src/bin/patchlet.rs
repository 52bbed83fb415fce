//! The tool `patchlet`: patchlets and patch sites in ELF files. Everything is in
//! [`patchlet::inspect`]; here are the terminal and the exit status.

use std::io::{self, BufWriter, IsTerminal};
use std::process::ExitCode;

use anstream::{AutoStream, ColorChoice};
use patchlet::inspect::{Terminal, run};

fn main() -> ExitCode {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    // On a terminal only, and not with NO_COLOR and the like.
    let wanted = !matches!(AutoStream::choice(&stdout), ColorChoice::Never);
    let colour = stdout.is_terminal() && wanted;
    let width = terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    let progress = stderr.is_terminal();
    let exit = run(
        std::env::args_os(),
        &mut Terminal {
            out: &mut BufWriter::new(stdout.lock()),
            err: &mut stderr.lock(),
            colour,
            width,
            progress,
        },
    );
    ExitCode::from(exit.code())
}
