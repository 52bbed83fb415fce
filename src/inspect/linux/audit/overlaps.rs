//! Records for the same bytes. Linux patches one table after the other, so that a site inside of an
//! alternative is meant: the alternative is copied over whatever was patched there before. What is
//! patched again while the kernel runs must not share a byte with anything else.

use std::cmp::Reverse;

use super::finding::{AuditFinding, AuditKind};
use super::records::table_name;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::tables::{TableKind, TableRecord};

/// The bytes that a record is for.
#[derive(Clone, Copy, Debug)]
struct Bytes<'a> {
    start: u64,
    end: u64,
    kind: TableKind,
    record: &'a TableRecord,
}

/// Finds records that are there twice, and those whose bytes overlap though they must not. Of
/// records that overlap with several others it names the one that starts before and reaches
/// farthest.
pub(super) fn find(kernel: &LinuxKernel<'_>) -> Vec<AuditFinding> {
    let mut all: Vec<Bytes<'_>> = Vec::new();
    for table in &kernel.tables {
        all.extend(table.records.iter().map(|record| {
            let (start, kind) = (record.site, table.kind);
            let end = start.saturating_add(kernel.site_length(kind, record));
            Bytes { start, end, kind, record }
        }));
    }
    all.sort_by_key(|bytes| (bytes.start, Reverse(bytes.end), bytes.kind));
    let mut findings = Vec::new();
    let mut farthest: Option<Bytes<'_>> = None;
    let mut before: Option<Bytes<'_>> = None;
    for bytes in all {
        let twice =
            before.is_some_and(|before| before.kind == bytes.kind && before.record == bytes.record);
        if twice {
            let words = format!("{} has this record twice", table_name(bytes.kind));
            let kind = AuditKind::Duplicate;
            findings.push(AuditFinding::new(kernel, kind, bytes.start, words));
            continue;
        }
        // The one before is the nearest, the other holds whatever is inside of it.
        let shared = [before, farthest].into_iter().flatten();
        if let Some(other) = shared
            .filter(|other| bytes.start < other.end && bytes.start < bytes.end)
            .find(|other| !may_share(other, &bytes))
        {
            let words = format!(
                "{:#x}..{:#x} of {} and {:#x}..{:#x} of {}",
                other.start,
                other.end,
                table_name(other.kind),
                bytes.start,
                bytes.end,
                table_name(bytes.kind),
            );
            findings.push(AuditFinding::new(kernel, AuditKind::Overlap, bytes.start, words));
        }
        before = Some(bytes);
        if farthest.is_none_or(|farthest| farthest.end < bytes.end) {
            farthest = Some(bytes);
        }
    }
    findings
}

/// Returns whether two records may share bytes: `first` does not start behind `second`.
fn may_share(first: &Bytes<'_>, second: &Bytes<'_>) -> bool {
    let is_inside = second.end <= first.end;
    let is_same = first.start == second.start;
    match (first.kind, second.kind) {
        // Several alternatives of one site: the longest counts for all.
        (TableKind::Alternatives, TableKind::Alternatives) => is_same,
        // Calls through `pv_ops` are put in first, and alternatives over them.
        (TableKind::Alternatives, TableKind::Paravirt)
        | (TableKind::Paravirt, TableKind::Alternatives) => is_same || is_inside,
        (TableKind::Alternatives, inner) => is_inside && !is_live(inner),
        (inner, TableKind::Alternatives) => is_same && !is_live(inner),
        // A call of the tracer is a call like any other, which is left out when calls are counted.
        (TableKind::Calls, TableKind::Ftrace) | (TableKind::Ftrace, TableKind::Calls) => is_same,
        _ => false,
    }
}

/// Returns whether sites of a kind are patched again while the kernel runs.
const fn is_live(kind: TableKind) -> bool {
    matches!(kind, TableKind::JumpLabels | TableKind::StaticCalls | TableKind::Ftrace)
}
