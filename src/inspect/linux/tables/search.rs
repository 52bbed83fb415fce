//! Searches tables in data by their content.

use super::format::Format;
use super::kind::TableKind;
use super::record::{KernelTable, TableRecord, record};
use crate::inspect::elf::Image;

/// Searches a table in data by its content: a kernel without the names of variables does not say
/// where it is. Taken is the longest row of records of which each makes sense, with an instruction
/// at its site that the kernel could have there before it patches it. Not all tables can be told
/// from other data in this way.
pub(super) fn search(image: &Image<'_>, format: &Format) -> Option<KernelTable> {
    /// A shorter row can be there by chance.
    const SHORTEST: usize = 32;
    let patched = match format.kind {
        TableKind::JumpLabels => jump_label_can_be,
        TableKind::Ftrace => tracer_call_can_be,
        TableKind::StaticCalls => static_call_can_be,
        _ => return None,
    };
    let layout = format.layouts.iter().find(|of| of.width.is_none_or(|of| of == image.width()))?;
    let mut longest: Option<(u64, Vec<TableRecord>)> = None;
    let data = image.sections().iter();
    for section in data.filter(|section| !section.is_executable() && section.address != 0) {
        let mut at = 0;
        while at + layout.stride <= section.data.len() {
            let place = |at: usize| section.address + at as u64;
            let mut records: Vec<TableRecord> = Vec::new();
            let mut next = at;
            while let Some(bytes) = section.data.get(next..next + layout.stride)
                && let Some(Some(record)) = record(image, layout, place(next), bytes)
                && patched(image, &record, records.first())
            {
                records.push(record);
                next += layout.stride;
            }
            if records.len() >= SHORTEST
                && longest.as_ref().is_none_or(|(_, longest)| longest.len() < records.len())
            {
                longest = Some((place(at), records));
            }
            at = next.max(at + 4);
        }
    }
    let (address, records) = longest?;
    let name = format!("{} at {address:#x}", format.section);
    Some(KernelTable { kind: format.kind, name, stride: layout.stride, records })
}

/// Returns whether at a site stands a jump to the record's target, or a NOP as long as one.
fn jump_label_can_be(image: &Image<'_>, record: &TableRecord, _: Option<&TableRecord>) -> bool {
    let Some(code) = image.bytes_at(record.site, 5) else { return false };
    match *code {
        [0xe9, a, b, c, d] => {
            image.relative(record.site + 5, u32::from_le_bytes([a, b, c, d])) == record.other
        }
        [0xeb, distance, ..] => {
            let distance = i64::from(distance.cast_signed());
            (record.site + 2).wrapping_add_signed(distance) == record.other
        }
        _ => is_nop_of_5(code) || code.starts_with(&[0x66, 0x90]),
    }
}

/// Returns whether at a site stands a call as at the first site of the table, or a NOP.
fn tracer_call_can_be(
    image: &Image<'_>,
    record: &TableRecord,
    first: Option<&TableRecord>,
) -> bool {
    let target = |site: u64| match image.bytes_at(site, 5) {
        Some(&[0xe8, a, b, c, d]) => {
            Some(image.relative(site + 5, u32::from_le_bytes([a, b, c, d])))
        }
        Some(code) if is_nop_of_5(code) => Some(0),
        _ => None,
    };
    let Some(here) = target(record.site) else { return false };
    let there = first.and_then(|first| target(first.site));
    there.is_none_or(|there| here == 0 || there == 0 || here == there)
}

/// Returns whether at a site stands a direct call or jump to a trampoline, which has the instruction
/// `ud1 %esp, %ecx` behind its first five bytes.
fn static_call_can_be(image: &Image<'_>, record: &TableRecord, _: Option<&TableRecord>) -> bool {
    let Some(&[0xe8 | 0xe9, a, b, c, d]) = image.bytes_at(record.site, 5) else { return false };
    let target = image.relative(record.site + 5, u32::from_le_bytes([a, b, c, d]));
    image.bytes_at(target.wrapping_add(5), 3) == Some(&[0x0f, 0xb9, 0xcc])
}

/// Returns whether code is a NOP of five bytes as a compiler, an assembler or objtool writes it.
fn is_nop_of_5(code: &[u8]) -> bool {
    code.starts_with(&[0x0f, 0x1f, 0x44, 0, 0]) || code.starts_with(&[0x3e, 0x8d, 0x74, 0x26, 0])
}
