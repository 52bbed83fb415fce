//! `patchlet apply`

use super::output::{count, print_findings};
use super::verify::verify_slowly;
use super::{Exit, Stop, Terminal, in_file};
use crate::inspect::apply::{edits, write};
use crate::inspect::arguments::Apply;
use crate::inspect::map::map;
use crate::inspect::model::Model;
use crate::inspect::plan::{Platform, plan, plan_revert};
use crate::inspect::read::parse;
use crate::inspect::verify::Reference;

pub(super) fn apply(arguments: &Apply, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = map(path).map_err(in_file(path))?;
    let model = parse(&data).and_then(Model::new).map_err(in_file(path))?;
    let findings = verify_slowly(&model, &Reference::native(&model), terminal);
    if !findings.is_empty() {
        print_findings(terminal, findings)?;
        writeln!(terminal.out, "{}: not everything holds, so nothing is written", path.display())?;
        return Ok(Exit::Finding);
    }
    let outcomes =
        if arguments.revert { plan_revert(&model) } else { plan(&model, &Platform::native()) };
    let outcomes = outcomes.map_err(in_file(path))?;
    let edits = edits(&model, &outcomes).map_err(in_file(path))?;
    write(&data, &edits, &arguments.output, path)
        .map_err(|error| Stop::Failed(error.to_string()))?;
    writeln!(
        terminal.out,
        "{}: {}, {} {}",
        arguments.output.display(),
        count(outcomes.len(), "site"),
        edits.len(),
        if arguments.revert { "reverted" } else { "patched" }
    )?;
    Ok(Exit::Holds)
}
