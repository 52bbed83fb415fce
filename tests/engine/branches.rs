//! Static branches at boot: by a dumb model over random programs; each fault of a record, a table
//! or text; and changes of keys and slots as a transaction, with every way in which it can fail.

use patchlet::live::{Int3, Rendezvous, StopOthers, Synchronize};
use patchlet::ops::Target;
use patchlet::text::{Change, Report};
use patchlet::{Error, Goal, Patcher, Platform, Replacement, SiteSet};
use proptest::prelude::*;

use crate::branch_image::{Branch, BranchImage, RawBranch};
use crate::image::call;
use crate::model::hex;
use crate::platforms::{Recorder, one_cpu};

/// A branch by the key of this index, to a target behind all of them.
const fn on_jumps(at: usize, key: usize) -> Branch {
    Branch { at, key, jumps_when_on: true, target: 0x1000 + at }
}

const fn off_jumps(at: usize, key: usize) -> Branch {
    Branch { at, key, jumps_when_on: false, target: 0x180 }
}

/// One op with two sites, two keys that start off and on, and four branches between the sites.
fn image() -> (BranchImage, [Branch; 4]) {
    let mut image = BranchImage::new(&[Some(&[0xfa])], &[false, true]);
    image.image.site(call(0x200, 0));
    image.image.site(call(0x300, 0));
    let branches =
        [on_jumps(0x206, 0), off_jumps(0x20b, 0), on_jumps(0x210, 1), off_jumps(0x215, 1)];
    for branch in branches {
        image.branch(branch);
    }
    (image, branches)
}

fn apply(image: &BranchImage) -> Result<Report, Error> {
    one_cpu(|cpu| image.patcher(image.image.second_mapping()).apply(cpu))
}

fn change(image: &BranchImage, changes: &mut [Change<'_>]) -> Result<Report, Error> {
    one_cpu(|cpu| image.patcher(image.image.second_mapping()).change(changes, cpu))
}

/// Checks the bytes of these branches, for the state that each key's memory says.
#[track_caller]
fn follow(image: &BranchImage, branches: &[Branch]) {
    for &branch in branches {
        let expected = image.bytes_of(branch, image.is_on(branch.key));
        assert_eq!(image.image.at(branch.at, 5), expected, "{branch:x?}");
    }
}

#[test]
fn branches_are_right_from_the_start_and_follow_their_keys() {
    let (image, branches) = image();
    follow(&image, &branches);
    let report = apply(&image).unwrap();
    // The ops' two sites change, and no branch does.
    assert_eq!((report.sites, report.changed, report.indirect), (6, 2, 0));
    assert_eq!((report.patchlets, report.nops, report.jumps), (2, 2, 2));
    follow(&image, &branches);

    for (key, on) in [(0, true), (1, false), (0, false), (1, true)] {
        let report = change(&image, &mut [image.to(key, on)]).unwrap();
        assert_eq!((report.changed, image.is_on(key)), (2, on));
        follow(&image, &branches);
        assert_eq!(change(&image, &mut [image.to(key, on)]).unwrap().changed, 0);
    }
}

/// Revert gives back what the assembler wrote, whatever the keys say.
#[test]
fn revert_gives_back_what_the_assembler_wrote() {
    let (image, branches) = image();
    let before = image.image.bytes();
    let mut patcher = image.patcher(image.image.second_mapping());
    for keys in [[true, false], [true, true], [false, false]] {
        let mut changes = [image.to(0, keys[0]), image.to(1, keys[1])];
        one_cpu(|cpu| patcher.change(&mut changes, cpu)).unwrap();
        follow(&image, &branches);
        let changed = 2 + 2 * usize::from(keys[0]) + 2 * usize::from(!keys[1]);
        assert_eq!(one_cpu(|cpu| patcher.revert(cpu)).unwrap().changed, changed);
        assert!(image.image.bytes()[..0x2000] == before[..0x2000]);
        assert_eq!([image.is_on(0), image.is_on(1)], keys, "keys stay");
        assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().changed, changed);
        follow(&image, &branches);
        change(&image, &mut [image.to(0, false), image.to(1, true)]).unwrap();
        one_cpu(|cpu| patcher.revert(cpu)).unwrap();
    }
}

