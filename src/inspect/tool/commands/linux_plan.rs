//! The command `patchlet plan` for a Linux kernel: what its own patching would make of each site.

use std::collections::BTreeMap;

use serde::Serialize;

use super::linux_sites::table;
use crate::disassemble::disassemble;
use crate::inspect::error::FileError;
use crate::inspect::hex;
use crate::inspect::linux::{LinuxKernel, LinuxSitePlan, PlanCertainty, TableKind, plan};
use crate::inspect::tool::arguments::PlanArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::output::{Stream, count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

/// The number of sites of a table that have a certainty, and of those that change.
#[derive(Clone, Copy, Default)]
struct PlanCounts {
    sites: usize,
    change: usize,
}

pub(super) fn linux_plan(
    arguments: &PlanArguments,
    kernel: &LinuxKernel<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let bad = |why: String| in_file(path)(FileError::new(why));
    if arguments.platform.platform != "native" || arguments.nops.is_some() {
        let why =
            "--platform and --nops are for kernels with this crate: Linux chooses them itself";
        return Err(bad(why.to_owned()));
    }
    let tables: Vec<TableKind> =
        arguments.table.iter().map(|name| table(name)).collect::<Result<_, _>>().map_err(bad)?;
    let mut keys = Vec::new();
    for words in &arguments.platform.key {
        let (name, state) = words.rsplit_once('=').unwrap_or((words, ""));
        let key = kernel.key(name).ok_or_else(|| bad(format!("there is no key {name}")))?;
        match state {
            "on" => keys.push((key, true)),
            "off" => keys.push((key, false)),
            _ => return Err(bad(format!("`{words}` is no state of a key: say KEY=on or KEY=off"))),
        }
    }
    let is_wanted = |address| kernel.is_in_function(&arguments.function, address);
    let mut plans = plan(kernel, &keys, is_wanted);
    let of_table = |kind: &TableKind| tables.is_empty() || tables.contains(kind);
    plans.retain(|plan| plan.tables.iter().any(of_table));
    let mut counts: BTreeMap<(TableKind, PlanCertainty), PlanCounts> = BTreeMap::new();
    for plan in &plans {
        for &kind in plan.tables.iter().filter(|kind| of_table(kind)) {
            let of = counts.entry((kind, plan.certainty)).or_default();
            of.sites += 1;
            of.change += usize::from(plan.before != plan.after);
        }
    }
    if arguments.json {
        json(arguments, kernel, &plans, &counts, terminal)?;
        return Ok(Exit::Holds);
    }
    let heading = format!("{}: {}", path.display(), kernel.heading());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    for plan in &plans {
        print(kernel, plan, terminal)?;
    }
    let columns = [text("TABLE"), text("IS"), number("SITES"), number("CHANGE")];
    columns::print(terminal, &columns, || {
        counts.iter().map(|((kind, certainty), of)| {
            let (kind, certainty) = (kind.name().to_owned(), certainty.name().to_owned());
            vec![kind, certainty, of.sites.to_string(), of.change.to_string()]
        })
    })?;
    let changed = plans.iter().filter(|plan| plan.before != plan.after).count();
    writeln!(terminal.out, "{}, {changed} would change", count(plans.len(), "site"))?;
    Ok(Exit::Holds)
}

/// Prints a site that changes, or of which it is not decided.
fn print(
    kernel: &LinuxKernel<'_>,
    plan: &LinuxSitePlan,
    terminal: &mut Terminal<'_>,
) -> Result<(), Stop> {
    /// How many forms of an undecided site are listed.
    const SHOWN: usize = 8;
    let is_open = matches!(plan.certainty, PlanCertainty::Undecided | PlanCertainty::RunTime);
    if plan.before == plan.after && !is_open {
        return Ok(());
    }
    let kinds: Vec<&str> = plan.tables.iter().map(|kind| kind.name()).collect();
    let LinuxSitePlan { address, function, why, depends, .. } = plan;
    let heading = format!(
        "{address:#x}  {} → {} ({why})  {function}",
        kinds.join("+"),
        plan.certainty.name()
    );
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    let code = |bytes: &[u8]| {
        // An operand is no instruction.
        let is_operand = plan.tables.iter().all(|kind| kind.is_operand());
        let text = match is_operand {
            true => "operand".to_owned(),
            false => disassemble(kernel.width(), *address, bytes, |target| kernel.name_of(target)),
        };
        format!("{}  {text}", hex::bytes_in_hex(bytes))
    };
    if !is_open {
        let line = format!("  - {}", code(&plan.before));
        writeln!(terminal.out, "{}", terminal.paint(Paint::Bad, &line))?;
        let line = format!("  + {}", code(&plan.after));
        writeln!(terminal.out, "{}", terminal.paint(Paint::Good, &line))?;
        return Ok(());
    }
    writeln!(terminal.out, "  = {}", code(&plan.before))?;
    if plan.forms.is_empty() && !depends.is_empty() {
        writeln!(terminal.out, "    depends on {depends}")?;
    }
    for form in plan.forms.iter().take(SHOWN) {
        writeln!(terminal.out, "  ? {} ({})", code(&form.bytes), form.condition)?;
    }
    let more = plan.forms.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(terminal.out, "    and {more} more forms")?;
    }
    Ok(())
}

fn json(
    arguments: &PlanArguments,
    kernel: &LinuxKernel<'_>,
    plans: &[LinuxSitePlan],
    counts: &BTreeMap<(TableKind, PlanCertainty), PlanCounts>,
    terminal: &mut Terminal<'_>,
) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Form<'a> {
        bytes: String,
        condition: &'a str,
    }
    #[derive(Serialize)]
    struct Row<'a> {
        address: String,
        function: &'a str,
        tables: Vec<&'static str>,
        depends: &'a str,
        certainty: &'static str,
        why: &'a str,
        before: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        forms: Vec<Form<'a>>,
    }
    #[derive(Serialize)]
    struct CountRow {
        table: &'static str,
        certainty: &'static str,
        sites: usize,
        change: usize,
    }
    #[derive(Serialize)]
    struct Document<'a, S: Serialize> {
        file: String,
        release: Option<&'a str>,
        cpu: Option<&'a str>,
        counts: Vec<CountRow>,
        sites: S,
    }
    let rows = || {
        plans.iter().map(|plan| {
            let is_open =
                matches!(plan.certainty, PlanCertainty::Undecided | PlanCertainty::RunTime);
            let form = |bytes: &[u8]| hex::bytes_in_hex(bytes);
            let forms = plan.forms.iter();
            Row {
                address: format!("{:#x}", plan.address),
                function: &plan.function,
                tables: plan.tables.iter().map(|kind| kind.name()).collect(),
                depends: &plan.depends,
                certainty: plan.certainty.name(),
                why: &plan.why,
                before: form(&plan.before),
                after: (!is_open).then(|| form(&plan.after)),
                forms: forms
                    .map(|of| Form { bytes: form(&of.bytes), condition: &of.condition })
                    .collect(),
            }
        })
    };
    let document = Document {
        file: arguments.file.display().to_string(),
        release: kernel.release(),
        cpu: arguments.platform.cpu.as_deref(),
        counts: counts
            .iter()
            .map(|((kind, certainty), of)| CountRow {
                table: kind.name(),
                certainty: certainty.name(),
                sites: of.sites,
                change: of.change,
            })
            .collect(),
        sites: Stream(rows),
    };
    print_json(terminal, &document)
}
