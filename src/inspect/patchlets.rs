//! Patchlets in a file: by their labels, by the index, or by both, which must
//! then agree.

use std::collections::{BTreeMap, HashMap};

use super::finding::{Code, Findings};
use super::image::{FileKind, Image, little_endian, slice};

/// The section of the index.
const INDEX: &str = "patchlet_index";

/// Before the name: i32 start, i32 native function, u16 length, u16 length of the
/// name (patchlet.h).
const INDEX_HEADER: u64 = 12;

/// The longest patchlet that is possible, in bytes. A site has room for 32.
pub(super) const LONGEST: u64 = 4096;

/// One patchlet in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Patchlet<'d> {
    /// The name in its labels.
    pub name: &'d str,
    /// Address of its first byte; in an object, offset in its section.
    pub address: u64,
    /// Number of its section.
    pub section: usize,
    /// Its instructions.
    pub bytes: &'d [u8],
    /// Address of its native function, if the file names it.
    pub native: Option<u64>,
}

impl Patchlet<'_> {
    /// The address behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }
}

/// All patchlets of a file, by section and address; what is wrong with labels
/// and index goes to `findings`.
pub(super) fn find<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<Patchlet<'d>> {
    let mut found = from_labels(image, findings);
    if image.kind() != FileKind::Object {
        merge_index(image, &mut found, findings);
    }
    let mut list: Vec<Patchlet<'d>> = found.into_values().collect();
    list.sort_by_key(|patchlet| (patchlet.section, patchlet.address, patchlet.name));
    list
}

/// What an assembler takes as part of a symbol.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    !name.is_empty() && name.chars().all(plain)
}

/// `patchlet_<name>_start` → `name`
fn between<'s>(symbol: &'s str, suffix: &str) -> Option<&'s str> {
    symbol.strip_prefix("patchlet_")?.strip_suffix(suffix).filter(|name| is_name(name))
}

fn from_labels<'d>(image: &Image<'d>, findings: &mut Findings) -> BTreeMap<&'d str, Patchlet<'d>> {
    use super::symbols::SymbolKind;

    let symbols = image.symbols();
    let (mut starts, mut ends, mut natives) = (vec![], HashMap::new(), HashMap::new());
    for symbol in symbols.list() {
        if !symbols.starts_with(symbol, "patchlet_") {
            continue;
        }
        let name = symbols.name(symbol);
        if symbol.kind == SymbolKind::Object
            && let Some(name) = between(name, "_start")
        {
            starts.push((name, symbol));
        } else if let Some(name) = between(name, "_end") {
            ends.insert(name, symbol);
        } else if let Some(name) = name.strip_prefix("patchlet_native_") {
            natives.insert(name, symbol);
        }
    }
    let mut found = BTreeMap::new();
    for (name, start) in starts {
        let mut bad = |what: String| {
            findings.add(
                Code::PatchletLabel,
                Some(start.address),
                format!("patchlet `{name}` at {:#x}", start.address),
                what,
                "define it by PATCHLET and END_PATCHLET of patchlet.h only",
            );
        };
        let Some(end) = ends.get(name) else {
            bad(format!("has no label patchlet_{name}_end"));
            continue;
        };
        let (Some(len), true) =
            (end.address.checked_sub(start.address), start.section == end.section)
        else {
            bad(format!(
                "its end, {:#x} in section {}, is not behind its start in section {}",
                end.address, end.section, start.section
            ));
            continue;
        };
        let section = image.section(start.section);
        let bytes = section
            .filter(|_| (1..=LONGEST).contains(&len))
            .and_then(|section| Some((section, start.address.checked_sub(section.address)?)))
            .and_then(|(section, at)| slice(section.data, at, len));
        let Some(bytes) = bytes else {
            bad(format!("its {len} bytes are not in one loaded section, or not 1 to {LONGEST}"));
            continue;
        };
        let patchlet = Patchlet {
            name,
            address: start.address,
            section: start.section,
            bytes,
            native: natives.get(name).map(|native| native.address),
        };
        let address = start.address;
        if let Some(other) = found.insert(name, patchlet).filter(|other| other.address != address) {
            bad(format!("is defined twice, at {:#x} as well", other.address));
        }
    }
    found
}

/// The records of the index, one after the other.
fn merge_index<'d>(
    image: &Image<'d>,
    found: &mut BTreeMap<&'d str, Patchlet<'d>>,
    findings: &mut Findings,
) {
    let Some(section) = image.section_named(INDEX) else { return };
    let mut at = 0;
    while at < section.size {
        let address = section.address + at;
        let mut bad = |what, fix| {
            let place = format!("record of {INDEX} at {address:#x}");
            findings.add(Code::Index, Some(address), place, what, fix);
        };
        let Some((patchlet, size)) = index_record(image, section.data, section.address, at) else {
            bad(
                "is not whole, or its name, length or addresses are impossible".into(),
                "take the section in as patchlet.ld does, and let nothing write to it",
            );
            return;
        };
        at += size;
        let known = found.entry(patchlet.name).or_insert_with(|| patchlet.clone());
        let native = patchlet.native.unwrap_or(0);
        if (known.address, known.bytes.len()) != (patchlet.address, patchlet.bytes.len()) {
            bad(
                format!(
                    "says that `{}` has {} bytes at {:#x}, where there are {} at {:#x}",
                    patchlet.name,
                    patchlet.bytes.len(),
                    patchlet.address,
                    known.bytes.len(),
                    known.address
                ),
                "link each patchlet once, and link the objects of one build",
            );
        } else if *known.native.get_or_insert(native) != native {
            bad(
                format!(
                    "says that the native function of `{}` is at {native:#x}, and its symbol {:#x}",
                    patchlet.name,
                    known.native.unwrap_or(0)
                ),
                "link the objects of one build",
            );
        }
    }
}

/// One record and its size, both checked.
fn index_record<'d>(
    image: &Image<'d>,
    index: &'d [u8],
    base: u64,
    at: u64,
) -> Option<(Patchlet<'d>, u64)> {
    let header = slice(index, at, INDEX_HEADER)?;
    let field = |from, len| slice(header, from, len).map(little_endian);
    let relative = |from: u64| {
        let place = base.checked_add(at)?.checked_add(from)?;
        Some(image.relative(place, field(from, 4)? as u32))
    };
    let (start, native) = (relative(0)?, relative(4)?);
    let (len, name_len) = (field(8, 2)?, field(10, 2)?);
    let name = str::from_utf8(slice(index, at + INDEX_HEADER, name_len)?).ok()?;
    if !is_name(name) || !(1..=LONGEST).contains(&len) {
        return None;
    }
    let section = image.section_at(start)?.index;
    let bytes = image.data_at(start, len)?;
    let size = (INDEX_HEADER + name_len).next_multiple_of(4);
    Some((Patchlet { name, address: start, section, bytes, native: Some(native) }, size))
}

/// All patchlets of a file, an object too; and what is wrong with labels and
/// index.
#[must_use]
pub fn patchlets_of<'d>(image: &Image<'d>) -> (Vec<Patchlet<'d>>, Findings) {
    let mut findings = Findings::default();
    (find(image, &mut findings), findings)
}
