//! Findings: the defects of a file, each printed as one line.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

/// The largest number of findings of one kind that are kept. More are only counted.
const KEPT: usize = 100;

/// The kind of a finding. The names in JSON and in text are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingCode {
    /// The file holds nothing of the crate: no patchlet, no record, no ops table.
    NothingHere,
    /// An archive has no ELF file in it.
    ArchiveEmpty,
    /// A patchlet of the reference is not in the file.
    PatchletMissing,
    /// A patchlet has other bytes than the reference.
    PatchletBytes,
    /// A patchlet has other bytes than its native function, or its native function is not found.
    PatchletNative,
    /// A label of a patchlet has no counterpart, stands in the wrong order, or is in no section.
    PatchletLabel,
    /// Two patchlets share bytes.
    PatchletOverlap,
    /// A place of a blob is outside of it, in the middle of an instruction, or named twice; or its
    /// record is damaged.
    BlobPlace,
    /// A hole of a blob is not the operand with which an instruction ends, or not of its width and
    /// sign.
    BlobHole,
    /// Code of a blob cannot be decoded, or refers to something outside of the blob.
    BlobCode,
    /// A patchlet breaks its contract, or the contract does not fit the op.
    Contract,
    /// The index of patchlets, ops, variants or keys is damaged, or disagrees with the labels.
    Index,
    /// Patchlets, index or records are in a section that is writable or
    /// executable.
    SectionFlags,
    /// A loader would not load a section from the bytes that its section header names.
    SectionSegment,
    /// Patchlets, index or records are in a segment that is writable or executable, though
    /// their section is neither.
    SegmentFlags,
    /// A relocation makes a linker or loader write to a patchlet, record or site.
    Relocation,
    /// The table of records is not found, does not end with a complete record, or is not all of
    /// its section.
    RecordTable,
    /// There are more or fewer sites than was said.
    SiteCount,
    /// A record's capacity is not within 6 to 32 bytes.
    RecordCapacity,
    /// A record's kind is neither call nor jump.
    RecordKind,
    /// The address in a record is not that of the slot of its op.
    RecordSlot,
    /// A slot holds neither null nor the address of a function.
    SlotValue,
    /// A site is not inside an executable section.
    SiteOutsideText,
    /// A site does not start where an instruction of its function starts.
    SiteBoundary,
    /// A site holds neither its indirect call or jump nor its native form or that of a variant; a
    /// branch site holds neither its NOP nor its jump.
    SiteBytes,
    /// A site is too small for its op's patchlet or that of a variant, or their function is out
    /// of reach.
    SiteCapacity,
    /// Two sites share bytes.
    SiteOverlap,
    /// A branch leads into the middle of a site.
    SiteBranch,
    /// An indirect call or jump through an ops table has no record.
    Unrecorded,
    /// A variant is of no op, is in its list twice, or its function is no code.
    Variant,
    /// There are more or fewer branch sites than was said.
    BranchCount,
    /// A record of a branch site has an impossible capacity, direction or number.
    BranchRecord,
    /// The address in a record of a branch site is that of no key.
    BranchKey,
    /// A branch site jumps to something else than an instruction of its own function.
    BranchTarget,
    /// A branch site has the form for another state of its key than the file says.
    BranchState,
    /// A key is not a word of its own in writable data.
    Key,
}

impl FindingCode {
    /// Returns the position of this kind's findings among those of other kinds.
    fn position(self) -> Option<usize> {
        Self::ALL.iter().position(|code| *code == self)
    }

    /// All kinds, in the order in which findings are printed.
    pub const ALL: &'static [Self] = &[
        Self::NothingHere,
        Self::ArchiveEmpty,
        Self::PatchletMissing,
        Self::PatchletBytes,
        Self::PatchletNative,
        Self::PatchletLabel,
        Self::PatchletOverlap,
        Self::BlobPlace,
        Self::BlobHole,
        Self::BlobCode,
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
        Self::Variant,
        Self::BranchCount,
        Self::BranchRecord,
        Self::BranchKey,
        Self::BranchTarget,
        Self::BranchState,
        Self::Key,
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
            Self::BlobPlace => "blob-place",
            Self::BlobHole => "blob-hole",
            Self::BlobCode => "blob-code",
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
            Self::Variant => "variant",
            Self::BranchCount => "branch-count",
            Self::BranchRecord => "branch-record",
            Self::BranchKey => "branch-key",
            Self::BranchTarget => "branch-target",
            Self::BranchState => "branch-state",
            Self::Key => "key",
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One defect of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Kind of the defect.
    pub code: FindingCode,
    /// Address of the defect, if it has one.
    #[serde(serialize_with = "super::hex::address")]
    pub address: Option<u64>,
    /// Place of the defect, in words.
    pub place: String,
    /// Description of the defect, with the values.
    pub what: String,
    /// The most likely fix.
    pub fix: &'static str,
}

/// Writes `site-bytes: site 0x1234 (save_fl, main+0x4): <what is wrong>; <the likely fix>`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}; {}", self.code, self.place, self.what, self.fix)
    }
}

/// A collection of findings. A damaged file may have as many findings as bytes, so only the
/// first 100 of each kind are kept; the others are counted.
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

    /// Adds the findings of another collection.
    pub(super) fn append(&mut self, others: Self) {
        for (code, count) in &others.counts {
            *self.counts.entry(*code).or_default() += count;
        }
        self.list.extend(others.list);
    }

    /// Returns whether there is no finding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the findings that were kept, sorted by kind and address.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Finding> {
        self.list.sort_by(|one, other| {
            let order = |of: &Finding| (of.code.position(), of.address);
            let words = |of: &Finding| (of.place.clone(), of.what.clone());
            order(one).cmp(&order(other)).then_with(|| words(one).cmp(&words(other)))
        });
        self.list
    }

    /// Returns the number of findings of each kind that has any, in the order in which they are
    /// printed. Findings that were not kept are counted.
    #[must_use]
    pub fn counts(&self) -> Vec<(FindingCode, usize)> {
        let all = FindingCode::ALL.iter();
        all.filter_map(|code| Some((*code, *self.counts.get(code)?))).collect()
    }

    /// Returns the number of all findings, including those that were not kept.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }
}
