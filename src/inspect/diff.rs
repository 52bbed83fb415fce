//! How the patchlets and sites of two builds differ. Addresses move with every
//! build; what is compared is what stays: names, bytes, functions, ops.

use std::fmt;

use serde::Serialize;

use super::disassemble::bytes_in_hex;
use super::model::{Model, State};
use super::records::Record;

/// One difference, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
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
    let mut list = compare("patchlet", patchlets(a), patchlets(b));
    list.extend(compare("site", sites(a), sites(b)));
    list
}

/// Names and values, by name; of those with the same name the number counts.
type Sorted<V> = Vec<(String, V)>;

fn compare<V: PartialEq + fmt::Display>(
    thing: &'static str,
    a: Sorted<V>,
    b: Sorted<V>,
) -> Vec<Difference> {
    let (mut a, mut b) = (numbered(a), numbered(b));
    let (mut old, mut new) = (a.next(), b.next());
    let mut list = Vec::new();
    loop {
        let (sign, what, key) = match (&old, &new) {
            (None, None) => return list,
            (Some((key, was)), Some((other, is))) if key == other => {
                (if was == is { '=' } else { '~' }, format!("{was} → {is}"), key)
            }
            (Some((key, was)), Some((other, _))) if key < other => ('-', was.to_string(), key),
            (Some((key, was)), None) => ('-', was.to_string(), key),
            (_, Some((key, is))) => ('+', is.to_string(), key),
        };
        if sign != '=' {
            let (name, number) = key;
            let name = if *number > 1 { format!("{name} #{number}") } else { name.clone() };
            list.push(Difference { sign, thing, name, what });
        }
        if sign != '+' {
            old = a.next();
        }
        if sign != '-' {
            new = b.next();
        }
    }
}

/// Gives those with the same name numbers, from 1.
fn numbered<V>(sorted: Sorted<V>) -> impl Iterator<Item = ((String, usize), V)> {
    let mut before = (String::new(), 0);
    sorted.into_iter().map(move |(name, value)| {
        let number = if name == before.0 { before.1 + 1 } else { 1 };
        before = (name.clone(), number);
        ((name, number), value)
    })
}

fn patchlets(model: &Model<'_>) -> Sorted<String> {
    let all = model.patchlets().iter();
    let mut list: Vec<_> =
        all.map(|patchlet| (patchlet.name.to_owned(), bytes_in_hex(patchlet.bytes))).collect();
    list.sort();
    list
}

/// What stays the same of a site from build to build.
#[derive(PartialEq)]
struct Site {
    kind: u8,
    capacity: u8,
    state: State,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            0 => "call",
            1 => "jump",
            _ => "unknown kind",
        };
        write!(f, "{kind}, {} bytes, {}", self.capacity, self.state.words())
    }
}

/// Sites by op and function; those of one function in the order of addresses.
fn sites(model: &Model<'_>) -> Sorted<Site> {
    let mut records: Vec<_> = model.records().iter().collect();
    records.sort_by_key(|record| record.site);
    let site = |record: &&Record| {
        let op = model.op(record).map_or_else(|| "?".to_owned(), |op| model.op_name(op));
        let name = format!("{op} in {}", function_name(model, record.site));
        let Record { kind, capacity, .. } = **record;
        (name, Site { kind, capacity, state: model.state(record) })
    };
    let mut list: Vec<_> = records.iter().map(site).collect();
    // Stable: what has the same name stays in the order of addresses.
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
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
