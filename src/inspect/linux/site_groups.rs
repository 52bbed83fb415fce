//! Records whose bytes overlap, as one site: what one rule writes there, another finds.

use std::ops::Range;

use super::kernel::LinuxKernel;
use super::rules::{CALLER, PREAMBLE};
use super::tables::{KernelTable, TableKind, TableRecord};

/// Records whose bytes overlap.
#[derive(Clone, Debug)]
pub(super) struct SiteGroup {
    pub start: u64,
    pub end: u64,
    /// The tables, each with nothing but the records of this site.
    pub tables: Vec<KernelTable>,
}

/// Returns the groups with bytes in a range, sorted by address.
pub(super) fn groups_in(kernel: &LinuxKernel<'_>, range: &Range<u64>) -> Vec<SiteGroup> {
    /// The longest site has fewer bytes.
    const LONGEST: u64 = 256;
    let near = range.start.saturating_sub(LONGEST)..range.end.saturating_add(CALLER);
    let checks_calls = kernel.tables.iter().any(|table| table.kind == TableKind::Cfi);
    let mut found: Vec<(Range<u64>, usize, TableRecord)> = Vec::new();
    for (at, table) in kernel.tables.iter().enumerate() {
        for record in table.records.iter().filter(|record| near.contains(&record.site)) {
            let (start, end) = match table.kind {
                // With the first instruction of the function, behind the preamble.
                TableKind::Cfi => (record.site, record.site.saturating_add(PREAMBLE + 4)),
                kind => {
                    let end = record.site.saturating_add(kernel.site_length(kind, record));
                    let checked = checks_calls && kind == TableKind::Retpolines;
                    (record.site.saturating_sub(if checked { CALLER } else { 0 }), end)
                }
            };
            if range.start < end && record.site < end {
                found.push((start..end, at, *record));
            }
        }
    }
    // Trampolines of static calls have a name instead of a record.
    for (trampoline, name) in kernel.names.between(near.clone()) {
        if let Some(name) = name.strip_prefix("__SCT__") {
            let key = kernel.names.address(&format!("__SCK__{name}")).unwrap_or(0);
            let record = TableRecord { site: trampoline, key, key_flags: 1, ..Default::default() };
            let end = trampoline.saturating_add(5);
            if range.start < end {
                found.push((trampoline..end, usize::MAX, record));
            }
        }
    }
    // The order of records at one address stays, for it is the one in which they are applied.
    found.sort_by_key(|(range, ..)| range.start);
    let mut sites: Vec<SiteGroup> = Vec::new();
    for (range, at, record) in found {
        if sites.last().is_none_or(|last| last.end <= range.start) {
            sites.push(SiteGroup { start: range.start, end: range.end, tables: vec![] });
        }
        let Some(site) = sites.last_mut() else { continue };
        site.end = site.end.max(range.end);
        let (kind, name, stride) = match kernel.tables.get(at) {
            Some(table) => (table.kind, &*table.name, table.stride),
            None => (TableKind::StaticCalls, "trampoline", 0),
        };
        match site.tables.iter_mut().find(|of| of.name == name) {
            Some(of) => of.records.push(record),
            None => site.tables.push(KernelTable {
                kind,
                name: name.to_owned(),
                stride,
                records: vec![record],
            }),
        }
    }
    // Of what lies behind the range, nothing is in it.
    sites.retain(|site| site.start < range.end);
    sites
}
