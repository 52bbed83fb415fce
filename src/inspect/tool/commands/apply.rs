//! The command `patchlet apply`: patches the sites in a copy of a file, and sets its keys.

use crate::inspect::apply::{edits, edits_of_branches, write};
use crate::inspect::plan::{plan, plan_branches, plan_keys, plan_keys_revert, plan_revert};
use crate::inspect::tool::arguments::ApplyArguments;
use crate::inspect::tool::open::{compared_with, filled_with, linked, platform, read};
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
    let model = linked(path, &data)?;
    let platform = platform(&arguments.platform, model.image().width())?;
    let model = compared_with(model, &platform, path)?;
    let model = filled_with(model, arguments.nops, path)?;
    let findings = verify_with_progress(&model, &Reference::native(&model), terminal);
    if !findings.is_empty() {
        print_findings(terminal, findings)?;
        writeln!(terminal.out, "{}: not everything holds, so nothing is written", path.display())?;
        return Ok(Exit::Finding);
    }
    let plans = if arguments.revert {
        plan_revert(&model).map(|sites| (sites, plan_keys_revert(&model)))
    } else {
        plan(&model, &platform).and_then(|sites| Ok((sites, plan_keys(&model, &platform)?)))
    };
    let (sites, keys) = plans.map_err(in_file(path))?;
    let branches = plan_branches(&model, &keys).map_err(in_file(path))?;
    let mut all = edits(&model, &sites).map_err(in_file(path))?;
    let of_sites = all.len();
    all.extend(edits_of_branches(&model, &branches, &keys).map_err(in_file(path))?);
    all.sort_by_key(|edit| edit.offset);
    write(&data, &all, &arguments.output, path).map_err(|error| Stop::Failed(error.to_string()))?;
    let done = if arguments.revert { "reverted" } else { "patched" };
    let mut counts = vec![format!("{}, {of_sites} {done}", count(sites.len(), "site"))];
    if !branches.is_empty() || !keys.is_empty() {
        let changed =
            |plans: &mut dyn Iterator<Item = bool>| plans.filter(|changes| *changes).count();
        let of_branches = changed(&mut branches.iter().map(|plan| plan.before != plan.after));
        let of_keys = changed(&mut keys.iter().map(|plan| plan.before != plan.after));
        let (all, all_keys) = (count(branches.len(), "branch site"), count(keys.len(), "key"));
        counts.push(format!("{all}, {of_branches} {done}; {all_keys}, {of_keys} changed"));
    }
    writeln!(terminal.out, "{}: {}", arguments.output.display(), counts.join("; "))?;
    Ok(Exit::Holds)
}
