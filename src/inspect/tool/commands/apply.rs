//! The command `patchlet apply`: patches the sites in a copy of a file.

use crate::inspect::apply::{edits, write};
use crate::inspect::plan::{plan, plan_revert};
use crate::inspect::tool::arguments::ApplyArguments;
use crate::inspect::tool::open::{filled_with, linked_for, platform, read};
use crate::inspect::tool::output::{count, print_findings};
use crate::inspect::tool::progress::verify_with_progress;
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Terminal};
use crate::inspect::verify::Reference;

pub(in crate::inspect::tool) fn apply(
    arguments: &ApplyArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    let platform = platform(&arguments.platform)?;
    let model = filled_with(linked_for(path, &data, &platform)?, arguments.nops, path)?;
    let findings = verify_with_progress(&model, &Reference::native(&model), terminal);
    if !findings.is_empty() {
        print_findings(terminal, findings)?;
        writeln!(terminal.out, "{}: not everything holds, so nothing is written", path.display())?;
        return Ok(Exit::Finding);
    }
    let site_plans = if arguments.revert { plan_revert(&model) } else { plan(&model, &platform) };
    let site_plans = site_plans.map_err(in_file(path))?;
    let edits = edits(&model, &site_plans).map_err(in_file(path))?;
    write(&data, &edits, &arguments.output, path)
        .map_err(|error| Stop::Failed(error.to_string()))?;
    writeln!(
        terminal.out,
        "{}: {}, {} {}",
        arguments.output.display(),
        count(site_plans.len(), "site"),
        edits.len(),
        if arguments.revert { "reverted" } else { "patched" }
    )?;
    Ok(Exit::Holds)
}
