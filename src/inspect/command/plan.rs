//! `patchlet plan`

use std::collections::BTreeMap;

use serde::Serialize;

use super::output::{Stream, count, print_json};
use super::{Exit, Stop, Terminal, in_file};
use crate::inspect::arguments::Plan;
use crate::inspect::columns::Paint;
use crate::inspect::map::map;
use crate::inspect::model::Model;
use crate::inspect::read::parse;
use crate::inspect::views::{Code, OutcomeView};

pub(super) fn plan(arguments: &Plan, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let platform = arguments.platform.parse().map_err(|error| Stop::Failed(format!("{error}")))?;
    let data = map(path).map_err(in_file(path))?;
    let model = parse(&data).and_then(Model::new).map_err(in_file(path))?;
    let mut outcomes = crate::inspect::plan::plan(&model, &platform).map_err(in_file(path))?;
    outcomes.sort_by_key(|outcome| outcome.record.site);
    let views = || outcomes.iter().map(|outcome| OutcomeView::new(&model, outcome));
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for outcome in &outcomes {
        *counts.entry(outcome.gets).or_default() += 1;
    }
    let changed = outcomes.iter().filter(|outcome| outcome.before != outcome.after).count();
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'v, S: Serialize> {
            file: String,
            platform: &'v str,
            sites: S,
            changed: usize,
            counts: BTreeMap<&'static str, usize>,
        }
        let (file, platform) = (path.display().to_string(), &*arguments.platform);
        let sites = Stream(views);
        print_json(terminal, &Document { file, platform, sites, changed, counts })?;
        return Ok(Exit::Holds);
    }
    for view in views() {
        let OutcomeView { address, function, op, gets, changes, before, after } = view;
        let heading = format!("{address}  {op} → {gets}  {function}");
        writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
        let line = |sign, code: &Code| format!("  {sign} {}  {}", code.bytes, code.instructions);
        if changes {
            writeln!(terminal.out, "{}", terminal.paint(Paint::Bad, &line('-', &before)))?;
            writeln!(terminal.out, "{}", terminal.paint(Paint::Good, &line('+', &after)))?;
        } else {
            writeln!(terminal.out, "{}", line('=', &after))?;
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(gets, count)| format!("{count} {gets}")).collect();
    let all = count(outcomes.len(), "site");
    writeln!(terminal.out, "{all}, {changed} would change: {}", counts.join(", "))?;
    Ok(Exit::Holds)
}
