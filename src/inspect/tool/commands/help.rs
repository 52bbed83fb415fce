//! The commands `patchlet completions` and `patchlet man`.

use clap::CommandFactory;

use crate::inspect::tool::arguments::Arguments;
use crate::inspect::tool::stop::Stop;
use crate::inspect::tool::terminal::{Exit, Terminal};

pub(in crate::inspect::tool) fn completions(
    shell: clap_complete::Shell,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    // `generate` panics if a write fails. Writing to memory does not fail.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "patchlet", &mut script);
    terminal.out.write_all(&script)?;
    Ok(Exit::Holds)
}

/// Prints one man page for the tool and all commands. The help of a command is taken as it is.
pub(in crate::inspect::tool) fn man(terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let mut tool = Arguments::command().disable_help_subcommand(true).term_width(80);
    let page = clap_mangen::Man::new(tool.clone());
    page.render_title(terminal.out)?;
    page.render_name_section(terminal.out)?;
    page.render_synopsis_section(terminal.out)?;
    page.render_description_section(terminal.out)?;
    for command in tool.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        let help = command.clone().bin_name(format!("patchlet {name}")).render_help();
        as_it_is(terminal, &format!("PATCHLET {}", name.to_uppercase()), &help.to_string())?;
    }
    let rest = tool.get_after_help().map(ToString::to_string).unwrap_or_default();
    as_it_is(terminal, "EXIT STATUS AND EXAMPLES", &rest)?;
    Ok(Exit::Holds)
}

/// Prints a section of a man page whose text is laid out already.
fn as_it_is(terminal: &mut Terminal<'_>, heading: &str, text: &str) -> Result<(), Stop> {
    writeln!(terminal.out, ".SH {heading}\n.nf")?;
    for line in text.trim_end().lines() {
        // roff takes a line that starts with a dot or a quote for a request; `\&` is an empty
        // character before it.
        writeln!(terminal.out, "\\&{}", line.replace('\\', "\\e").replace('-', "\\-"))?;
    }
    writeln!(terminal.out, ".fi")?;
    Ok(())
}
