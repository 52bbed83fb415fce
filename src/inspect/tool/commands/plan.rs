//! The command `patchlet plan`: shows what patching would do, site by site.

use std::collections::BTreeMap;

use serde::Serialize;

use super::linux_plan::linux_plan;
use crate::inspect::error::FileError;
use crate::inspect::finding::Finding;
use crate::inspect::model::BranchForm;
use crate::inspect::plan::{plan as plan_of, plan_branches, plan_keys};
use crate::inspect::tool::arguments::PlanArguments;
use crate::inspect::tool::branch_views::{BranchPlanView, CpuView, KeyPlanView};
use crate::inspect::tool::open::{filled_with, is_linux, linked, platform, read, with_linux};
use crate::inspect::tool::output::{Stream, count, print_findings, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::tool::views::{CodeView, SitePlanView};

pub(in crate::inspect::tool) fn plan(
    arguments: &PlanArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    if is_linux(&data) {
        let platform = Some(&arguments.platform);
        return with_linux(path, &data, platform, |kernel| linux_plan(arguments, kernel, terminal));
    }
    if !arguments.table.is_empty() || !arguments.function.is_empty() {
        let words = "--table and --function are for Linux kernels";
        return Err(in_file(path)(FileError::new(words)));
    }
    let model = filled_with(linked(path, &data)?, arguments.nops, path)?;
    let platform = platform(&arguments.platform, model.image().width())?;
    let findings = model.findings_of_reading();
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if model.is_without_patchlet() {
        print_findings(terminal, findings)?;
        return Ok(exit);
    }
    let mut site_plans = plan_of(&model, &platform).map_err(in_file(path))?;
    site_plans.sort_by_key(|site_plan| site_plan.record.site);
    let keys = plan_keys(&model, &platform).map_err(in_file(path))?;
    let mut branches = plan_branches(&model, &keys).map_err(in_file(path))?;
    branches.sort_by_key(|plan| plan.record.site);
    let cpu = platform.cpu().map(|cpu| CpuView::new(cpu, &model)).transpose();
    let cpu = cpu.map_err(in_file(path))?;
    let views = || site_plans.iter().map(|site_plan| SitePlanView::new(&model, site_plan));
    let branch_views = || branches.iter().map(|plan| BranchPlanView::new(&model, plan));
    let keys = || keys.iter().map(KeyPlanView::new);
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for site_plan in &site_plans {
        *counts.entry(site_plan.gets).or_default() += 1;
    }
    let changed = site_plans.iter().filter(|site_plan| site_plan.before != site_plan.after).count();
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'v, S: Serialize, B: Serialize, K: Serialize> {
            file: String,
            platform: &'v str,
            #[serde(skip_serializing_if = "Option::is_none")]
            cpu: Option<CpuView>,
            sites: S,
            changed: usize,
            counts: BTreeMap<&'static str, usize>,
            branches: B,
            keys: K,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<Finding>,
        }
        let (file, platform) = (path.display().to_string(), &*arguments.platform.platform);
        let (sites, branches, keys) = (Stream(views), Stream(branch_views), Stream(keys));
        let findings = findings.sorted();
        let document =
            Document { file, platform, cpu, sites, changed, counts, branches, keys, findings };
        print_json(terminal, &document)?;
        return Ok(exit);
    }
    if let Some(cpu) = &cpu {
        writeln!(terminal.out, "{}", cpu.line())?;
    }
    for view in views() {
        let SitePlanView { address, function, op, gets, condition, changes, before, after } = view;
        let condition = match condition.as_deref() {
            None => String::new(),
            Some("") => " (always)".to_owned(),
            Some(condition) => format!(" ({condition})"),
        };
        let heading = format!("{address}  {op} → {gets}{condition}  {function}");
        change(terminal, &heading, changes, &before, &after)?;
    }
    for view in branch_views() {
        let BranchPlanView { address, function, key, gets, changes, before, after } = view;
        let heading = format!("{address}  branch of {key} → {gets}  {function}");
        change(terminal, &heading, changes, &before, &after)?;
    }
    for view in keys().filter(|view| view.before != view.after) {
        let line = format!("{}  key {}: {}", view.address, view.name, view.words);
        writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &line))?;
    }
    let counts: Vec<String> =
        counts.iter().map(|(gets, count)| format!("{count} {gets}")).collect();
    let all = count(site_plans.len(), "site");
    writeln!(terminal.out, "{all}, {changed} would change: {}", counts.join(", "))?;
    if !branches.is_empty() {
        let changed = branches.iter().filter(|plan| plan.before != plan.after).count();
        let jumps = branches.iter().filter(|plan| plan.gets == BranchForm::Jump).count();
        let all = count(branches.len(), "branch site");
        let nops = branches.len() - jumps;
        writeln!(terminal.out, "{all}, {changed} would change: {jumps} jump, {nops} nop")?;
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}

/// Prints the plan for one site: a heading, then what it holds and what it would get.
fn change(
    terminal: &mut Terminal<'_>,
    heading: &str,
    changes: bool,
    before: &CodeView,
    after: &CodeView,
) -> Result<(), Stop> {
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, heading))?;
    let line = |sign, code: &CodeView| format!("  {sign} {}  {}", code.bytes, code.instructions);
    if changes {
        writeln!(terminal.out, "{}", terminal.paint(Paint::Bad, &line('-', before)))?;
        writeln!(terminal.out, "{}", terminal.paint(Paint::Good, &line('+', after)))?;
    } else {
        writeln!(terminal.out, "{}", line('=', after))?;
    }
    Ok(())
}
