//! The search for patchlets in a file. They are found by their labels and by the index. Where a
//! file has both, they must agree.

use std::collections::{BTreeMap, HashMap};

use super::branches::BRANCHES;
use super::index::{INDEX, patchlet};
use super::keys::KEYS;
use super::patchlet_image::{LONGEST, PatchletImage};
use super::places::{self, PLACES};
use super::sites::SITES;
use super::variants::VARIANTS;
use super::width::code_is_of_width;
use crate::inspect::elf::{Image, Linkage, SymbolKind, slice};
use crate::inspect::error::FileError;
use crate::inspect::finding::{FindingCode, Findings};
use crate::labels::{Label, PREFIX, label};

/// The section that the macros put patchlets into.
const SECTION: &str = ".rodata.patchlets";

/// Returns all patchlets of a file, sorted by section and address. Adds the defects of labels and
/// index to `findings`.
///
/// # Errors
/// Returns an error if the code in the file is not of the width that its header says, or if two
/// sections share an address of a patchlet or of a table of records.
pub(crate) fn find<'d>(
    image: &Image<'d>,
    findings: &mut Findings,
) -> Result<Vec<PatchletImage<'d>>, FileError> {
    for name in [
        SECTION,
        SITES.section,
        INDEX.section,
        PLACES.section,
        BRANCHES.section,
        VARIANTS.section,
        KEYS.section,
    ] {
        if let Some(section) = image.section_named(name) {
            let words = || format!("section {name}");
            image.claimed_once(section.address, section.end(), words)?;
        }
    }
    let mut found = from_labels(image, findings);
    if image.kind() != Linkage::Object {
        merge_index(image, &mut found, findings);
    }
    places::attach(image, &mut found, findings);
    let mut list: Vec<PatchletImage<'d>> = found.into_values().collect();
    list.sort_by_key(|patchlet| (patchlet.section, patchlet.address, patchlet.name));
    for patchlet in &list {
        let words = || format!("patchlet `{}`", patchlet.name);
        image.claimed_once(patchlet.address, patchlet.end(), words)?;
        if let Some(native) = patchlet.native {
            let end = native.saturating_add(patchlet.bytes.len() as u64);
            let words = || format!("the native function of {}", words());
            image.claimed_once(native, end, words)?;
        }
    }
    code_is_of_width(image, &list)?;
    Ok(list)
}

/// Returns the patchlets that labels mark, by name.
fn from_labels<'d>(
    image: &Image<'d>,
    findings: &mut Findings,
) -> BTreeMap<&'d str, PatchletImage<'d>> {
    let symbols = image.symbols();
    let (mut starts, mut ends, mut natives) = (vec![], HashMap::new(), HashMap::new());
    for symbol in symbols.list() {
        if !symbols.starts_with(symbol, PREFIX) {
            continue;
        }
        match label(symbols.name(symbol), symbol.kind == SymbolKind::Function) {
            Some((Label::Start, name)) if symbol.kind == SymbolKind::Object => {
                starts.push((name, symbol));
            }
            Some((Label::End, name)) => {
                ends.insert(name, symbol);
            }
            Some((Label::Native, name)) => {
                natives.insert(name, symbol);
            }
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    for (name, start) in starts {
        let mut bad = |what: String| {
            findings.add(
                FindingCode::PatchletLabel,
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
        let patchlet = PatchletImage {
            name,
            address: start.address,
            section: start.section,
            bytes,
            native: natives.get(name).map(|native| native.address),
            is_blob: false,
            places: vec![],
        };
        let address = start.address;
        if let Some(other) = found.insert(name, patchlet).filter(|other| other.address != address) {
            bad(format!("is defined twice, at {:#x} as well", other.address));
        }
    }
    found
}

/// Adds the patchlets of the index to those that labels have found, and compares the two.
fn merge_index<'d>(
    image: &Image<'d>,
    found: &mut BTreeMap<&'d str, PatchletImage<'d>>,
    findings: &mut Findings,
) {
    let indexed =
        INDEX.read(image, findings, |record| Some((record.address, patchlet(image, record)?)));
    for (address, patchlet) in indexed {
        let mut bad = |what, fix| {
            findings.add(FindingCode::Index, Some(address), INDEX.place(address), what, fix);
        };
        let known = found.entry(patchlet.name).or_insert_with(|| patchlet.clone());
        known.is_blob = patchlet.is_blob;
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
        } else if let Some(native) = patchlet.native
            && *known.native.get_or_insert(native) != native
        {
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

/// Returns all patchlets of a linked file or an object, sorted by section and address, and the
/// defects of labels and index.
///
/// # Errors
/// Returns an error if the code in the file is not of the width that its header says, or if two
/// sections share an address of a patchlet or of a table of records.
pub fn patchlets_of<'d>(
    image: &Image<'d>,
) -> Result<(Vec<PatchletImage<'d>>, Findings), FileError> {
    let mut findings = Findings::default();
    let patchlets = find(image, &mut findings)?;
    Ok((patchlets, findings))
}
