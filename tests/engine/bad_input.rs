//! Corrupt tables, wrong text and impossible slots: for each the error, with its
//! values and in its words; and no byte changed, nothing unlocked, nothing
//! serialized. In front of each bad record stand good ones, so that a patcher
//! that writes as it goes is caught.

use patchlet::ops::{OpSource, Table, Target};
use patchlet::{ComposeError, Error, Goal, InsnBuffer, Kind, Patcher, Width};
use proptest::prelude::*;

use crate::image::{Image, Raw, SLOT, Site, TEXT, call, jump, leak_set, source_of, target};
use crate::model;
use crate::platforms::{Recorder, one_cpu};

/// Three ops: a patchlet of one byte, none, one of six; and two good sites.
fn image() -> Image {
    let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[1, 2, 3, 4, 5, 6])]);
    image.site(call(0x200, 0));
    image.site(jump(0x206, 1));
    image
}

/// The error of planning, applying and, if it is to fail as well, reverting.
fn refused(image: &Image, revert_too: bool) -> Error {
    refusal(image, image.source, revert_too)
}

fn refused_with(image: &Image, tables: &[&'static Table], revert_too: bool) -> Error {
    refusal(image, source_of(tables), revert_too)
}

fn refusal(image: &Image, source: &'static OpSource<'static>, revert_too: bool) -> Error {
    image.arena.protect_text();
    let before = image.bytes();
    let recorder = Recorder::new(image);
    let log = recorder.log.clone();
    let mut patcher = Patcher::new(leak_set(image.sites(), source), recorder);
    let error = patcher.plan(Goal::Patched).map(|_| ()).unwrap_err();
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)), Err(error));
    if revert_too {
        assert_eq!(patcher.plan(Goal::Original).map(|_| ()), Err(error));
        assert_eq!(one_cpu(|cpu| patcher.revert(cpu)), Err(error));
    }
    assert!(image.bytes() == before, "{error}: a byte changed");
    assert_eq!(*log.borrow(), [], "{error}: the platform was asked to do something");
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn accepted(image: &Image) {
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
}

fn buffer(bytes: &[u8]) -> InsnBuffer {
    InsnBuffer::copy_of(bytes).unwrap()
}

#[test]
fn the_good_sites_alone_are_accepted() {
    accepted(&image());
}

#[test]
fn a_table_that_ends_inside_a_record() {
    for bytes in (1..36).filter(|bytes| bytes % 12 != 0) {
        let mut image = image();
        image.site(call(0x300, 0));
        image.truncate(bytes);
        let error = refused(&image, true);
        assert_eq!(error, Error::TruncatedTable { bytes, record: 12 });
        assert_eq!(
            error.to_string(),
            format!(
                "the site table has {bytes} bytes, which is no multiple of its 12-byte records: \
                 check the link script's lines for patchlet_sites"
            )
        );
    }
}

/// A bound that lies too far includes bytes that are no record: zeros, say.
#[test]
fn a_table_that_goes_on_past_its_last_record() {
    let mut image = image();
    image.truncate(36);
    let error = refused(&image, true);
    assert_eq!(error, Error::BadRecord { index: 2, field: "capacity", value: 0 });
    assert_eq!(error.to_string(), "record 2 of the site table has capacity 0, which no site has");
}

#[test]
fn a_capacity_no_site_has() {
    for value in (0..=5).chain(33..=255) {
        let mut image = image();
        let raw = image.raw(call(0x300, 0));
        image.record(Raw { capacity: value, ..raw });
        let error = refused(&image, true);
        assert_eq!(error, Error::BadRecord { index: 2, field: "capacity", value });
        assert_eq!(
            error.to_string(),
            format!("record 2 of the site table has capacity {value}, which no site has")
        );
    }
}

#[test]
fn a_kind_that_is_none() {
    for value in 2..=255 {
        let mut image = image();
        let raw = image.raw(call(0x300, 0));
        image.record(Raw { kind: value, ..raw });
        let error = refused(&image, true);
        assert_eq!(error, Error::BadRecord { index: 2, field: "kind", value });
        assert_eq!(
            error.to_string(),
            format!("record 2 of the site table has kind {value}, which no site has")
        );
    }
}

/// The record says jump and text holds a call, and the other way around.
#[test]
fn a_kind_that_is_the_other_one() {
    for (site, other) in [(call(0x300, 0), jump(0x300, 0)), (jump(0x300, 0), call(0x300, 0))] {
        let mut image = image();
        image.arena.write(0x300, &image.unpatched(other));
        image.record(image.raw(site));
        let (expected, found) = (image.unpatched(site), image.unpatched(other));
        assert_eq!(
            refused(&image, true),
            Error::OldBytes {
                site: image.arena.address(0x300),
                name: "op0",
                expected: buffer(&expected),
                found: buffer(&found),
            }
        );
    }
}

