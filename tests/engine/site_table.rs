//! Tables of records: which record has a target in which table.

use patchlet::Sites;

/// Bytes of records, aligned as a section of them is.
#[repr(align(4))]
struct Section([u8; 64]);

/// A table answers for its own records: not for its neighbours, nor for what only looks like a
/// record at an address inside of it.
#[test]
fn a_record_of_another_table_has_no_target() {
    let mut section = Section([0; 64]);
    for (number, record) in section.0.chunks_exact_mut(16).enumerate() {
        record[12..].copy_from_slice(&(0x1000 * number as i32).to_le_bytes());
    }
    let start = section.0.as_ptr();
    // SAFETY: bytes of this test's own, which stay as they are.
    let (all, as_ops) =
        unsafe { (Sites::with_targets_between(start, 64), Sites::between(start, 64)) };
    let own = all.part(1..3);
    for (number, record) in all.records().enumerate() {
        let target = start.addr() + 16 * number + 12 + 0x1000 * number;
        assert_eq!(all.target(record), Some(target));
        assert_eq!(own.target(record), (1..3).contains(&number).then_some(target));
        assert_eq!(as_ops.target(record), None);
    }
    for record in as_ops.records() {
        let is_own = (std::ptr::from_ref(record).addr() - start.addr()).is_multiple_of(16);
        assert_eq!(all.target(record).is_some(), is_own, "{record:?}");
    }
}
