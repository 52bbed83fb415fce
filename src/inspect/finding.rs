//! Findings: what is wrong with a file, one line each.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// How many findings of one kind are kept; the others are counted.
const KEPT: usize = 100;

/// What kind of thing is wrong. The names in JSON and in text are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingCode {
    /// There is nothing of the crate in the file: no patchlet, no record, no ops table.
    NothingHere,
    /// An archive has no ELF file in it.
    ArchiveEmpty,
    /// A patchlet that must be there is not.
    PatchletMissing,
    /// A patchlet has other bytes than the reference.
    PatchletBytes,
    /// A patchlet has other bytes than its native function, or none is found.
    PatchletNative,
    /// A label without its pair, out of order, or outside of any section.
    PatchletLabel,
    /// Two patchlets share bytes.
    PatchletOverlap,
    /// A patchlet does what its contract does not say, or not what it says.
    Contract,
    /// The index is not whole, or disagrees with the labels.
    Index,
    /// Patchlets, index or records are in a section that is writable or
    /// executable.
    SectionFlags,
    /// The bytes of a section are not those that a loader puts there.
    SectionSegment,
    /// Patchlets, index or records are in a segment that is writable or executable, though
    /// their section is neither.
    SegmentFlags,
    /// A linker or loader would still write to a patchlet, record or site.
    Relocation,
    /// The table of records is no whole number of records, or not all of its
    /// section.
    RecordTable,
    /// There are more or fewer sites than was said.
    SiteCount,
    /// A record's capacity is not possible.
    RecordCapacity,
    /// A record's kind is neither call nor jump.
    RecordKind,
    /// A record's slot is not the one of its op.
    RecordSlot,
    /// A slot holds neither null nor the address of a function.
    SlotValue,
    /// A site is not inside an executable section.
    SiteOutsideText,
    /// A site does not start at an instruction of its function.
    SiteBoundary,
    /// A site holds neither its indirect call or jump nor its native form.
    SiteBytes,
    /// A site is too small for its op's patchlet, or the native function is out
    /// of reach.
    SiteCapacity,
    /// Two sites share bytes.
    SiteOverlap,
    /// A branch leads into the middle of a site.
    SiteBranch,
    /// An indirect call or jump through an ops table that has no record.
    Unrecorded,
}

impl FindingCode {
    /// Returns where its findings stand among those of other kinds.
    fn position(self) -> Option<usize> {
        Self::ALL.iter().position(|code| *code == self)
    }

    /// All of them, in the order they are printed.
    pub const ALL: &'static [Self] = &[
        Self::NothingHere,
        Self::ArchiveEmpty,
        Self::PatchletMissing,
        Self::PatchletBytes,
        Self::PatchletNative,
        Self::PatchletLabel,
        Self::PatchletOverlap,
        Self::Contract,
        Self::Index,
        Self::SectionFlags,
        Self::SectionSegment,
        Self::SegmentFlags,
        Self::Relocation,
        Self::RecordTable,
        Self::SiteCount,
        Self::RecordCapacity,
        Self::RecordKind,
        Self::RecordSlot,
        Self::SlotValue,
        Self::SiteOutsideText,
        Self::SiteBoundary,
        Self::SiteBytes,
        Self::SiteCapacity,
        Self::SiteOverlap,
        Self::SiteBranch,
        Self::Unrecorded,
    ];

    /// Returns its stable name, the one in JSON too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NothingHere => "nothing-here",
            Self::ArchiveEmpty => "archive-empty",
            Self::PatchletMissing => "patchlet-missing",
            Self::PatchletBytes => "patchlet-bytes",
            Self::PatchletNative => "patchlet-native",
            Self::PatchletLabel => "patchlet-label",
            Self::PatchletOverlap => "patchlet-overlap",
            Self::Contract => "contract",
            Self::Index => "index",
            Self::SectionFlags => "section-flags",
            Self::SectionSegment => "section-segment",
            Self::SegmentFlags => "segment-flags",
            Self::Relocation => "relocation",
            Self::RecordTable => "record-table",
            Self::SiteCount => "site-count",
            Self::RecordCapacity => "record-capacity",
            Self::RecordKind => "record-kind",
            Self::RecordSlot => "record-slot",
            Self::SlotValue => "slot-value",
            Self::SiteOutsideText => "site-outside-text",
            Self::SiteBoundary => "site-boundary",
            Self::SiteBytes => "site-bytes",
            Self::SiteCapacity => "site-capacity",
            Self::SiteOverlap => "site-overlap",
            Self::SiteBranch => "site-branch",
            Self::Unrecorded => "unrecorded",
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of thing.
    pub code: FindingCode,
    /// Where, if at an address.
    #[serde(serialize_with = "super::hex::address")]
    pub address: Option<u64>,
    /// Where, in words.
    pub place: String,
    /// What is wrong, with the values.
    pub what: String,
    /// What most likely helps.
    pub fix: &'static str,
}

/// `site-kind: site 0x1234 (save_fl, main+0x4): what is wrong; what helps`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.code, self.place, self.what, self.fix)
    }
}

/// Findings as they come up. A broken file may have as many as it has bytes, so
/// only the first of each kind are kept.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    counts: HashMap<FindingCode, usize>,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        code: FindingCode,
        address: Option<u64>,
        place: String,
        what: String,
        fix: &'static str,
    ) {
        let count = self.counts.entry(code).or_default();
        *count += 1;
        if *count <= KEPT {
            self.list.push(Finding { code, address, place, what, fix });
        }
    }

    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the kept ones, by kind and address.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Finding> {
        self.list.sort_by(|one, other| {
            let order = |of: &Finding| (of.code.position(), of.address);
            let words = |of: &Finding| (of.place.clone(), of.what.clone());
            order(one).cmp(&order(other)).then_with(|| words(one).cmp(&words(other)))
        });
        self.list
    }

    /// Returns how many there are of each kind that was found, in the order they are printed.
    #[must_use]
    pub fn counts(&self) -> Vec<(FindingCode, usize)> {
        let all = FindingCode::ALL.iter();
        all.filter_map(|code| Some((*code, *self.counts.get(code)?))).collect()
    }

    /// Returns how many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }
}