#[test]
fn a_plan_says_what_each_branch_gets() {
    let (image, branches) = image();
    image.counted(0).preset(7);
    let mut patcher = image.patcher(image.image.second_mapping());
    let plan = patcher.plan(Goal::Patched).unwrap();
    let report = plan.report_of(image.key(0));
    assert_eq!((report.sites, report.changed, report.jumps, report.nops), (2, 2, 1, 1));
    let report = plan.report_of(image.key(1));
    assert_eq!((report.sites, report.changed, report.jumps, report.nops), (2, 0, 1, 1));
    let outcomes: Vec<_> = plan.outcomes().filter(|outcome| outcome.name == "key0").collect();
    let address = |at| image.image.arena.address(at) as u64;
    assert_eq!(outcomes[0].new, Replacement::Jump(address(branches[0].target)));
    assert!(matches!(outcomes[0].old, Replacement::Nop(_)));
    assert_eq!(outcomes[0].new_bytes.bytes(), image.bytes_of(branches[0], true));
    assert_eq!(outcomes[1].old, Replacement::Jump(address(branches[1].target)));
    one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    follow(&image, &branches);
}

/// A key that counts is on as long as the count is not 0, and only then anything is written.
#[test]
fn a_counted_key_switches_at_the_first_and_the_last() {
    let (image, branches) = image();
    let key = image.counted(0);
    apply(&image).unwrap();
    for (step, changed) in [(1, 2), (1, 0), (-1, 0), (1, 0), (-1, 0), (-1, 2), (1, 2)] {
        let step = if step > 0 { key.increment() } else { key.decrement() };
        assert_eq!(change(&image, &mut [step]).unwrap().changed, changed);
        follow(&image, &branches);
    }
    assert_eq!(key.count(), 1);
    // Several in one list, in their order.
    let mut list = [key.decrement(), key.increment(), key.increment()];
    assert_eq!(change(&image, &mut list).unwrap().changed, 0);
    assert_eq!(key.count(), 2);
    // What was made is undone by the same list.
    list.reverse();
    assert_eq!(change(&image, &mut list).unwrap().changed, 0);
    assert_eq!(key.count(), 1);
}

