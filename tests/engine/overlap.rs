//! Overlapping sites whose bytes are all right: text holds what each of the two records says, so
//! that nothing but the overlap is wrong. And records in any order, in which nothing is wrong.

use patchlet::live::{Int3, Live, Rendezvous, StopOthers, Synchronize};
use patchlet::ops::Target;
use patchlet::text::Part;
use patchlet::{Error, Kind, Patcher, SiteSet};
use proptest::prelude::*;

use crate::branch_image::{Branch, BranchImage};
use crate::image::{Image, Site, call, jump};
use crate::platforms::{Recorder, one_cpu};

/// Applies, which is to be refused before anything is written.
#[track_caller]
fn refused(image: &Image) -> Error {
    let before = image.bytes();
    let recorder = Recorder::new(image);
    let log = recorder.log.clone();
    let error = one_cpu(|cpu| image.patcher(recorder).apply(cpu)).unwrap_err();
    assert!(image.bytes() == before && log.borrow().is_empty());
    error
}

#[track_caller]
fn overlap(image: &Image, index: usize, at: usize, other: usize) {
    let [site, other] = [at, other].map(|at| image.arena.address(at));
    match refused(image) {
        Error::Overlap { index: found, site: at, other: of, .. } => {
            assert_eq!((found, at, of), (index, site, other));
        }
        error => panic!("{error}"),
    }
}

/// `call *slot` in the operand of `call *slot`: the last byte of a short way back is `ff`.
#[cfg(target_pointer_width = "64")]
#[test]
fn an_unpatched_site_in_the_operand_of_another() {
    use patchlet::ops::__private::Slot;
    let arena = crate::arena::Arena::low();
    let ops = Image::new(&[Some(&[0xfa])]).table.ops();
    let at = arena.pointer(0x40).cast::<Slot>();
    // SAFETY: aligned, in the arena, which stays; the bytes are written again below.
    let slots = unsafe {
        at.write(Slot::new(ops[0].native()));
        std::slice::from_raw_parts(at, 1)
    };
    // SAFETY: nobody calls what these slots hold.
    let table = Box::leak(Box::new(unsafe { patchlet::ops::Table::new(ops, slots) }));
    for is_sorted in [true, false] {
        let mut image = Image::over(arena, table, at.addr());
        image.set(0, ops[0].native());
        if !is_sorted {
            image.site(call(0x1000, 0));
        }
        let first = image.sites().records().len();
        // The first ends where the second one's opcode ends.
        image.site(call(0x305, 0));
        let outer = image.unpatched(call(0x300, 0));
        assert_eq!(outer[5], 0xff);
        image.arena.write(0x300, &outer);
        assert_eq!(image.at(0x305, 2), [0xff, 0x15], "both are as the assembler writes them");
        image.record(image.raw(call(0x300, 0)));
        overlap(&image, first + 1, 0x300, 0x305);
    }
}

/// A branch in the operand of one that jumps: both hold what the assembler writes. The inner one is a
/// NOP that begins at the last byte of the outer one, or a jump at its second. Its record is found
/// wherever it stands among those of other branches.
#[test]
fn an_unpatched_branch_in_the_operand_of_another() {
    let nop = |at| Branch { at, key: 0, jumps_when_on: true, target: 0x1800 };
    let jump = |at, target| Branch { jumps_when_on: false, target, ..nop(at) };
    let pairs = [
        (jump(0x300, 0x305 + 0x0f00_0000), nop(0x304)),
        (jump(0x300, 0x305 + 0xe9), jump(0x301, 0x306)),
    ];
    let others = (0..9).flat_map(|before| (0..9).map(move |behind| (before, behind)));
    for ((before, behind), (outer, inner)) in
        others.flat_map(|others| pairs.map(|pair| (others, pair)))
    {
        let image = BranchImage::new(&[], &[false]);
        (0..before).for_each(|number| image.branch(nop(0x200 + 8 * number)));
        image.branch(outer);
        image.branch(inner);
        (0..behind).for_each(|number| image.branch(nop(0x400 + 8 * number)));
        assert_eq!(image.image.at(outer.at, 5), image.unpatched(outer));
        let mut patcher = image.patcher(image.image.second_mapping());
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        let [site, other] = [inner.at, outer.at].map(|at| image.image.arena.address(at));
        assert!(
            matches!(error, Error::Overlap { index, site: found, other: of, .. }
                if (index, found, of) == (before + 1, site, other)),
            "{before} {behind}: {error}"
        );
    }
}