#[track_caller]
fn outside(image: &mut Image, site: usize, capacity: u8) {
    let raw = image.raw(call(0, 0));
    image.record(Raw { site, capacity, ..raw });
    let text = image.text();
    let error = refused(image, true);
    assert_eq!(error, Error::OutsideText { index: 2, site, start: text.start, end: text.end });
    assert_eq!(
        error.to_string(),
        format!("record 2: site {site:#x} is outside text ({:#x}..{:#x})", text.start, text.end)
    );
}

#[test]
fn an_address_outside_text() {
    let (start, end) = (TEXT.start, TEXT.end);
    let before = [(start - 1, 6), (start - 6, 6), (start - 7, 6), (start - 32, 32), (0, 6)];
    let straddling = [(end - 5, 6), (end - 1, 6), (end - 31, 32)];
    let behind = [(end, 6), (end, 32), (end + 1, 6)];
    for (at, capacity) in before.into_iter().chain(straddling).chain(behind) {
        let mut image = image();
        // The bytes themselves would be good.
        let site = Site { capacity, ..call(at, 0) };
        image.arena.write(at, &image.unpatched(site));
        let site = image.arena.address(at);
        outside(&mut image, site, capacity);
    }
}

#[test]
fn the_first_and_the_last_bytes_of_text_are_inside() {
    let mut image = image();
    image.site(Site { capacity: 32, ..call(TEXT.start, 0) });
    image.site(Site { capacity: 32, ..call(TEXT.end - 32, 0) });
    accepted(&image);
}

/// The end of the site would be a small number, and small is less than the end
/// of text.
#[test]
fn an_address_that_wraps_around() {
    for (site, capacity) in [(usize::MAX, 6), (usize::MAX - 4, 6), (usize::MAX - 5, 6), (0, 6)] {
        outside(&mut image(), site, capacity);
    }
    outside(&mut image(), usize::MAX - 30, 32);
}

#[track_caller]
fn unknown(image: &mut Image, raw: Raw) {
    image.arena.write(0x300, &image.unpatched(call(0x300, 0)));
    image.record(raw);
    let error = refused(image, true);
    let Raw { site, slot, op, .. } = raw;
    assert_eq!(error, Error::UnknownSubject { index: 2, site, subject: slot, number: op });
    assert_eq!(
        error.to_string(),
        format!(
            "record 2: site {site:#x} belongs to {slot:#x}, which is neither the slot of op \
             {op} in any of the given ops tables nor a key: give the site set every table that has sites"
        )
    );
}

#[test]
fn a_slot_that_is_no_ops() {
    let size = SLOT as isize;
    let before = [-size, -1];
    let misaligned = (1..size).chain([2 * size + 1]);
    let behind = [3 * size, 4 * size];
    for distance in before.into_iter().chain(misaligned).chain(behind) {
        for op in [0, 1, 2, 3, u16::MAX] {
            let mut image = image();
            let slot = image.slot(0).wrapping_add_signed(distance);
            let raw = image.raw(call(0x300, 0));
            unknown(&mut image, Raw { slot, op, ..raw });
        }
    }
}

#[test]
fn only_slots_have_an_index_and_only_ops_a_slot() {
    let image = image();
    for address in image.slot(0) - 2 * SLOT..image.slot(0) + 5 * SLOT {
        let op = (0..3).find(|&op| image.slot(op) == address);
        assert_eq!(image.table.index_of_slot(address), op, "{address:#x}");
    }
    for (address, op) in [(0, 3), (usize::MAX, usize::MAX)] {
        assert_eq!(image.table.index_of_slot(address), None);
        assert_eq!(image.table.get(op), None);
        let before = image.bytes();
        // SAFETY: there is no such slot.
        assert!(!unsafe { image.table.set(op, Target::NULL) });
        assert!(image.bytes() == before);
    }
}

#[test]
fn an_op_index_that_is_not_the_slots() {
    for (slot_of, op) in [(0, 1), (1, 0), (2, 3), (0, 3), (0, u16::MAX), (0, 0x100)] {
        let mut image = image();
        let raw = Raw { slot: image.slot(slot_of), op, ..image.raw(call(0x300, 0)) };
        unknown(&mut image, raw);
    }
}

