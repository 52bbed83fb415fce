//! Memory that the kernel can execute and that is in no file: it is not compared, and the tool says
//! how much there is.

use super::object::Running;
use super::text::ProgramText;

/// Returns a sentence about memory that can be executed and is in no file; `None` if there is none,
/// or if the dump has no page tables.
pub(super) fn words(running: &Running<'_, '_>, texts: &[ProgramText<'_>]) -> Option<String> {
    let mut known: Vec<(u64, u64)> = vec![];
    for (object, text) in running.objects.iter().zip(texts) {
        known.extend(text.areas.iter().map(|area| {
            let start = object.running(area.address);
            (start, start.saturating_add(area.end() - area.address))
        }));
    }
    known.sort_unstable();
    let (mut first, mut total) = (None, 0_u64);
    let mut count = |start: u64, end: u64| {
        if start < end {
            first = first.or(Some(start));
            total = total.saturating_add(end - start);
        }
    };
    for (start, size) in running.located.executable() {
        let end = start.saturating_add(size);
        let mut at = start;
        let from = known.partition_point(|&(_, known_end)| known_end <= start);
        for &(known_start, known_end) in known.iter().skip(from) {
            if known_start >= end {
                break;
            }
            count(at, known_start);
            at = at.max(known_end);
        }
        count(at, end);
    }
    let first = first?;
    Some(format!(
        "{total:#x} bytes that the kernel can execute are in no file, the first at {first:#x}: they \
         are not compared"
    ))
}
