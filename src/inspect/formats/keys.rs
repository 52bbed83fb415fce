//! The keys of static branches in a file, section `patchlet_keys`: one record for each, with its
//! address, its name, and what it was from the start.

use super::named::{NamedFormat, NamedRecord};
use super::table::Field;
use super::variants::is_identifier;
use crate::inspect::elf::{Image, Linkage, little_endian};
use crate::inspect::finding::{FindingCode, Findings};

/// The format of the records. Their fields: key, state from the start, flags, zero, length of the
/// name.
pub(crate) const KEYS: NamedFormat<5> = NamedFormat {
    section: "patchlet_keys",
    header: 8,
    fields: [
        Field::address(0),
        Field::number(4, 1),
        Field::number(5, 1),
        Field::number(6, 1),
        Field::number(7, 1),
    ],
    code: FindingCode::Index,
    values: "name, state or flags",
};

/// The flag of a key that counts references.
const COUNTED: u64 = 1;

/// The size of the word of a key that says its state, in bytes. It is the first one.
pub(crate) const KEY_WORD: u64 = 4;

/// A key in a file: what decides the direction of static branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyImage<'d> {
    /// Name of the key: that of its static.
    pub name: &'d str,
    /// Address of the key; `None` in an object, which is not linked.
    pub address: Option<u64>,
    /// Whether the key is on from the start.
    pub initially_on: bool,
    /// Whether the key counts references. If not, it is on or off.
    pub is_counted: bool,
    /// The state in the file: 0 is off, all else on; of a key that counts, how many references
    /// there are. `None` if the key is in no section of the file.
    pub state: Option<u32>,
}

/// Reads all keys of a file. A damaged record is added to `findings` and ends the list.
pub(crate) fn read<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<KeyImage<'d>> {
    KEYS.read(image, findings, |record| key(image, record))
}

/// Returns the key that a record describes, or `None` if a value in the record is impossible.
fn key<'d>(image: &Image<'d>, record: &NamedRecord<'d, 5>) -> Option<KeyImage<'d>> {
    let [address, initial, flags, zero, _] = record.values;
    if initial > 1 || flags & !COUNTED != 0 || zero != 0 || !is_identifier(record.name) {
        return None;
    }
    let address = Some(address).filter(|_| image.kind() != Linkage::Object);
    Some(KeyImage {
        name: record.name,
        address,
        initially_on: initial == 1,
        is_counted: flags & COUNTED != 0,
        state: address.and_then(|address| state(image, address)),
    })
}

/// Returns the first word at an address: 0, if it is in zeroed memory, which has no bytes in the
/// file.
fn state(image: &Image<'_>, address: u64) -> Option<u32> {
    let section = image.section_at(address)?;
    if section.data.is_empty() && section.end() - address >= KEY_WORD {
        return Some(0);
    }
    u32::try_from(little_endian(image.bytes_at(address, KEY_WORD)?)).ok()
}

/// Reads the keys of a linked file or an object. Returns them with the defects found in them.
#[must_use]
pub fn keys_of<'d>(image: &Image<'d>) -> (Vec<KeyImage<'d>>, Findings) {
    let mut findings = Findings::default();
    (read(image, &mut findings), findings)
}
