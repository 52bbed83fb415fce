//! The command `patchlet audit`: instructions of a Linux kernel without a record, and records that
//! are for something else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::inspect::error::FileError;
use crate::inspect::hex;
use crate::inspect::linux::{Audit, AuditFinding, AuditKind, LinuxKernel, TableKind};
use crate::inspect::tool::arguments::AuditArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::{Program, kind_of, read, with_linux};
use crate::inspect::tool::output::{Stream, count, print_json};
use crate::inspect::tool::progress::audit_with_progress;
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(in crate::inspect::tool) fn audit(
    arguments: &AuditArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    let allowed = Allowed::new(arguments)?;
    if kind_of(&data) == Program::Crate {
        return Err(in_file(path)(FileError::new(
            "a kernel that is patched by this crate: `patchlet verify` looks for the same and more",
        )));
    }
    with_linux(path, &data, None, |kernel| report(arguments, kernel, &allowed, terminal))
}

/// The functions whose findings are known and meant.
struct Allowed {
    /// Whole names.
    names: Vec<String>,
    /// What names begin with.
    prefixes: Vec<String>,
}

impl Allowed {
    /// Reads what the command line allows.
    fn new(arguments: &AuditArguments) -> Result<Self, Stop> {
        let mut all: Vec<String> = arguments.allow.clone();
        for path in &arguments.allow_from {
            let bad = |error: std::io::Error| in_file(path)(FileError::new(error.to_string()));
            let list = fs::read_to_string(path).map_err(bad)?;
            let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            all.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        }
        let (mut names, mut prefixes) = (Vec::new(), Vec::new());
        for name in all {
            match name.strip_suffix('*') {
                Some(prefix) => prefixes.push(prefix.to_owned()),
                None => names.push(name),
            }
        }
        names.sort_unstable();
        Ok(Self { names, prefixes })
    }

    fn has(&self, finding: &AuditFinding) -> bool {
        let function = &finding.function;
        self.names.binary_search(function).is_ok()
            || self.prefixes.iter().any(|prefix| function.starts_with(prefix))
    }
}

/// The findings of one kind in one function.
#[derive(Serialize)]
struct FunctionRow<'a> {
    function: &'a str,
    kind: &'static str,
    count: usize,
    /// Address of the first.
    first: String,
    #[serde(skip)]
    example: &'a AuditFinding,
}

fn report(
    arguments: &AuditArguments,
    kernel: &LinuxKernel<'_>,
    allowed: &Allowed,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let mut audit = audit_with_progress(kernel, terminal);
    let all = audit.findings.len();
    audit.findings.retain(|finding| !allowed.has(finding));
    let allowed = all - audit.findings.len();
    let exit = if audit.findings.is_empty() { Exit::Holds } else { Exit::Finding };
    let functions = by_function(&audit.findings);
    if arguments.json {
        json(path, kernel, &audit, allowed, &functions, terminal)?;
        return Ok(exit);
    }
    let heading = format!("{}: {}", path.display(), kernel.heading());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    writeln!(terminal.out, "built with {}", audit.built_with.words())?;
    let tables: Vec<String> = records(kernel)
        .into_iter()
        .map(|(kind, records)| format!("{records} {}", kind.name()))
        .collect();
    let tables = if tables.is_empty() { "none".to_owned() } else { tables.join(", ") };
    writeln!(terminal.out, "records: {tables}")?;
    if arguments.all && !audit.findings.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("FINDING"),
            text("BYTES"),
            text("INSTRUCTION"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || {
            audit.findings.iter().map(|finding| {
                let mut instruction = finding.instruction.clone();
                if !finding.words.is_empty() {
                    instruction = format!("{instruction} ({})", finding.words);
                }
                vec![
                    format!("{:#x}", finding.address),
                    finding.kind.name().to_owned(),
                    hex::bytes_in_hex(&finding.bytes),
                    instruction,
                    finding.place(),
                ]
            })
        })?;
    } else if !functions.is_empty() {
        let columns = [
            text("FUNCTION"),
            text("FINDING"),
            number("COUNT"),
            text("FIRST"),
            text("INSTRUCTION"),
        ];
        columns::print(terminal, &columns, || functions.iter().map(row))?;
    }
    for (kind, count) in &audit.exempt {
        writeln!(
            terminal.out,
            "{count:>6} {} without a record in code of the boot, thunks and replacements: meant",
            kind.name()
        )?;
    }
    for (kind, count) in audit.counts() {
        writeln!(terminal.out, "{count:>6} {}", kind.name())?;
    }
    let verdict = match audit.findings.len() {
        0 => terminal.paint(Paint::Good, "nothing found"),
        findings => terminal.paint(Paint::Bad, &count(findings, "finding")),
    };
    let allowed = if allowed > 0 { format!(", {allowed} allowed") } else { String::new() };
    writeln!(
        terminal.out,
        "{} of text, {}{allowed}: {verdict}",
        count(usize::try_from(audit.text).unwrap_or(usize::MAX), "byte"),
        count(functions.len(), "row"),
    )?;
    Ok(exit)
}

