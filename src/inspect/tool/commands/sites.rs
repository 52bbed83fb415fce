//! The command `patchlet sites`: lists the patch sites of a linked file.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use super::linux_sites::linux_sites;
use crate::inspect::error::FileError;
use crate::inspect::finding::Finding;
use crate::inspect::formats::{BranchImage, SiteImage};
use crate::inspect::model::{BranchForm, SiteState};
use crate::inspect::tool::arguments::SitesArguments;
use crate::inspect::tool::branch_views::BranchView;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::{is_linux, linked, read, with_linux};
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
    variant: usize,
    foreign: usize,
    by_op: BTreeMap<String, usize>,
}

/// The numbers of branch sites: in the file, shown, and of those shown by form and by key.
#[derive(Default, Serialize)]
struct BranchCounts {
    all: usize,
    shown: usize,
    nop: usize,
    jump: usize,
    foreign: usize,
    by_key: BTreeMap<String, usize>,
}

pub(in crate::inspect::tool) fn sites(
    arguments: &SitesArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    if is_linux(&data) {
        return with_linux(path, &data, None, |kernel| linux_sites(arguments, kernel, terminal));
    }
    if !arguments.table.is_empty() {
        let words = "--table is for Linux kernels: this one has sites of ops and branches";
        return Err(in_file(path)(FileError::new(words)));
    }
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
    let mut keys = HashSet::new();
    for words in &arguments.key {
        let meant = model.keys_meant(words).map_err(in_file(path))?;
        keys.extend(meant.iter().filter_map(|key| key.address));
    }
    let findings = model.findings_of_reading();
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    let in_function = |site: u64| {
        let function = || model.function(site);
        arguments.function.is_empty()
            || arguments.function.iter().any(|part| function().contains(part))
    };
    // A filter for one kind of site leaves out the other kind, unless there is one for it, too.
    let all = arguments.op.is_empty() && arguments.key.is_empty();
    let wanted =
        |record: &&SiteImage| (all || slots.contains(&record.slot)) && in_function(record.site);
    let wanted_branch =
        |branch: &&BranchImage| (all || keys.contains(&branch.key)) && in_function(branch.site);
    let mut branches: Vec<&BranchImage> = model.branches().iter().filter(wanted_branch).collect();
    branches.sort_by_key(|branch| branch.site);
    let branch_views = || branches.iter().map(|branch| BranchView::new(&model, branch, moved));
    let mut branch_counts = BranchCounts {
        all: model.branches().len(),
        shown: branches.len(),
        ..BranchCounts::default()
    };
    for branch in &branches {
        *branch_counts.by_key.entry(model.key_name_of(branch).to_owned()).or_default() += 1;
        *match model.branch_form(branch) {
            BranchForm::Nop => &mut branch_counts.nop,
            BranchForm::Jump => &mut branch_counts.jump,
            BranchForm::Foreign => &mut branch_counts.foreign,
        } += 1;
    }
    let mut shown: Vec<&SiteImage> = model.records().iter().filter(wanted).collect();
    shown.sort_by_key(|record| record.site);
    let views = || shown.iter().map(|record| SiteView::new(&model, record, moved));
    let mut counts = Counts { all: model.records().len(), shown: shown.len(), ..Counts::default() };
    for record in &shown {
        *counts.by_op.entry(model.op_name_of(record)).or_default() += 1;
        *match model.state(record) {
            SiteState::Indirect => &mut counts.indirect,
            SiteState::Native => &mut counts.native,
            SiteState::Variant => &mut counts.variant,
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
        struct Document<S: Serialize, B: Serialize> {
            file: String,
            format: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            addresses: Option<String>,
            sites: S,
            counts: Counts,
            branches: B,
            branch_counts: BranchCounts,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            findings: Vec<Finding>,
        }
        let (file, format) = (path.display().to_string(), model.image().words());
        let (sites, branches, findings) = (Stream(views), Stream(branch_views), findings.sorted());
        let document =
            Document { file, format, addresses, sites, counts, branches, branch_counts, findings };
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
    if arguments.key.is_empty() || !arguments.op.is_empty() {
        let Counts { all, indirect, native, variant, foreign, by_op, .. } = counts;
        let shown = of(shown.len(), all, "site");
        // Few files have any.
        let variant = if variant > 0 { format!("{variant} variant, ") } else { String::new() };
        let states = format!("{indirect} indirect, {native} native, {variant}{foreign} foreign");
        writeln!(terminal.out, "{shown}: {states}")?;
        for (op, count) in by_op {
            writeln!(terminal.out, "{count:>6} {op}")?;
        }
    }
    if !branches.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("KEY"),
            text("OUT OF LINE"),
            text("NOW"),
            text("BYTES"),
            text("TARGET"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || branch_views().map(BranchView::row))?;
        let BranchCounts { all, nop, jump, foreign, by_key, .. } = branch_counts;
        let shown = of(branches.len(), all, "branch site");
        writeln!(terminal.out, "{shown}: {nop} nop, {jump} jump, {foreign} foreign")?;
        for (key, count) in by_key {
            writeln!(terminal.out, "{count:>6} {key}")?;
        }
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}

/// Returns how many of all things are shown, such as `2 sites of 6`.
fn of(shown: usize, all: usize, what: &str) -> String {
    let of = if shown == all { String::new() } else { format!(" of {all}") };
    format!("{}{of}", count(shown, what))
}
