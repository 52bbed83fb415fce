//! The differences between the patchlets, variants, keys and sites of two builds. Addresses are not compared,
//! because they move with every build; names, bytes, functions and ops are.

use std::cmp::Ordering;
use std::fmt;

use serde::{Serialize, Serializer};

use super::formats::{BranchImage, SiteImage, VariantImage};
use super::hex::bytes_in_hex;
use super::model::{Model, SiteState};

/// The kind of a difference: in which of two files a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sign {
    /// The thing is in the second file only.
    Added,
    /// The thing is in the first file only.
    Removed,
    /// The thing is in both files and differs.
    Changed,
}

/// Writes `+`, `-` or `~`.
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

/// One difference, printed as one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The kind of the difference.
    pub sign: Sign,
    /// What differs: `patchlet`, `site`, `variant`, `key` or `branch site`.
    pub thing: &'static str,
    /// Name of the patchlet, key or op, or op and function of the site, or key and function of the
    /// branch site.
    pub name: String,
    /// The value, or `old → new` if it changed.
    pub what: String,
}

/// Returns all differences between two files: those of patchlets, then of variants, sites, keys and
/// branch sites, each by name.
#[must_use]
pub fn diff(a: &Model<'_>, b: &Model<'_>) -> Vec<Difference> {
    let mut list = compare("patchlet", patchlets(a), patchlets(b));
    list.extend(compare("variant", variants(a), variants(b)));
    list.extend(compare("site", sites(a), sites(b)));
    list.extend(compare("key", keys(a), keys(b)));
    list.extend(compare("branch site", branches(a), branches(b)));
    list
}

/// Names and values, sorted by name. Several values may have one name.
type Sorted<V> = Vec<(String, V)>;

/// Returns the differences between two sorted lists. Of values with the same name, the first is
/// compared with the first, the second with the second and so on.
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
        // Both lists are sorted, so the smaller name is missing in the other list.
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

/// Numbers the values of each name, from 1.
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

/// Returns the variants, named by op and place.
fn variants(model: &Model<'_>) -> Sorted<String> {
    let name = |variant: &VariantImage<'_>| {
        let op = model.op_record(variant.slot).map_or("?", |record| record.name);
        // With zeros, so that the names sort as the places do.
        format!("{op} {:03}", variant.place)
    };
    let what = |variant: &VariantImage<'_>| {
        let mut patchlets = model.patchlets().iter();
        let patchlet = patchlets.find(|patchlet| patchlet.native == Some(variant.function));
        let function = patchlet.map_or_else(
            || function_name(model, variant.function),
            |patchlet| patchlet.name.to_owned(),
        );
        format!("if [{}] {function}", variant.condition)
    };
    let mut list: Vec<_> =
        model.variants().iter().map(|variant| (name(variant), what(variant))).collect();
    list.sort();
    list
}

/// Returns the keys, named by their statics' paths, or by their names if there are no symbols.
fn keys(model: &Model<'_>) -> Sorted<String> {
    let mut list: Vec<_> = model
        .keys()
        .iter()
        .map(|key| {
            let word = |is_on| if is_on { "on" } else { "off" };
            let kind = if key.is_counted { "counted" } else { "plain" };
            let state = key.state.map_or("nowhere".to_owned(), |state| match state {
                0 => "off".to_owned(),
                state if key.is_counted => format!("on, {state}"),
                _ => "on".to_owned(),
            });
            let name = model.key_path(key).unwrap_or_else(|| key.name.to_owned());
            (name, format!("{kind}, initially {}, {state}", word(key.initially_on)))
        })
        .collect();
    list.sort();
    list
}

/// Returns the branch sites, named by key and function. Sites of one name are in the order of their
/// addresses.
fn branches(model: &Model<'_>) -> Sorted<String> {
    let mut records: Vec<&BranchImage> = model.branches().iter().collect();
    records.sort_by_key(|record| record.site);
    let site = |record: &&BranchImage| {
        let (key, function) = (model.key_name_of(record), function_name(model, record.site));
        let side = match record.jumps_when() {
            Some(true) => "on",
            Some(false) => "off",
            None => "unknown side",
        };
        let form = model.branch_form(record).words();
        (format!("{key} in {function}"), format!("{side} is out of line, {form}"))
    };
    let mut list: Vec<_> = records.iter().map(site).collect();
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
}

/// The properties of a site that do not depend on addresses.
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

/// Returns the sites, named by op and function. Sites of one name are in the order of their
/// addresses.
fn sites(model: &Model<'_>) -> Sorted<SiteFacts> {
    let mut records: Vec<_> = model.records().iter().collect();
    records.sort_by_key(|record| record.site);
    let site = |record: &&SiteImage| {
        let name = format!("{} in {}", model.op_name_of(record), function_name(model, record.site));
        let (kind, capacity) = (record.kind_words(), record.capacity);
        (name, SiteFacts { kind, capacity, state: model.state(record) })
    };
    let mut list: Vec<_> = records.iter().map(site).collect();
    // A stable sort: sites of one name stay in the order of their addresses.
    list.sort_by(|one, other| one.0.cmp(&other.0));
    list
}

/// Returns the name of the function at an address, or of the section if the file is stripped.
/// The offset in the function is left out, because it differs from build to build.
fn function_name(model: &Model<'_>, address: u64) -> String {
    let Some(section) = model.image().section_at(address) else { return "nowhere".to_owned() };
    let symbols = model.image().symbols();
    symbols.function(section.index, address).map_or_else(
        || section.name.to_owned(),
        |(symbol, _)| symbols.readable(symbol).into_owned(),
    )
}