/// Returns how many records there are of each kind.
fn records(kernel: &LinuxKernel<'_>) -> BTreeMap<TableKind, usize> {
    let mut counts = BTreeMap::new();
    for (kind, _, _, records) in kernel.tables() {
        *counts.entry(kind).or_default() += records;
    }
    counts
}

/// Counts findings by function and kind. Functions come in the order of their addresses.
fn by_function(findings: &[AuditFinding]) -> Vec<FunctionRow<'_>> {
    let mut counts: BTreeMap<(&str, AuditKind), (usize, &AuditFinding)> = BTreeMap::new();
    for finding in findings {
        let entry = counts.entry((&finding.function, finding.kind)).or_insert((0, finding));
        entry.0 += 1;
    }
    let rows = counts.into_iter().map(|((function, kind), (count, example))| FunctionRow {
        function,
        kind: kind.name(),
        count,
        first: format!("{:#x}", example.address),
        example,
    });
    let mut rows: Vec<FunctionRow<'_>> = rows.collect();
    rows.sort_by_key(|row| (row.example.address, row.example.kind));
    rows
}

fn row(row: &FunctionRow<'_>) -> Vec<String> {
    let example = row.example;
    let words = match &*example.words {
        "" => example.instruction.clone(),
        words => format!("{} ({words})", example.instruction),
    };
    let function = if row.function.is_empty() { "(no name)" } else { row.function };
    vec![function.to_owned(), row.kind.to_owned(), row.count.to_string(), row.first.clone(), words]
}

fn json(
    path: &Path,
    kernel: &LinuxKernel<'_>,
    audit: &Audit,
    allowed: usize,
    functions: &[FunctionRow<'_>],
    terminal: &mut Terminal<'_>,
) -> Result<(), Stop> {
    #[derive(Serialize)]
    struct Row<'a> {
        kind: &'static str,
        address: String,
        function: &'a str,
        distance: String,
        bytes: String,
        instruction: &'a str,
        words: &'a str,
    }
    #[derive(Serialize)]
    struct Document<'a, S: Serialize> {
        file: String,
        release: Option<&'a str>,
        built_with: String,
        records: BTreeMap<&'static str, usize>,
        counts: BTreeMap<&'static str, usize>,
        exempt: BTreeMap<&'static str, usize>,
        allowed: usize,
        functions: &'a [FunctionRow<'a>],
        findings: S,
    }
    let rows = || {
        audit.findings.iter().map(|finding| Row {
            kind: finding.kind.name(),
            address: format!("{:#x}", finding.address),
            function: &finding.function,
            distance: format!("{:#x}", finding.distance),
            bytes: hex::bytes_in_hex(&finding.bytes),
            instruction: &finding.instruction,
            words: &finding.words,
        })
    };
    let document = Document {
        file: path.display().to_string(),
        release: kernel.release(),
        built_with: audit.built_with.words(),
        records: records(kernel).into_iter().map(|(kind, count)| (kind.name(), count)).collect(),
        counts: audit.counts().into_iter().map(|(kind, count)| (kind.name(), count)).collect(),
        exempt: audit.exempt.iter().map(|(kind, &count)| (kind.name(), count)).collect(),
        allowed,
        functions,
        findings: Stream(rows),
    };
    print_json(terminal, &document)
}