#[test]
fn a_table_that_was_not_given() {
    let image = image();
    let unknown = Error::UnknownSubject {
        index: 0,
        site: image.arena.address(0x200),
        subject: image.slot(0),
        number: 0,
    };
    let other = self::image();
    assert_eq!(refused_with(&image, &[], true), unknown);
    assert_eq!(refused_with(&image, &[other.table], true), unknown);
}

#[test]
fn several_tables_each_have_their_sites() {
    let (mut image, other) = (image(), self::image());
    let slot = other.slot(0);
    let address = image.arena.address(0x300) as u64;
    let unpatched = model::indirect(Width::NATIVE, Kind::Call, address, 6, slot as u64).unwrap();
    image.arena.write(0x300, &unpatched[..]);
    let raw = image.raw(call(0x300, 0));
    image.record(Raw { slot, ..raw });
    for tables in [[image.table, other.table], [other.table, image.table]] {
        let set = leak_set(image.sites(), source_of(&tables));
        let mut patcher = Patcher::new(set, image.second_mapping());
        one_cpu(|cpu| patcher.apply(cpu)).unwrap();
        assert_eq!(image.at(0x300, 1), [0xfa]);
        one_cpu(|cpu| patcher.revert(cpu)).unwrap();
        assert_eq!(image.at(0x300, 6), &unpatched[..]);
    }
}

#[track_caller]
fn foreign(image: &Image, at: usize, expected: &[u8]) {
    let (site, expected) = (image.arena.address(at), buffer(expected));
    let found = buffer(&image.at(at, expected.bytes().len()));
    let error = refused(image, true);
    assert_eq!(error, Error::OldBytes { site, name: "op0", expected, found });
    assert_eq!(
        error.to_string(),
        format!(
            "site {site:#x} (op0) holds {found}, where {expected} or a replacement of it was \
             expected: somebody else wrote there"
        )
    );
}

/// Each byte of a site counts, the padding too.
#[test]
fn wrong_old_bytes() {
    for wrong in 0..12 {
        let mut image = image();
        let site = Site { capacity: 12, ..call(0x300, 0) };
        image.site(site);
        let good = image.unpatched(site);
        let mut bad = good.clone();
        bad[wrong] ^= 1;
        image.arena.write(0x300, &bad);
        foreign(&image, 0x300, &good);
    }
}

#[test]
fn an_indirect_call_through_another_ops_slot() {
    let mut image = image();
    image.record(image.raw(call(0x300, 0)));
    image.arena.write(0x300, &image.unpatched(call(0x300, 2)));
    foreign(&image, 0x300, &image.unpatched(call(0x300, 0)));
}

#[test]
fn a_site_patched_by_someone_else_after_us() {
    for wrong in 0..6 {
        let mut image = image();
        image.site(call(0x300, 0));
        accepted(&image);
        let mut bytes = image.at(0x300, 6);
        bytes[wrong] ^= 0x10;
        image.arena.write(0x300, &bytes);
        foreign(&image, 0x300, &image.unpatched(call(0x300, 0)));
    }
}

/// A direct call that is right in form, but to a function that never was in the
/// slot.
#[test]
fn a_direct_call_that_was_never_ours() {
    let mut image = image();
    image.site(call(0x300, 0));
    image.set(0, target(image.arena.address(0x8000)));
    accepted(&image);
    let ours = image.at(0x300, 6);
    image.arena.write(0x300, &[0xe8, ours[1] ^ 4, ours[2], ours[3], ours[4], ours[5]]);
    foreign(&image, 0x300, &image.unpatched(call(0x300, 0)));
    // Ours is known for as long as it is the last one, also after the slot was set.
    image.arena.write(0x300, &ours);
    image.set(0, Target::NOP);
    accepted(&image);
}

/// What was patched in before the last time is foreign again.
#[test]
fn a_replacement_of_long_ago() {
    let mut image = image();
    image.site(call(0x300, 0));
    image.set(0, target(image.arena.address(0x8000)));
    accepted(&image);
    let long_ago = image.at(0x300, 6);
    // What came before what is there now is another patcher's, see below.
    for held in [Target::NOP, Target::NULL] {
        image.set(0, held);
        accepted(&image);
    }
    image.arena.write(0x300, &long_ago);
    foreign(&image, 0x300, &image.unpatched(call(0x300, 0)));
}

