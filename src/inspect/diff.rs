//! How the patchlets and sites of two builds differ. Addresses move with every
//! build; what is compared is what stays: names, bytes, functions, ops.

use std::cmp::Ordering;
use std::fmt;

use serde::{Serialize, Serializer};

use super::formats::SiteImage;
use super::hex::bytes_in_hex;
use super::model::{Model, SiteState};

/// In which of two files a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sign {
    /// In the second only.
    Added,
    /// In the first only.
    Removed,
    /// In both, and not the same.
    Changed,
}

/// `+`, `-` and `~`
impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "+",
            Self::Removed => "-",
            Self::Changed => "~",
        })
    }
}

impl Serialize for Sign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One difference, one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// In which of the files.
    pub sign: Sign,
    /// `patchlet` or `site`.
    pub thing: &'static str,
    /// The patchlet, or function and op.
    pub name: String,
    /// The values.
    pub what: String,
}

/// Returns everything that differs, patchlets first.
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
    let (mut a, mut b) = (numbered(a).peekable(), numbered(b).peekable());
    let mut list = Vec::new();
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => return list,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        // What comes first by name and is not in the other file is in this one only.
        let old = if order.is_le() { a.next() } else { None };
        let new = if order.is_ge() { b.next() } else { None };
        let (sign, key, what) = match (old, new) {
            (Some((_, was)), Some((_, is))) if was == is => continue,
            (Some((key, was)), Some((_, is))) => (Sign::Changed, key, format!("{was} → {is}")),
            (Some((key, was)), None) => (Sign::Removed, key, was.to_string()),
            (None, Some((key, is))) => (Sign::Added, key, is.to_string()),
            (None, None) => return list,
        };
        let (name, number) = key;
        let name = if number > 1 { format!("{name} #{number}") } else { name };
        list.push(Difference { sign, thing, name, what });
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
struct SiteFacts {
    kind: &'static str,
    capacity: u8,
    state: SiteState,
}

impl fmt::Display for SiteFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes, {}", self.kind, self.capacity, self.state.words())
    }
}

/// Returns sites by op and function; those of one function in the order of addresses.
fn sites(model: &Model<'_>) -> Sorted<SiteFacts> {
    let mut records: Vec<_> = model.records().iter().collect();
    records.sort_by_key(|record| record.site);
    let site = |record: &&SiteImage| {
        let name = format!("{} in {}", model.op_name_of(record), function_name(model, record.site));
        let (kind, capacity) = (record.kind_words(), record.capacity);
        (name, SiteFacts { kind, capacity, state: model.state(record) })
    };
    let mut list: Vec<_> = records.iter().map(site).collect();
    // Stable: what has the same name stays in the order of addresses.
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
}

/// Returns the name of the function at an address, without the offset: that differs from
/// build to build. In a stripped file it is the name of the section.
fn function_name(model: &Model<'_>, address: u64) -> String {
    let Some(section) = model.image().section_at(address) else { return "nowhere".to_owned() };
    let symbols = model.image().symbols();
    symbols.function(section.index, address).map_or_else(
        || section.name.to_owned(),
        |(symbol, _)| symbols.readable(symbol).into_owned(),
    )
}
