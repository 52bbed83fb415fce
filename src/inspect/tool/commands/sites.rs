//! The command `patchlet sites`: lists the patch sites of a linked file.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::inspect::error::FileError;
use crate::inspect::finding::Finding;
use crate::inspect::formats::SiteImage;
use crate::inspect::model::SiteState;
use crate::inspect::tool::arguments::SitesArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::{linked, read};
use crate::inspect::tool::output::{Stream, count, print_findings, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::tool::views::SiteView;

/// The numbers of sites: in the file, shown, and of those shown by state and by op.
#[derive(Default, Serialize)]
struct Counts {
    all: usize,
    shown: usize,
    indirect: usize,
    native: usize,
    foreign: usize,
    by_op: BTreeMap<String, usize>,
}

pub(in crate::inspect::tool) fn sites(
    arguments: &SitesArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    let model = linked(path, &data)?;
    let moved = match arguments.loaded_at {
        None => 0,
        Some(address) => model.image().distance_to(address).ok_or_else(|| {
            in_file(path)(FileError::new(
                "--loaded-at: it is linked for a fixed address, where it is loaded, too",
            ))
        })?,
    };
    let mut slots = HashSet::new();
    for words in arguments.op.iter().filter(|_| !model.ops.is_empty()) {
        let meant = model.ops.iter().filter(|op| model.is_meant(op, words));
        let found: Vec<u64> = meant.map(|op| op.slot).collect();
        if found.is_empty() {
            return Err(in_file(path)(model.no_such_op(words)));
        }
        slots.extend(found);
    }
    let findings = model.findings_of_reading();
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    let wanted = |record: &&SiteImage| {
        let function = || model.function(record.site);
        (arguments.op.is_empty() || slots.contains(&record.slot))
            && (arguments.function.is_empty()
                || arguments.function.iter().any(|part| function().contains(part)))
    };
    let mut shown: Vec<&SiteImage> = model.records().iter().filter(wanted).collect();
    shown.sort_by_key(|record| record.site);
    let views = || shown.iter().map(|record| SiteView::new(&model, record, moved));
    let mut counts = Counts { all: model.records().len(), shown: shown.len(), ..Counts::default() };
    for record in &shown {
        *counts.by_op.entry(model.op_name_of(record)).or_default() += 1;
        *match model.state(record) {
            SiteState::Indirect => &mut counts.indirect,
            SiteState::Native => &mut counts.native,
            SiteState::Foreign => &mut counts.foreign,
        } += 1;
    }
    // The heading says which addresses these are, since a running kernel may print others.
    let addresses = arguments.loaded_at.map_or_else(
        || model.image().address_words().map(str::to_owned),
        |address| Some(format!("addresses as loaded at {address:#x}")),
    );
    if arguments.json {
        #[derive(Serialize)]
        struct Document<S: Serialize> {
            file: String,
            format: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            addresses: Option<String>,
            sites: S,
            counts: Counts,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<Finding>,
        }
        let (file, format) = (path.display().to_string(), model.image().words());
        let (sites, findings) = (Stream(views), findings.sorted());
        let document = Document { file, format, addresses, sites, counts, findings };
        print_json(terminal, &document)?;
        return Ok(exit);
    }
    if model.is_without_patchlet() {
        print_findings(terminal, findings)?;
        return Ok(exit);
    }
    let addresses = addresses.map_or_else(String::new, |words| format!("; {words}"));
    let heading = format!("{}: {}{addresses}", path.display(), model.image().words());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if !shown.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("OP"),
            text("KIND"),
            number("CAP"),
            text("BYTES"),
            text("INSTRUCTIONS"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || views().map(SiteView::row))?;
    }
    let Counts { all, indirect, native, foreign, by_op, .. } = counts;
    let of = if shown.len() == all { String::new() } else { format!(" of {all}") };
    let shown = count(shown.len(), "site");
    writeln!(terminal.out, "{shown}{of}: {indirect} indirect, {native} native, {foreign} foreign")?;
    for (op, count) in by_op {
        writeln!(terminal.out, "{count:>6} {op}")?;
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}