/// An op's site in the operand of a branch that jumps: its slot is named by a distance, or on 32 bit by
/// an address.
#[test]
fn an_unpatched_site_in_the_operand_of_a_branch() {
    let mut image = BranchImage::new(&[Some(&[0xfa])], &[false]);
    let target = 0x305 + 0x15ff_0000;
    let outer = Branch { at: 0x300, key: 0, jumps_when_on: false, target };
    image.branch(outer);
    image.image.site(call(0x303, 0));
    assert_eq!(image.image.at(0x300, 5), image.unpatched(outer));
    let mut patcher = image.patcher(image.image.second_mapping());
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    let [site, other] = [0x300, 0x303].map(|at| image.image.arena.address(at));
    assert!(
        matches!(error, Error::Overlap { site: found, other: of, .. } if (found, of) == (site, other)),
        "{error}"
    );
}

/// A site that a tool has patched ahead of boot, in the operand of another: the second op's
/// patchlet is what the operand of a call through the first op's slot is.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_patched_site_in_the_operand_of_another() {
    // The distance from a site to its slot is the same in each arena.
    let operand = Image::new(&[None, None]).unpatched(call(0x300, 0))[2..].to_vec();
    // It keeps what it holds, or is to get something else.
    for (is_sorted, keeps) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut image = Image::new(&[None, Some(&operand)]);
        if !keeps {
            image.set(1, Target::NOP);
        }
        if !is_sorted {
            image.site(call(0x1000, 1));
        }
        let first = image.sites().records().len();
        image.site(call(0x300, 0));
        image.arena.write(0x306, &[0x66, 0x90]);
        image.record(image.raw(call(0x302, 1)));
        overlap(&image, first + 1, 0x302, 0x300);
    }
}

/// The same by a site that was patched at boot, before anything was known of the other one. That is
/// to get something else now.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_site_that_was_patched_before_in_the_operand_of_another() {
    let operand = Image::new(&[None, None]).unpatched(call(0x300, 0))[2..].to_vec();
    let mut image = Image::new(&[None, Some(&operand)]);
    image.site(call(0x302, 1));
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
    image.arena.write(0x300, &[0xff, 0x15]);
    assert_eq!(image.at(0x300, 6), image.unpatched(call(0x300, 0)));
    image.record(image.raw(call(0x300, 0)));
    image.set(1, Target::NOP);
    overlap(&image, 1, 0x300, 0x302);
}

/// The same call with more room, where the assembler's padding could be: the record of six bytes
/// and that of eight are right, each by itself.
#[test]
fn a_longer_site_at_the_same_address() {
    for (first, second) in [(6, 8), (8, 6)] {
        let mut image = Image::new(&[Some(&[0xfa])]);
        image.site(call(0x1000, 0));
        image.site(Site { capacity: 8, ..call(0x300, 0) });
        image.truncate(12);
        for capacity in [first, second] {
            image.record(image.raw(Site { capacity, ..call(0x300, 0) }));
        }
        overlap(&image, 2, 0x300, 0x300);
    }
}

/// A set is checked once: neither records nor text move. So a table in any order costs nothing
/// more when it is patched again, and what looks like the beginning of a site by then is not
/// looked at.
#[test]
fn what_was_checked_is_not_checked_again() {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    for site in [call(0x1000, 0), jump(0x300, 1), Site { capacity: 32, ..call(0x200, 0) }] {
        image.site(site);
    }
    let set = image.site_set();
    let mut patcher = patchlet::Patcher::new(set, image.second_mapping());
    for held in [None, Some(Target::NOP), Some(Target::NULL), None] {
        image.set(0, held.unwrap_or(image.table.ops()[0].native()));
        assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().sites, 3);
    }
    // A set that never was, of the same sites in whatever state they are, finds the same.
    for held in [Some(Target::NOP), Some(Target::NULL), None] {
        image.set(0, held.unwrap_or(image.table.ops()[0].native()));
        assert_eq!(
            one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap().sites,
            3
        );
    }
}

