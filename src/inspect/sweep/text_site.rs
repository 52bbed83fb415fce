//! Sites in text, whatever they belong to: where each starts and ends.

use super::padding::Before;
use crate::insn::{InsnBuffer, Kind};
use crate::inspect::formats::{BRANCH_SIZE, BranchImage, SiteImage};
use crate::inspect::model::Model;

/// A site in text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TextSite<'m> {
    /// Address of the first byte.
    pub start: u64,
    /// First address behind the site. A capacity that is impossible is limited to the possible
    /// range, so that the wrong capacity, which is a finding, causes no others.
    pub end: u64,
    /// The kind of code that the site is for the bytes behind it.
    pub(super) before: Before,
    /// What the site belongs to.
    pub record: RecordImage<'m>,
}

/// The record of a site of either kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RecordImage<'m> {
    /// A site of an op.
    Op(&'m SiteImage),
    /// A site of a static branch.
    Branch(&'m BranchImage),
}

impl<'m> TextSite<'m> {
    /// Returns the site of an op.
    pub fn of_op(record: &'m SiteImage) -> Self {
        let capacity = usize::from(record.capacity).clamp(InsnBuffer::MIN, InsnBuffer::MAX);
        let before = match record.kind() {
            Some(Kind::Jump) => Before::End,
            Some(Kind::Call) | None => Before::Call,
        };
        let (start, record) = (record.site, RecordImage::Op(record));
        Self { start, end: start.saturating_add(capacity as u64), before, record }
    }

    /// Returns the site of a static branch. It goes on behind itself in one of its two forms.
    pub fn of_branch(record: &'m BranchImage) -> Self {
        let (start, before) = (record.site, Before::Code);
        let end = start.saturating_add(u64::from(BRANCH_SIZE));
        Self { start, end, before, record: RecordImage::Branch(record) }
    }

    /// Returns the address of the site's record.
    const fn record_address(&self) -> u64 {
        match self.record {
            RecordImage::Op(record) => record.address,
            RecordImage::Branch(record) => record.address,
        }
    }

    /// Returns whether two records say the same about the same site.
    fn repeats(&self, other: &Self) -> bool {
        match (self.record, other.record) {
            (RecordImage::Op(one), RecordImage::Op(other)) => one.repeats(other),
            (RecordImage::Branch(one), RecordImage::Branch(other)) => one.repeats(other),
            _ => false,
        }
    }
}

/// Sorts sites by address, and leaves one of those that are there twice.
pub(crate) fn sort(sites: &mut Vec<TextSite<'_>>) {
    sites.sort_by_key(|site| (site.start, site.record_address()));
    sites.dedup_by(|site, before| site.repeats(before));
}

/// Returns the sites in executable sections, sorted by address, each once.
pub(crate) fn sites_in_text<'m>(model: &'m Model<'_>) -> Vec<TextSite<'m>> {
    let in_text = |site: &TextSite<'_>| {
        model.image().section_at(site.start).is_some_and(|section| section.is_executable())
    };
    let of_ops = model.records().iter().map(TextSite::of_op);
    let of_branches = model.branches().iter().map(TextSite::of_branch);
    let mut sites: Vec<_> = of_ops.chain(of_branches).filter(in_text).collect();
    sort(&mut sites);
    sites
}
