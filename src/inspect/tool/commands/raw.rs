//! The command `patchlet raw`: shows privileged instructions that do not go through their op.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::inspect::finding::Finding;
use crate::inspect::raw::RawInstruction;
use crate::inspect::tool::arguments::RawArguments;
use crate::inspect::tool::columns::{self, text};
use crate::inspect::tool::open::{linked, read};
use crate::inspect::tool::output::{Stream, count, print_findings, print_json};
use crate::inspect::tool::progress::raw_with_progress;
use crate::inspect::tool::stop::Stop;
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::tool::views::RawView;

pub(in crate::inspect::tool) fn raw(
    arguments: &RawArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    let model = linked(path, &data)?;
    let findings = model.findings_of_reading();
    if model.is_without_patchlet() && !arguments.json {
        print_findings(terminal, findings)?;
        return Ok(Exit::Finding);
    }
    let mut found = raw_with_progress(&model, terminal);
    if !arguments.except.is_empty() {
        let function = |of: &RawInstruction| model.function(of.address);
        found.retain(|of| !arguments.except.iter().any(|part| function(of).contains(part)));
    }
    let exit = if found.is_empty() && findings.is_empty() { Exit::Holds } else { Exit::Finding };
    let views = || found.iter().map(|raw| RawView::new(&model, raw));
    let mut by_op: BTreeMap<String, usize> = BTreeMap::new();
    let mut functions = BTreeSet::new();
    for raw in &found {
        *by_op.entry(RawView::op_of(&model, raw).to_owned()).or_default() += 1;
        functions.insert(model.start_of_function(raw.address));
    }
    if arguments.json {
        #[derive(Serialize)]
        struct Document<S: Serialize> {
            file: String,
            format: String,
            raw: S,
            functions: usize,
            counts: BTreeMap<String, usize>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<Finding>,
        }
        let (file, format) = (path.display().to_string(), model.image().words());
        let (functions, findings) = (functions.len(), findings.sorted());
        let document =
            Document { file, format, raw: Stream(views), functions, counts: by_op, findings };
        print_json(terminal, &document)?;
        return Ok(exit);
    }
    let addresses = model.image().address_words();
    let addresses = addresses.map_or_else(String::new, |words| format!("; {words}"));
    let heading = format!("{}: {}{addresses}", path.display(), model.image().words());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if !found.is_empty() {
        let columns =
            [text("ADDRESS"), text("OP"), text("BYTES"), text("INSTRUCTIONS"), text("FUNCTION")];
        columns::print(terminal, &columns, || views().map(RawView::row))?;
    }
    let (all, functions) =
        (count(found.len(), "raw instruction"), count(functions.len(), "function"));
    let line = if found.is_empty() { all } else { format!("{all} in {functions}") };
    let paint = if found.is_empty() { Paint::Good } else { Paint::Bad };
    writeln!(terminal.out, "{}", terminal.paint(paint, &line))?;
    for (op, count) in by_op {
        writeln!(terminal.out, "{count:>6} {op}")?;
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}