/// Places of sites, one behind the other, and an order of their records.
fn shuffled() -> impl Strategy<Value = Vec<Site>> {
    let site = (0_usize..4, 6_u8..=32, any::<bool>(), 0_usize..3);
    prop::collection::vec(site, 1..100)
        .prop_map(|sites| {
            let mut at = 0x100;
            let placed = sites.into_iter().map(|(gap, capacity, is_jump, op)| {
                let kind = if is_jump { Kind::Jump } else { Kind::Call };
                let site = Site { at: at + gap, capacity, kind, op };
                at = site.at + usize::from(capacity);
                site
            });
            placed.filter(|site| site.at + usize::from(site.capacity) <= 0x1f00).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// In any order, some records there twice: nothing is wrong, and what is written once is
    /// counted once.
    #[test]
    fn any_order_is_accepted(sites in shuffled(), twice in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[0x9c, 0x58])]);
        for &site in &sites {
            image.site(site);
        }
        for index in &twice {
            image.record(image.raw(*index.get(&sites)));
        }
        let report = one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
        prop_assert_eq!((report.sites, report.changed), (sites.len() + twice.len(), sites.len()));
        let report = one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
        prop_assert_eq!(report.changed, sites.len());
    }

    /// One more record, of a site that shares a byte with another: refused, by whatever is found
    /// first.
    #[test]
    fn any_overlap_is_refused(sites in shuffled(), other in any::<prop::sample::Index>(), shift in 1_usize..32, place in any::<prop::sample::Index>()) {
        let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[0x9c, 0x58])]);
        for &site in &sites {
            image.site(site);
        }
        let other = *other.get(&sites);
        let at = other.at + 1 + shift % (usize::from(other.capacity) - 1);
        let site = Site { at, capacity: 6, ..*place.get(&sites) };
        prop_assume!(at + 6 <= 0x1f00);
        image.site(site);
        match refused(&image) {
            Error::Overlap { site: found, other, .. } => prop_assert!(found.abs_diff(other) < 32),
            // The bytes of the outer one are overwritten.
            Error::OldBytes { .. } => {}
            error => prop_assert!(false, "{}", error),
        }
    }
}

/// Two front ends ask the slots one after the other, and a slot may be set in between. If both had
/// the same site, it would get the tail that one wants and the first byte that the other wants.
#[test]
fn one_site_has_one_front_end() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    // In order, and not.
    for at in [[0x300, 0x400], [0x400, 0x300]] {
        image.truncate(0);
        for at in at {
            image.site(call(at, 0));
        }
        let [one, two] = [(); 2].map(|()| crate::image::source(image.table));
        // SAFETY: each front end has its part only.
        let parts = unsafe { [Part::new(image.sites(), one), Part::new(image.sites(), two)] };
        let set = SiteSet::new(&parts);
        let mut patcher = Patcher::new(&set, image.second_mapping());
        let before = image.bytes();
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        assert!(matches!(error, Error::Overlap { .. }), "{error}");
        assert!(image.bytes() == before);
    }
}

/// The same, where each front end is that of a set.
#[test]
fn one_site_has_one_set() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x300, 0));
    image.site(call(0x400, 0));
    let source = || crate::image::source(image.table);
    let sets = [(); 2].map(|()| crate::image::leak_set(image.sites(), source()));
    let live = Live::new(&sets);
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::new(&live, image.second_mapping(), Nobody) };
    let before = image.bytes();
    let error = int3.apply().unwrap_err();
    assert!(matches!(error, Error::Overlap { .. }), "{error}");
    assert!(image.bytes() == before);
}

/// Of two sets in one batch, whatever the order of their records: the addresses that a set spans
/// are those of all its sites.
#[test]
fn sites_of_two_sets() {
    let orders: [[usize; 3]; 4] = [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]];
    for (place, order) in (0..3).flat_map(|place| orders.map(|order| (place, order))) {
        let mut image = Image::new(&[Some(&[0xfa])]);
        // The same call with more room: bytes that both records may have.
        let at = [0x300, 0x400, 0x500];
        image.site(Site { capacity: 8, ..call(at[place], 0) });
        for index in order.into_iter().filter(|&index| index != place) {
            image.site(call(at[index], 0));
        }
        // The record that was first comes where the order has it.
        let position = order.iter().position(|&index| index == place).unwrap();
        let mut raws: Vec<_> = order.map(|index| image.raw(call(at[index], 0))).into();
        raws[position].capacity = 8;
        image.truncate(0);
        for raw in raws {
            image.record(raw);
        }
        image.record(image.raw(call(at[place], 0)));
        let [one, two] = [0..3, 3..usize::MAX].map(|positions| {
            let sites = image.sites().part(positions);
            crate::image::leak_set(sites, crate::image::source(image.table))
        });
        for sets in [[one, two], [two, one]] {
            let live = Live::new(&sets);
            // SAFETY: nobody executes an arena.
            let mut int3 = unsafe { Int3::new(&live, image.second_mapping(), Nobody) };
            // SAFETY: as above.
            let mut rendezvous = unsafe { Rendezvous::new(&live, image.second_mapping(), Nobody) };
            for error in [int3.apply(), rendezvous.apply()].map(Result::unwrap_err) {
                assert!(matches!(error, Error::Overlap { .. }), "{place} {order:?}: {error}");
            }
        }
    }
}

struct Nobody;

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Nobody {
    fn sync_all(&self) {}
}

// SAFETY: as above.
unsafe impl StopOthers for Nobody {
    fn stop_others<R>(&self, _: impl FnOnce() -> R) -> R {
        panic!("stopped, and nothing is to be written")
    }
}
