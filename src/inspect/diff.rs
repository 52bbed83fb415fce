//! How the patchlets and sites of two builds differ. Addresses move with every
//! build; what is compared is what stays: names, bytes, functions, ops.

use std::collections::BTreeMap;

use serde::Serialize;

use super::disassemble::bytes_in_hex;
use super::model::Model;

/// One difference, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `+` only in the second file, `-` only in the first, `~` in both.
    pub sign: char,
    /// `patchlet` or `site`.
    pub thing: &'static str,
    /// The patchlet, or function and op.
    pub name: String,
    /// The values.
    pub what: String,
}

/// Everything that differs, patchlets first.
#[must_use]
pub fn diff(a: &Model<'_>, b: &Model<'_>) -> Vec<Difference> {
    let mut list = compare("patchlet", &patchlets(a), &patchlets(b));
    list.extend(compare("site", &sites(a), &sites(b)));
    list
}

fn compare(
    thing: &'static str,
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let one = |name: &String| {
        let (sign, what) = match (a.get(name), b.get(name)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => ('~', format!("{old} → {new}")),
            (Some(old), None) => ('-', old.clone()),
            (None, Some(new)) => ('+', new.clone()),
            (None, None) => return None,
        };
        Some(Difference { sign, thing, name: name.clone(), what })
    };
    names.into_iter().filter_map(one).collect()
}

fn patchlets(model: &Model<'_>) -> BTreeMap<String, String> {
    let all = model.patchlets().iter();
    all.map(|patchlet| (patchlet.name.to_owned(), bytes_in_hex(patchlet.bytes))).collect()
}

/// Sites by function and op, in the order of their addresses; of those with the
/// same function and op the number counts.
fn sites(model: &Model<'_>) -> BTreeMap<String, String> {
    let mut records: Vec<_> = model.records().iter().collect();
    records.sort_by_key(|record| record.site);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut sites = BTreeMap::new();
    for record in records {
        let op = model.op(record).map_or("?", |op| &op.name);
        let name = format!("{op} in {}", function_name(model, record.site));
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let kind = match record.kind {
            0 => "call",
            1 => "jump",
            _ => "unknown kind",
        };
        let what = format!("{kind}, {} bytes, {}", record.capacity, model.state(record).words());
        sites.insert(if *count > 1 { format!("{name} #{count}") } else { name }, what);
    }
    sites
}

/// Without the offset; stripped files have but one name for all.
fn function_name(model: &Model<'_>, address: u64) -> String {
    let Some(section) = model.image().section_at(address) else { return "nowhere".to_owned() };
    let symbols = model.image().symbols();
    symbols.function(section.index, address).map_or_else(
        || section.name.to_owned(),
        |(symbol, _)| symbols.readable(symbol).into_owned(),
    )
}