/// The same crate puts native patchlets in ahead of boot.
#[test]
fn a_site_with_its_patchlet_already_is_ours() {
    let mut image = image();
    image.site(call(0x300, 0));
    let unpatched = image.bytes();
    accepted(&image);
    let patched = image.bytes();
    // A later boot of the same bytes: another table that never patched anything.
    for held in [Target::NULL, Target::NOP, target(image.arena.address(0x8000))] {
        let mut fresh = self::image();
        fresh.site(call(0x300, 0));
        fresh.arena.write(0x300, &patched[0x300..0x306]);
        fresh.set(0, held);
        accepted(&fresh);
        one_cpu(|cpu| fresh.patcher(fresh.second_mapping()).revert(cpu)).unwrap();
        assert_eq!(fresh.at(0x300, 6), fresh.unpatched(call(0x300, 0)));
    }
    one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
    assert!(image.bytes() == unpatched);
}

#[track_caller]
fn overlap(image: &Image, index: usize, at: usize, other: usize) {
    let (site, other) = (image.arena.address(at), image.arena.address(other));
    let error = refused(image, true);
    assert_eq!(error, Error::Overlap { index, site, name: "op0", other });
    assert_eq!(
        error.to_string(),
        format!("record {index}: site {site:#x} (op0) overlaps the site at {other:#x}")
    );
}

#[test]
fn overlapping_sites_in_order() {
    for at in 0x301..0x308 {
        let mut image = image();
        image.site(Site { capacity: 8, ..call(0x300, 0) });
        image.record(image.raw(call(at, 0)));
        overlap(&image, 3, at, 0x300);
    }
}

#[test]
fn overlapping_sites_out_of_order() {
    for at in 0x2fb..0x308 {
        let mut image = image();
        image.site(Site { capacity: 8, ..call(0x300, 0) });
        image.site(call(0x400, 0));
        image.record(image.raw(call(at, 0)));
        overlap(&image, 4, at, 0x300);
    }
}

/// One that covers a smaller one, whichever comes first.
#[test]
fn a_site_inside_another() {
    let (outer, inner) = (Site { capacity: 32, ..call(0x300, 0) }, call(0x310, 0));
    for (first, second) in [(outer, inner), (inner, outer)] {
        let mut image = image();
        image.site(first);
        image.record(image.raw(second));
        overlap(&image, 3, second.at, first.at);
    }
}

/// Linkers that fold functions of the same code leave such records; both are right.
#[test]
fn the_same_record_twice_is_accepted() {
    let mut image = image();
    image.site(call(0x300, 0));
    let once = image.bytes();
    image.record(image.raw(call(0x300, 0)));
    image.site(call(0x400, 0));
    image.record(image.raw(call(0x300, 0)));
    let mut patcher = image.patcher(image.second_mapping());
    let report = one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    // The two of `image`, and these.
    assert_eq!((report.sites, report.indirect), (6, 0));
    assert_ne!(image.at(0x300, 6), once[0x300..0x306]);
    one_cpu(|cpu| patcher.revert(cpu)).unwrap();
    assert_eq!(image.at(0x300, 6), once[0x300..0x306]);
}

#[test]
fn the_same_site_twice_in_other_words() {
    for other in [Site { capacity: 8, ..call(0x300, 0) }, call(0x300, 1), jump(0x300, 0)] {
        let mut image = image();
        image.site(call(0x300, 0));
        image.site(call(0x400, 0));
        image.record(image.raw(other));
        let error = refused(&image, true);
        let (site, op) = (image.arena.address(0x300), ["op0", "op1"][other.op]);
        assert_eq!(error, Error::Overlap { index: 4, site, name: op, other: site });
    }
}

/// A long site in front must not be forgotten behind a shorter one.
#[test]
fn overlap_with_a_site_before_the_previous_one() {
    let mut image = image();
    image.site(Site { capacity: 32, ..call(0x300, 0) });
    image.site(call(0x2f0, 0));
    image.record(image.raw(call(0x306, 0)));
    overlap(&image, 4, 0x306, 0x300);
}

#[test]
fn a_table_in_any_order_is_accepted() {
    let mut image = image();
    for at in [0x700, 0x306, 0x1000, 0x300, 0x30c, 0x6fa, 0x706] {
        image.site(call(at, 0));
    }
    accepted(&image);
    for at in [0x700, 0x306, 0x1000, 0x300, 0x30c, 0x6fa, 0x706] {
        assert_eq!(image.at(at, 1), [0xfa]);
    }
}

