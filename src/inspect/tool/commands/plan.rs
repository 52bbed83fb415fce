//! The command `patchlet plan`: shows what patching would do, site by site.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspect::finding::Finding;
use crate::inspect::plan::plan as plan_of;
use crate::inspect::tool::arguments::PlanArguments;
use crate::inspect::tool::open::{filled_with, linked, platform, read};
use crate::inspect::tool::output::{Stream, count, print_findings, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::tool::views::{CodeView, SitePlanView};

pub(in crate::inspect::tool) fn plan(
    arguments: &PlanArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let platform = platform(&arguments.platform)?;
    let data = read(path)?;
    let model = filled_with(linked(path, &data)?, arguments.nops, path)?;
    let findings = model.findings_of_reading();
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if model.is_without_patchlet() {
        print_findings(terminal, findings)?;
        return Ok(exit);
    }
    let mut site_plans = plan_of(&model, &platform).map_err(in_file(path))?;
    site_plans.sort_by_key(|site_plan| site_plan.record.site);
    let views = || site_plans.iter().map(|site_plan| SitePlanView::new(&model, site_plan));
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for site_plan in &site_plans {
        *counts.entry(site_plan.gets).or_default() += 1;
    }
    let changed = site_plans.iter().filter(|site_plan| site_plan.before != site_plan.after).count();
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'v, S: Serialize> {
            file: String,
            platform: &'v str,
            sites: S,
            changed: usize,
            counts: BTreeMap<&'static str, usize>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<Finding>,
        }
        let (file, platform) = (path.display().to_string(), &*arguments.platform);
        let (sites, findings) = (Stream(views), findings.sorted());
        print_json(terminal, &Document { file, platform, sites, changed, counts, findings })?;
        return Ok(exit);
    }
    for view in views() {
        let SitePlanView { address, function, op, gets, changes, before, after } = view;
        let heading = format!("{address}  {op} → {gets}  {function}");
        writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
        let line =
            |sign, code: &CodeView| format!("  {sign} {}  {}", code.bytes, code.instructions);
        if changes {
            writeln!(terminal.out, "{}", terminal.paint(Paint::Bad, &line('-', &before)))?;
            writeln!(terminal.out, "{}", terminal.paint(Paint::Good, &line('+', &after)))?;
        } else {
            writeln!(terminal.out, "{}", line('=', &after))?;
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(gets, count)| format!("{count} {gets}")).collect();
    let all = count(site_plans.len(), "site");
    writeln!(terminal.out, "{all}, {changed} would change: {}", counts.join(", "))?;
    print_findings(terminal, findings)?;
    Ok(exit)
}