/// The three writers, each by a function that makes these changes.
type Writer = fn(&BranchImage, &mut [Change<'_>]) -> Result<Report, Error>;
const WRITERS: [(&str, Writer); 3] = [
    ("boot", change),
    ("INT3", |image, changes| {
        let live = image.live();
        // SAFETY: nobody executes an arena.
        unsafe { Int3::with_nobody_inside(live, image.image.second_mapping(), Alone) }
            .change(changes)
    }),
    ("rendezvous", |image, changes| {
        let live = image.live();
        // SAFETY: nobody executes an arena.
        unsafe { Rendezvous::new(live, image.image.second_mapping(), Alone) }.change(changes)
    }),
];

pub struct Alone;

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Alone {
    fn sync_all(&self) {}
}

// SAFETY: as above.
unsafe impl StopOthers for Alone {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        write()
    }
}

/// Keys and a slot in one list: all of them, or nothing at all.
#[test]
fn a_change_is_made_as_a_whole_or_not_at_all() {
    for (writer, write) in WRITERS {
        let (image, branches) = image();
        apply(&image).unwrap();
        let slot_before = image.image.table.get(0);
        let count = image.counted(1).count();
        let before = image.image.bytes();
        let unchanged = |what: &str| {
            assert!(image.image.bytes() == before, "{writer}, {what}: a byte changed");
            assert_eq!(image.image.table.get(0), slot_before, "{writer}, {what}");
            assert_eq!([image.is_on(0), image.is_on(1)], [false, true], "{writer}, {what}");
            assert_eq!(image.counted(1).count(), count, "{writer}, {what}");
        };
        let slot = |target: Target| {
            // SAFETY: nothing ever calls through this slot.
            unsafe { image.image.table.change(0, target) }.unwrap()
        };
        let nop = || slot(Target::NOP);

        // A count that goes below 0, as the last of the list.
        let down = || image.counted(1).decrement();
        let mut list = [nop(), image.to(0, true), down(), down()];
        let error = write(&image, &mut list).unwrap_err();
        assert_eq!(error, Error::Count { key: image.key(1), name: "key1", count: 0 });
        assert!(error.to_string().contains("(key1) is counted down more often than up"), "{error}");
        unchanged("counted below 0");

        // Out of reach, for a site of the op.
        #[cfg(target_pointer_width = "64")]
        {
            use crate::image::target;
            let mut list = [image.to(0, true), down(), slot(target(0x7000_0000_0000))];
            let error = write(&image, &mut list).unwrap_err();
            assert!(matches!(error, Error::Compose { name: "op0", .. }), "{error}");
            unchanged("out of reach");
        }

        // Somebody else's bytes in a branch, and in a site of the op.
        for (at, name) in [(branches[3].at, "key1"), (0x300, "op0")] {
            let there = image.image.at(at, 1);
            image.image.arena.write(at, &[0x0e]);
            let mut list = [nop(), image.to(0, true), down()];
            let error = write(&image, &mut list).unwrap_err();
            assert!(matches!(error, Error::OldBytes { name: n, .. } if n == name), "{error}");
            image.image.arena.write(at, &there);
            unchanged("old bytes");
        }

        // And what is all right is made, once: key, count and slot.
        let mut list = [nop(), image.to(0, true), down()];
        let report = write(&image, &mut list).unwrap();
        assert_eq!((report.sites, report.changed), (6, 6), "{writer}");
        assert_eq!([image.is_on(0), image.is_on(1)], [true, false]);
        follow(&image, &branches);
        assert_eq!(image.image.at(0x200, 6), hex("66 0f 1f 44 00 00"));
    }
}

#[test]
fn a_count_does_not_overflow() {
    for (writer, write) in WRITERS {
        let (image, _) = image();
        image.counted(0).preset(u32::MAX);
        let mut list = [image.to(1, false), image.counted(0).increment()];
        let error = write(&image, &mut list).unwrap_err();
        let count = u32::MAX;
        assert_eq!(error, Error::Count { key: image.key(0), name: "key0", count }, "{writer}");
        assert!(error.to_string().ends_with("4294967295 times: it cannot count on"), "{error}");
        assert_eq!((error.code(), error.site()), ("count", None));
        assert!(image.is_on(1) && image.counted(0).count() == u32::MAX);
    }
}

/// Applies, which is to be refused before anything is written.
#[track_caller]
fn refused(image: &BranchImage) -> Error {
    let before = image.image.bytes();
    let recorder = Recorder::new(&image.image);
    let log = recorder.log.clone();
    let mut patcher = Patcher::new(image.set(), recorder);
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    assert_eq!(patcher.plan(Goal::Patched).map(|_| ()), Err(error));
    assert!(image.image.bytes() == before && log.borrow().is_empty(), "{error}");
    error
}

/// What is changed in the record of the last of three branches, and whether the error fits.
type Case = (&'static str, fn(&mut RawBranch), fn(Error) -> bool);

const CASES: [Case; 9] = [
    (
        "capacity",
        |raw| raw.capacity = 6,
        |error| matches!(error, Error::BadRecord { index: 2, field: "capacity", value: 6 }),
    ),
    (
        "no capacity",
        |raw| raw.capacity = 0,
        |error| matches!(error, Error::BadRecord { index: 2, field: "capacity", value: 0 }),
    ),
    (
        "kind",
        |raw| raw.kind = 2,
        |error| matches!(error, Error::BadRecord { index: 2, field: "kind", value: 2 }),
    ),
    (
        "number",
        |raw| raw.number = 1,
        |error| matches!(error, Error::UnknownSubject { index: 2, number: 1, .. }),
    ),
    (
        "key",
        |raw| raw.key += 4,
        |error| matches!(error, Error::UnknownSubject { index: 2, number: 0, .. }),
    ),
    (
        "no key at all",
        |raw| raw.key = raw.site,
        |error| matches!(error, Error::UnknownSubject { index: 2, .. }),
    ),
    (
        "target",
        |raw| raw.target += 1,
        |error| matches!(error, Error::OldBytes { name: "key1", .. }),
    ),
    ("site", |raw| raw.site += 1, |error| matches!(error, Error::OldBytes { name: "key1", .. })),
    (
        "outside",
        |raw| raw.site -= 0x400,
        |error| matches!(error, Error::OutsideText { index: 2, .. }),
    ),
];

#[test]
fn a_wrong_record_is_refused() {
    for (what, change, is_expected) in CASES {
        let image = BranchImage::new(&[], &[false, true]);
        image.branch(on_jumps(0x200, 0));
        image.branch(off_jumps(0x205, 1));
        // A jump, since the target of a NOP stands in no byte of text.
        let branch = on_jumps(0x300, 1);
        image.image.arena.write(branch.at, &image.unpatched(branch));
        let mut raw = image.raw(branch);
        change(&mut raw);
        image.record(raw);
        let error = refused(&image);
        assert!(is_expected(error), "{what}: {error}");
    }
}

#[test]
fn a_table_that_ends_in_the_middle_of_a_record_is_refused() {
    let (image, _) = image();
    image.truncate(3 * 16 + 12);
    assert_eq!(refused(&image), Error::TruncatedTable { bytes: 60, record: 16 });
}

/// The bytes of the other direction of another branch, one byte of either form, and the two-byte
/// jump that an assembler would choose.
#[test]
fn a_branch_holds_its_own_two_forms_and_nothing_else() {
    let (image, branches) = image();
    let others = [
        image.bytes_of(Branch { target: branches[0].target + 1, ..branches[0] }, true),
        hex("90 90 90 90 90"),
        hex("eb 10 90 90 90"),
        hex("e8 00 00 00 00"),
        hex("0f 1f 44 00 01"),
        hex("66 0f 1f 44 00"),
    ];
    for other in others {
        let there = image.image.at(branches[0].at, 5);
        image.image.arena.write(branches[0].at, &other);
        let error = refused(&image);
        assert!(matches!(error, Error::OldBytes { name: "key0", .. }), "{other:02x?}: {error}");
        image.image.arena.write(branches[0].at, &there);
    }
    // What a tool may have put there ahead of boot is the other direction.
    image.image.arena.write(branches[0].at, &image.bytes_of(branches[0], true));
    assert_eq!(apply(&image).unwrap().changed, 3);
    follow(&image, &branches);
}

/// A branch in a site of an op, and the other way round; in either order of the parts' records.
#[test]
fn a_branch_that_overlaps_a_site_is_refused() {
    for at in [0x1fc, 0x1ff, 0x203, 0x205] {
        let (mut image, _) = image();
        let branch = on_jumps(at, 0);
        image.image.arena.write(branch.at, &image.unpatched(branch));
        image.record(image.raw(branch));
        match refused(&image) {
            Error::Overlap { .. } | Error::OldBytes { .. } => {}
            error => panic!("{at:#x}: {error}"),
        }
        // A site of an op that begins in a branch.
        let (other, branches) = self::image();
        image = other;
        image.image.site(call(branches[3].at + 4, 0));
        match refused(&image) {
            Error::Overlap { .. } | Error::OldBytes { .. } => {}
            error => panic!("{error}"),
        }
    }
}

/// Two branches of which the second begins in the displacement of the first, each right by itself:
/// records that the linker did not sort.
#[test]
fn a_branch_in_the_displacement_of_another_is_refused() {
    for order in [[0, 1], [1, 0]] {
        let image = BranchImage::new(&[], &[true]);
        // e9 0f 1f 44 00: to 0x441f0f behind the branch; and the NOP begins in it.
        let target = 0x205 + 0x0044_1f0f;
        let outer = Branch { at: 0x200, key: 0, jumps_when_on: true, target };
        let inner = Branch { at: 0x201, key: 0, jumps_when_on: false, target: 0x300 };
        image.image.arena.write(0x200, &hex("e9 0f 1f 44 00 00"));
        assert_eq!(image.unpatched(outer), hex("e9 0f 1f 44 00"));
        assert_eq!(image.unpatched(inner), hex("0f 1f 44 00 00"));
        for index in order {
            image.record(image.raw([outer, inner][index]));
        }
        let error = refused(&image);
        assert!(matches!(error, Error::Overlap { name: "key0", .. }), "{order:?}: {error}");
    }
}

/// Two records of one branch that do not say the same. The NOP that stands there is right for both,
/// so text does not tell; and two keys, or two directions, would write to it one after the other.
#[test]
fn a_branch_that_is_there_twice_is_refused_unless_both_say_the_same() {
    let branch = on_jumps(0x300, 0);
    let others = [
        ("another key", Branch { key: 1, ..branch }, false),
        ("another direction", Branch { key: 2, jumps_when_on: false, ..branch }, false),
        ("another target", Branch { target: branch.target + 1, ..branch }, false),
        ("all the same", branch, true),
    ];
    for (what, other, is_right) in others {
        // The other record behind the first one, and far from it, so that they are not sorted.
        for neighbours in [[0, 1, 2, 3], [0, 2, 1, 3], [3, 1, 0, 2], [2, 0, 3, 1]] {
            let image = BranchImage::new(&[], &[false, false, true]);
            let all = [branch, other, on_jumps(0x200, 0), on_jumps(0x400, 1)];
            for index in neighbours {
                image.branch(all[index]);
            }
            if is_right {
                let report = change(&image, &mut [image.to(0, true)]).unwrap();
                assert_eq!((report.sites, report.changed), (4, 2), "{what}");
                follow(&image, &all);
            } else {
                let error = refused(&image);
                let (site, key) = (image.image.arena.address(branch.at), ["key0", "key1", "key2"]);
                assert!(
                    matches!(error, Error::Overlap { site: a, other: b, name, .. }
                        if a == site && b == site && key.contains(&name)),
                    "{what}, {neighbours:?}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_branch_that_two_front_ends_have_is_refused() {
    let (image, branches) = image();
    let parts = vec![image.source().part(), image.another_source().part()].leak();
    let set: &SiteSet<'_> = Box::leak(Box::new(SiteSet::new(parts)));
    let mut patcher = Patcher::new(set, image.image.second_mapping());
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    let site = image.image.arena.address(branches[0].at);
    assert!(
        matches!(error, Error::Overlap { site: a, other: b, .. } if a == site && b == site),
        "{error}"
    );
}

/// A failed write puts back what each branch held, also in branches that had their new bytes
/// already, and the change is undone.
#[test]
fn a_failed_write_is_undone_with_its_change() {
    /// Writes to `bad` go astray.
    struct Astray<'i>(&'i BranchImage, usize, Box<std::cell::UnsafeCell<[u8; 64]>>);
    // SAFETY: it breaks its contract, harmlessly: the other memory is its own.
    unsafe impl Platform for Astray<'_> {
        fn text(&self) -> std::ops::Range<usize> {
            self.0.image.text()
        }

        fn alias(&self, address: usize) -> *mut u8 {
            if address != self.1 {
                return self.0.image.second_mapping().alias(address);
            }
            let elsewhere = self.2.get().cast::<u8>();
            // SAFETY: five bytes that are its own; the site is readable.
            unsafe {
                let site: *const u8 = std::ptr::with_exposed_provenance(address);
                elsewhere.copy_from_nonoverlapping(site, 6);
            }
            elsewhere
        }
    }
    // What the other branches held before: what their key was patched for, or the original.
    for (key_0, reverted) in [(true, false), (false, false), (true, true)] {
        let (image, branches) = image();
        change(&image, &mut [image.to(0, key_0)]).unwrap();
        if reverted {
            let mut patcher = image.patcher(image.image.second_mapping());
            one_cpu(|cpu| patcher.revert(cpu)).unwrap();
        }
        let before = image.image.bytes();
        let bad = image.image.arena.address(branches[3].at);
        let platform = Astray(&image, bad, Box::new(std::cell::UnsafeCell::new([0; 64])));
        let mut patcher = Patcher::new(image.set(), platform);
        // In the wrong order, undoing leaves the key off.
        let mut changes = [image.to(1, false), image.to(1, false)];
        let error = one_cpu(|cpu| patcher.change(&mut changes, cpu)).unwrap_err();
        assert!(
            matches!(error, Error::ReadBack { name: "key1", site, .. } if site == bad),
            "{error}"
        );
        assert!(image.image.bytes() == before, "{key_0} {reverted}: {error}");
        assert_eq!([image.is_on(0), image.is_on(1)], [key_0, true]);
    }
}

/// What a test does next.
#[derive(Clone, Debug)]
enum Step {
    Change(Vec<(usize, bool)>),
    Apply,
    Revert,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let list = prop::collection::vec((0..4_usize, any::<bool>()), 0..4);
    let step = prop_oneof![
        4 => list.prop_map(Step::Change),
        1 => Just(Step::Apply),
        1 => Just(Step::Revert),
    ];
    prop::collection::vec(step, 1..8)
}

/// Branches one behind the other, with gaps, of four keys, in an order of their records.
fn program() -> impl Strategy<Value = (Vec<bool>, Vec<Branch>)> {
    let branch = (0..9_usize, 0..4_usize, any::<bool>(), 0x100..0x1f00_usize);
    let branches = prop::collection::vec(branch, 1..40).prop_map(|branches| {
        let mut end = 0x100;
        let placed = branches.into_iter().map(|(gap, key, jumps_when_on, target)| {
            let at = end + gap;
            end = at + 5;
            Branch { at, key, jumps_when_on, target }
        });
        placed.collect::<Vec<_>>()
    });
    let order = (branches, any::<bool>()).prop_flat_map(|(branches, shuffled)| match shuffled {
        true => Just(branches).prop_shuffle().boxed(),
        false => Just(branches).boxed(),
    });
    (prop::collection::vec(any::<bool>(), 4), order)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every byte of text, by the model: each branch has the direction of its key, or after a
    /// revert the one it started in.
    #[test]
    fn any_program_follows_its_keys(
        (starts_on, branches) in program(),
        steps in steps(),
        writer in 0..3_usize,
    ) {
        let mut image = BranchImage::new(&[Some(&[0xfa])], &starts_on);
        image.image.site(call(0x1000, 0));
        for &branch in &branches {
            image.branch(branch);
        }
        let mut expected = image.image.bytes();
        let mut keys = starts_on.clone();
        for step in steps {
            let changed = match &step {
                Step::Change(list) => {
                    let mut changes: Vec<_> =
                        list.iter().map(|&(key, on)| image.to(key, on)).collect();
                    WRITERS[writer].1(&image, &mut changes).unwrap().changed
                }
                Step::Apply => apply(&image).unwrap().changed,
                Step::Revert => {
                    let mut patcher = image.patcher(image.image.second_mapping());
                    one_cpu(|cpu| patcher.revert(cpu)).unwrap().changed
                }
            };
            if let Step::Change(list) = &step {
                list.iter().for_each(|&(key, on)| keys[key] = on);
            }
            let reverted = matches!(step, Step::Revert);
            let before = expected.clone();
            for &branch in &branches {
                let is_on = if reverted { starts_on[branch.key] } else { keys[branch.key] };
                expected[branch.at..branch.at + 5].copy_from_slice(&image.bytes_of(branch, is_on));
            }
            let op: Vec<u8> = match reverted {
                true => image.image.unpatched(call(0x1000, 0)),
                false => hex("fa 0f 1f 44 00 00"),
            };
            expected[0x1000..0x1006].copy_from_slice(&op);
            let sites = branches.iter().map(|branch| branch.at..branch.at + 5).chain(std::iter::once(0x1000..0x1006));
            let wanted = sites.filter(|site| before[site.clone()] != expected[site.clone()]).count();
            prop_assert_eq!(changed, wanted, "{:?}", step);
            prop_assert!(image.image.bytes()[..0x2000] == expected[..0x2000], "{:?}", step);
        }
    }
}