#[track_caller]
fn composed(image: &Image, at: usize, op: &'static str, why: ComposeError) -> String {
    let site = image.arena.address(at);
    let error = refused(image, false);
    assert_eq!(error, Error::Compose { site, name: op, why });
    let text = error.to_string();
    assert!(text.starts_with(&format!("site {site:#x} ({op}): {why}")), "{text}");
    // Not patched, so nothing to revert; which is fine.
    one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
    why.to_string()
}

#[test]
fn a_patchlet_too_long_for_its_site() {
    for (len, capacity) in [(7, 6), (32, 31), (33, 32), (100, 32)] {
        let mut image = Image::new(&[Some(&[0xfa]), Some(&vec![0xcc; len])]);
        image.site(call(0x200, 0));
        image.site(Site { capacity, ..call(0x300, 1) });
        let text = composed(&image, 0x300, "op1", ComposeError::TooLong { len, capacity });
        assert_eq!(
            text,
            format!(
                "the replacement has {len} bytes and the site only {capacity}: \
                 give the site a larger capacity"
            )
        );
    }
}

/// No linker makes such a site; a record can say so.
#[test]
fn a_site_that_does_not_reach_its_slot() {
    let [expected, found] = [&[][..], &[0x90; 6]].map(|bytes| InsnBuffer::copy_of(bytes).unwrap());
    assert_eq!(
        Error::OldBytes { site: 0x1000, name: "op0", expected, found }.to_string(),
        "site 0x1000 (op0) holds 90 90 90 90 90 90, which is no replacement of it, and does \
         not reach its slot: the record is wrong, or somebody else wrote there"
    );
}

/// Targets are in reach on 32-bit, whatever they are.
#[test]
fn a_target_too_far() {
    let end = 0x300 + 5;
    let limits = [0x7fff_ffff_i64 + 1, -0x8000_0000 - 1, 1 << 40, -(1 << 40), i64::MAX, i64::MIN];
    for distance in limits {
        let mut image = image();
        image.site(call(0x300, 0));
        image.site(jump(0x306, 0));
        let far = image.arena.address(end).wrapping_add_signed(distance as isize);
        if patchlet::Width::NATIVE == patchlet::Width::Bits64 {
            image.set(0, target(far));
            let (at, why) = (0x300, ComposeError::OutOfReach { target: far as u64 });
            // The first good site of the same op is nearer to what is ahead.
            let at = if distance == -0x8000_0001 { at } else { 0x200 };
            let text = composed(&image, at, "op0", why);
            assert_eq!(text, format!("a 32-bit displacement does not reach the target {far:#x}"));
        } else {
            image.set(0, target(far));
            accepted(&image);
        }
    }
}

#[test]
fn the_farthest_targets_in_reach() {
    for distance in [0x7fff_ffff_i64, -0x8000_0000] {
        let mut image = Image::new(&[None]);
        image.site(call(0x300, 0));
        let far = image.arena.address(0x305).wrapping_add_signed(distance as isize);
        image.set(0, target(far));
        accepted(&image);
        let mut expected = vec![0xe8];
        expected.extend((distance as i32).to_le_bytes());
        expected.push(0x90);
        assert_eq!(image.at(0x300, 6), expected);
    }
}

/// A capacity that is impossible for composing, where no record can say it.
#[test]
fn an_impossible_capacity_in_words() {
    for capacity in [0, 33, 255] {
        assert_eq!(
            ComposeError::Capacity { capacity }.to_string(),
            format!("a capacity of {capacity} bytes is not possible (6 to 32)")
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the records say: no panic, no access outside of text, and either
    /// all is well or no byte has changed.
    #[test]
    fn any_table_is_refused_or_applied_whole(
        records in prop::collection::vec(
            (0x80_usize..0x1f80, -1_i32..4, 0_usize..2, 0_u16..4, 5_u8..=34, 0_u8..3), 0..6),
        cut in 0_usize..12,
    ) {
        let mut image = image();
        for (at, op, misaligned, index, capacity, kind) in records {
            let slot = image.slot(0).wrapping_add_signed(op as isize * SLOT as isize) + misaligned;
            let site = image.arena.address(at);
            image.record(Raw { site, slot, op: index, capacity, kind });
        }
        let size = image.sites().size();
        image.truncate(size - if cut < 6 { cut } else { 0 });
        image.arena.protect_text();
        let before = image.bytes();
        let mut patcher = image.patcher(image.second_mapping());
        let planned = patcher.plan(Goal::Patched).map(|plan| plan.report());
        let applied = one_cpu(|cpu| patcher.apply(cpu));
        prop_assert_eq!(planned, applied);
        prop_assert!(applied.is_ok() || image.bytes() == before);
    }
}
