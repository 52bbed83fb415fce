//! The parser of what the comments of `.S` files say of blobs: what their places and holes mean.

use super::parse::{BadContract, comment_above, lines};
use crate::insn::Width;

/// A name in a blob, and its meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meaning {
    /// Name of the place or hole.
    pub name: String,
    /// What it means, for people.
    pub meaning: String,
}

/// The meaning of the places and holes of a blob, according to the comment above it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlobContract {
    /// Name of the blob.
    pub name: String,
    /// Its places.
    pub offsets: Vec<Meaning>,
    /// Its holes.
    pub holes: Vec<Meaning>,
}

/// Reads what the text of a `.S` file says of every blob in it, for one width. A name that blobs of
/// one width have only is written `name (64-bit) = meaning`.
///
/// # Errors
/// Returns an error for the first blob that has no comment, or whose comment has no field `holes`
/// or `offsets`, or a line in one of them that is not `name = meaning`.
pub fn parse_blobs(source: &str, width: Width) -> Result<Vec<BlobContract>, BadContract> {
    let mut contracts = Vec::new();
    let mut before = 0;
    for (at, line) in lines(source) {
        let macros = ["PATCHLET_BLOB(", "PATCHLET("];
        let Some((name, is_blob)) = macros.iter().find_map(|begin| {
            let name = line.strip_prefix(begin)?.split(')').next()?;
            Some((name, *begin == macros[0]))
        }) else {
            continue;
        };
        let above = source.get(before..at).unwrap_or_default();
        before = at;
        if is_blob {
            let bad = |reason| BadContract { name: name.to_owned(), reason };
            let comment = comment_above(above, "PATCHLET_BLOB").map_err(bad)?;
            contracts.push(contract(name, comment, width).map_err(bad)?);
        }
    }
    Ok(contracts)
}

/// The fields, as they are written.
const FIELDS: [&str; 2] = ["offsets", "holes"];

fn contract(name: &str, comment: &str, width: Width) -> Result<BlobContract, String> {
    // Each meaning, and whether blobs of this width have it.
    let mut lists: [Option<Vec<(Meaning, bool)>>; 2] = [None, None];
    // The field that a line without one goes on with.
    let mut open = None;
    for line in comment.lines().map(|line| line.trim().trim_start_matches('*').trim()) {
        let begun = FIELDS.iter().zip(0..).find_map(|(field, index)| {
            Some((index, line.strip_prefix(field)?.strip_prefix(':')?.trim()))
        });
        let (index, item) = match (begun, open) {
            (Some((index, item)), _) => (index, item),
            (None, Some(index)) => (index, line),
            (None, None) => continue,
        };
        open = Some(index);
        let Some(list) = lists.get_mut(index) else { continue };
        if begun.is_some() && list.replace(Vec::new()).is_some() {
            return Err(format!("has a field twice: `{line}`"));
        }
        let Some(list) = list.as_mut().filter(|_| !matches!(item, "" | "-")) else { continue };
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        match item.split_once('=').map(|(name, meaning)| (of_width(name.trim()), meaning.trim())) {
            Some(((name, of), meaning)) if is_name(name) && !meaning.is_empty() => {
                let (name, meaning) = (name.to_owned(), meaning.to_owned());
                list.push((Meaning { name, meaning }, of.is_none_or(|of| of == width)));
            }
            _ => {
                // A meaning that goes on.
                let (last, _) = list.last_mut().ok_or_else(|| {
                    format!("says `{item}` of its places: write `name = meaning`")
                })?;
                last.meaning.push(' ');
                last.meaning.push_str(item);
            }
        }
    }
    let [offsets, holes] = lists;
    let need = |list: Option<Vec<(Meaning, bool)>>, field| {
        let list = list.ok_or_else(|| {
            format!("has no field `{field}`: write a line `name = meaning` for each, or `-`")
        })?;
        Ok::<_, String>(list.into_iter().filter_map(|(of, here)| here.then_some(of)).collect())
    };
    let (offsets, holes) = (need(offsets, "offsets")?, need(holes, "holes")?);
    Ok(BlobContract { name: name.to_owned(), offsets, holes })
}

/// Returns a name without the width that stands behind it, and this width.
fn of_width(name: &str) -> (&str, Option<Width>) {
    let widths = [(" (64-bit)", Width::Bits64), (" (32-bit)", Width::Bits32)];
    let found = widths.iter().find_map(|(end, width)| Some((name.strip_suffix(end)?, *width)));
    found.map_or((name, None), |(name, width)| (name, Some(width)))
}
