//! The command `patchlet sites` for a Linux kernel or one of its modules.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspect::error::FileError;
use crate::inspect::hex;
use crate::inspect::linux::{LinuxKernel, SiteFilter, TableKind};
use crate::inspect::tool::arguments::SitesArguments;
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::output::{Stream, count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(super) fn linux_sites(
    arguments: &SitesArguments,
    kernel: &LinuxKernel<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let bad = |why: String| in_file(path)(FileError::new(why));
    if !arguments.op.is_empty() {
        return Err(bad("a Linux kernel has no ops: use --table, --key or --function".to_owned()));
    }
    if arguments.loaded_at.is_some() {
        return Err(bad("--loaded-at is for kernels with this crate".to_owned()));
    }
    let mut filter = SiteFilter::default();
    filter.functions.clone_from(&arguments.function);
    for name in &arguments.table {
        filter.tables.push(table(name).map_err(bad)?);
    }
    for words in &arguments.key {
        let key = kernel.key(words).ok_or_else(|| bad(format!("there is no key {words}")))?;
        filter.keys.push(key);
    }
    let sites = kernel.sites(&filter);
    let views = || sites.iter().map(|site| kernel.listed(site));
    let mut counts: BTreeMap<TableKind, usize> = BTreeMap::new();
    for site in &sites {
        *counts.entry(site.table()).or_default() += 1;
    }
    let all: usize = kernel.tables().iter().map(|(.., records)| records).sum();
    if arguments.json {
        #[derive(Serialize)]
        struct Row {
            address: String,
            table: &'static str,
            depends: String,
            leads_to: String,
            length: usize,
            bytes: String,
            instructions: String,
            function: String,
        }
        #[derive(Serialize)]
        struct Document<'a, S: Serialize> {
            file: String,
            release: Option<&'a str>,
            all: usize,
            counts: BTreeMap<&'static str, usize>,
            sites: S,
        }
        let rows = || {
            views().map(|site| Row {
                address: format!("{:#x}", site.address),
                table: site.table.name(),
                depends: site.depends,
                leads_to: site.leads_to,
                length: site.bytes.len(),
                bytes: hex::bytes_in_hex(&site.bytes),
                instructions: site.instructions,
                function: site.function,
            })
        };
        let document = Document {
            file: path.display().to_string(),
            release: kernel.release(),
            all,
            counts: counts.into_iter().map(|(kind, count)| (kind.name(), count)).collect(),
            sites: Stream(rows),
        };
        print_json(terminal, &document)?;
        return Ok(Exit::Holds);
    }
    let heading = format!("{}: {}", path.display(), kernel.heading());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if !sites.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("TABLE"),
            text("DEPENDS ON"),
            text("LEADS TO"),
            number("LEN"),
            text("BYTES"),
            text("INSTRUCTIONS"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || {
            views().map(|site| {
                vec![
                    format!("{:#x}", site.address),
                    site.table.name().to_owned(),
                    site.depends,
                    site.leads_to,
                    site.bytes.len().to_string(),
                    hex::bytes_in_hex(&site.bytes),
                    site.instructions,
                    site.function,
                ]
            })
        })?;
    }
    let of = if sites.len() == all { String::new() } else { format!(" of {all}") };
    writeln!(terminal.out, "{}{of}", count(sites.len(), "site"))?;
    for (kind, count) in counts {
        writeln!(terminal.out, "{count:>6} {}", kind.name())?;
    }
    Ok(Exit::Holds)
}

/// Returns the kind of table of this name.
pub(super) fn table(name: &str) -> Result<TableKind, String> {
    TableKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let all: Vec<&str> = TableKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there is no table {name}: the tables are {}", all.join(", "))
    })
}
