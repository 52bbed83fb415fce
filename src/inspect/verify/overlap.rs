//! The check that no two sites share bytes, whatever they belong to.

use super::{branches, sites};
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::model::Model;
use crate::inspect::sweep::{RecordImage, TextSite};

/// Returns the place of a finding about a site.
pub(super) fn place(model: &Model<'_>, site: &TextSite<'_>) -> String {
    match site.record {
        RecordImage::Op(record) => sites::place(model, record),
        RecordImage::Branch(record) => branches::place(model, record),
    }
}

/// Checks that no two sites share bytes. They are sorted by address, each once.
pub(super) fn check(model: &Model<'_>, sites: &[TextSite<'_>], findings: &mut Findings) {
    let mut before: Option<(&TextSite<'_>, u64)> = None;
    for site in sites {
        let end = end_as_recorded(site);
        if let Some((other, _)) = before.filter(|&(_, end)| end > site.start) {
            let (what, capacity) = match other.record {
                RecordImage::Op(record) => ("site", record.capacity),
                RecordImage::Branch(record) => ("branch site", record.capacity),
            };
            findings.add(
                FindingCode::SiteOverlap,
                Some(site.start),
                place(model, site),
                format!("shares bytes with the {what} of {capacity} bytes at {:#x}", other.start),
                "emit each site by one macro, with the capacity it says",
            );
        }
        if before.is_none_or(|(_, last)| last < end) {
            before = Some((site, end));
        }
    }
}

/// Returns the first address behind a site, as its record says it.
fn end_as_recorded(site: &TextSite<'_>) -> u64 {
    match site.record {
        RecordImage::Op(record) => record.end(),
        // Another capacity is a finding of its own.
        RecordImage::Branch(_) => site.end,
    }
}
