//! The variants of ops in a linked file, section `patchlet_variants`: one record for each, with
//! the op's slot, the variant's function, its place in the op's list, and its condition as text.
//! `src/ops/define/variant.rs` writes the records and describes their layout.
//!
//! A condition is a list of names with one space between them; `!` stands before the name of a
//! feature that must be absent: `ERMS !BROKEN`. An empty one always holds.

use super::means::Means;
use super::named::{NamedFormat, NamedRecord};
use super::table::Field;
use crate::inspect::elf::Image;
use crate::inspect::finding::{FindingCode, Findings};

/// The format of the records. Their fields: slot, word that holds the address of the function,
/// place in the list with the means of the variant, length of the condition.
pub(crate) const VARIANTS: NamedFormat<4> = NamedFormat {
    section: "patchlet_variants",
    header: 10,
    fields: [Field::address(0), Field::address(4), Field::number(8, 1), Field::number(9, 1)],
    code: FindingCode::Index,
    values: "condition, means or addresses",
};

/// Beside the place: the means of the variant, so many bits further up.
const MEANS_SHIFT: u8 = 6;

/// The bits of the place.
const PLACE: u8 = 0x3f;

/// A variant of an op in a file: what its slot holds on a CPU that meets the condition, unless
/// a later variant is eligible as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VariantImage<'d> {
    /// Address of the record.
    pub address: u64,
    /// Address of the op's slot.
    pub slot: u64,
    /// Address of the variant's function.
    pub function: u64,
    /// What the variant is.
    pub means: Means,
    /// Place in the list of the op's variants, from 0. Of several eligible ones the last counts.
    pub place: u8,
    /// The condition, as it stands in the file: `ERMS !BROKEN`.
    pub condition: &'d str,
}

impl<'d> VariantImage<'d> {
    /// Returns the features of the condition: the name of each, and whether it must be present.
    pub fn requirements(&self) -> impl Iterator<Item = (&'d str, bool)> + use<'d> {
        let words = self.condition.split(' ').filter(|word| !word.is_empty());
        words.map(|word| word.strip_prefix('!').map_or((word, true), |name| (name, false)))
    }
}

/// The largest number of variants of one op: a variant's place is a number of six bits.
const MANY: usize = 64;

/// Sorts variants by slot and place. Of an op that has more than can be, the others are left out
/// and a finding says so: what is done for each site of an op is done for each of its variants.
fn sort(variants: &mut Vec<VariantImage<'_>>, findings: &mut Findings) {
    variants.sort_by_key(|variant| (variant.slot, variant.place, variant.address));
    let mut before = (0, 0);
    variants.retain(|variant| {
        let number = if before.0 == variant.slot { before.1 + 1 } else { 1 };
        before = (variant.slot, number);
        if number == MANY + 1 {
            findings.add(
                FindingCode::Variant,
                Some(variant.address),
                format!("slot {:#x}", variant.slot),
                format!("has more than {MANY} variants"),
                "link each ops table once, and keep the section patchlet_variants whole",
            );
        }
        number <= MANY
    });
}

/// Reads all variants of a file, sorted by slot and place. A damaged record is added to `findings`
/// and ends the list.
pub(crate) fn read<'d>(image: &Image<'d>, findings: &mut Findings) -> Vec<VariantImage<'d>> {
    let mut variants = VARIANTS.read(image, findings, |record| variant(image, record));
    sort(&mut variants, findings);
    variants
}

/// Returns the variant that a record describes, or `None` if a value in it is impossible.
fn variant<'d>(image: &Image<'d>, record: &NamedRecord<'d, 4>) -> Option<VariantImage<'d>> {
    let [slot, word, place, _] = record.values;
    let function = image.pointer_at(word)?;
    let condition = record.name;
    let is_word = |word: &str| is_identifier(word.strip_prefix('!').unwrap_or(word));
    if !condition.is_empty() && !condition.split(' ').all(is_word) {
        return None;
    }
    // One byte, says the format.
    let place = place as u8;
    let means = Means::of(place >> MEANS_SHIFT)?;
    let (address, place) = (record.address, place & PLACE);
    Some(VariantImage { address, slot, function, means, place, condition })
}

/// Returns whether a name can be an identifier of Rust.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = |c: char| c == '_' || c.is_alphabetic();
    chars.next().is_some_and(starts) && chars.all(|c| c == '_' || c.is_alphanumeric())
}

/// Reads the variants of the ops of a linked file. Returns them with the defects found in them.
#[must_use]
pub fn variants_of<'d>(image: &Image<'d>) -> (Vec<VariantImage<'d>>, Findings) {
    let mut findings = Findings::default();
    (read(image, &mut findings), findings)
}
