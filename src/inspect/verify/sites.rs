//! The checks of the records of ops and their sites, each by itself.

use super::records::{self, BY_MACROS_ALONE, RELINK};
use super::reference::Reference;
use crate::insn::{ComposeError, InsnBuffer};
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::formats::SiteImage;
use crate::inspect::hex::bytes_in_hex;
use crate::inspect::model::{Model, SiteState};
use crate::inspect::sweep::TextSite;

/// Checks all records; returns the sites in executable sections.
pub(super) fn check<'m>(
    model: &'m Model<'_>,
    reference: &Reference<'_>,
    findings: &mut Findings,
) -> Vec<TextSite<'m>> {
    let table = ("table of records", FindingCode::SiteCount);
    records::as_many_as_expected(table, model.records().len(), reference.sites, findings);
    records::table_is_not_relocated(model, model.records.range, findings);
    let mut sites = Vec::new();
    for record in model.records() {
        if record_alone(model, record, findings) {
            sites.push(TextSite::of_op(record));
        }
    }
    slots(model, findings);
    sites
}

/// Returns the place of a finding, such as `site 0x1234 (save_fl, main+0x4)`.
pub(super) fn place(model: &Model<'_>, record: &SiteImage) -> String {
    let (op, function) = (model.op_name_of(record), model.function(record.site));
    format!("site {:#x} ({op}, {function})", record.site)
}

/// Checks one record and its site. Returns whether the site lies in an executable section.
fn record_alone(model: &Model<'_>, record: &SiteImage, findings: &mut Findings) -> bool {
    let mut add = |code, what, fix| {
        findings.add(code, Some(record.site), place(model, record), what, fix);
    };
    let possible = (InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(record.capacity));
    if !possible {
        add(
            FindingCode::RecordCapacity,
            format!(
                "its capacity is {} bytes, where {} to {} are possible",
                record.capacity,
                InsnBuffer::MIN,
                InsnBuffer::MAX
            ),
            RELINK,
        );
    }
    let kind = record.kind();
    if kind.is_none() {
        let what = format!("its kind is {}, neither call (0) nor jump (1)", record.kind);
        add(FindingCode::RecordKind, what, RELINK);
    }
    let known_slot = match model.tables.slot(record.slot) {
        Some((_, index)) if index == u64::from(record.op) => true,
        Some((table, index)) => {
            let table = model.tables.list.get(table).map_or_else(String::new, |t| t.words().into());
            add(
                FindingCode::RecordSlot,
                format!(
                    "its slot {:#x} is that of op {index} of {table}, its op is {}",
                    record.slot, record.op
                ),
                RELINK,
            );
            false
        }
        None => {
            add(
                FindingCode::RecordSlot,
                format!("{:#x} is no slot of any ops table (op {})", record.slot, record.op),
                RELINK,
            );
            false
        }
    };
    if let Some(what) = records::outside_text(model, record.site, record.capacity) {
        add(FindingCode::SiteOutsideText, what, RELINK);
        return false;
    }
    let (Some(kind), true, true) = (kind, possible, known_slot) else { return true };
    for what in records::written_by_loader(model, record.site, record.capacity) {
        let fix = "link 32-bit code for a fixed address: there is no relative indirect call";
        add(FindingCode::Relocation, what, fix);
    }
    if let Err(error) = model.native(record, kind) {
        let fix = match error {
            ComposeError::OutOfReach { .. } => "link text within 2 GiB",
            _ => "give the site a larger capacity",
        };
        add(FindingCode::SiteCapacity, format!("its native form does not fit: {error}"), fix);
        return true;
    }
    if model.state(record) == SiteState::Foreign {
        let form = |bytes: Result<InsnBuffer, ComposeError>| {
            bytes.map_or_else(|error| format!("(none: {error})"), |bytes| bytes.to_string())
        };
        let present = model.present(record);
        add(
            FindingCode::SiteBytes,
            format!(
                "it holds {}, where {} or its native form {} must be",
                bytes_in_hex(present.as_ref().map_or(&[], InsnBuffer::bytes)),
                form(model.indirect(record, kind)),
                form(model.native(record, kind))
            ),
            BY_MACROS_ALONE,
        );
    }
    true
}

/// Checks that the slots of the sites hold null or the address of a function.
fn slots(model: &Model<'_>, findings: &mut Findings) {
    for op in &model.ops {
        // Not a slot: the record is wrong, and `record_alone` has added a finding.
        if model.tables.slot(op.slot).is_none_or(|(_, index)| index != u64::from(op.index)) {
            continue;
        }
        // A slot of the kernel's, whose file says what it holds.
        if model.image.is_outside(op.slot) {
            continue;
        }
        let is_function = |address| {
            model.image.section_at(address).is_some_and(|section| section.is_executable())
        };
        let what = match op.native {
            Some(0) => continue,
            Some(address) if is_function(address) => continue,
            Some(address) => format!("holds {address:#x}, which is not in an executable section"),
            None => "is not in the file, or refers to a symbol of another".to_owned(),
        };
        findings.add(
            FindingCode::SlotValue,
            Some(op.slot),
            format!("slot {:#x} ({})", op.slot, model.op_name(op)),
            what,
            "define ops tables by `ops!`, and link every native function into the file",
        );
    }
}
