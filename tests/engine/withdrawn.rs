//! Code that is freed after boot: its text is a piece of its own, and its sites are withdrawn
//! before somebody else gets the memory, which is not to be read or written any more.

use patchlet::live::{Handled, Live, Rendezvous, StopOthers, TrapFrame};
use patchlet::ops::Target;
use patchlet::{Error, Goal, Patcher, Platform, SecondMapping, SiteSet};

use crate::image::{Image, Raw, Site, call, jump};
use crate::model::hex;
use crate::platforms::one_cpu;

/// What stays is on the first page of the arena, what is freed on the second.
fn image() -> Image {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    for site in [
        call(0x200, 0),
        call(0x1100, 0),
        jump(0x1200, 1),
        Site { capacity: 32, ..call(0x1300, 0) },
        jump(0x300, 1),
    ] {
        image.site(site);
    }
    image
}

/// Text in two pieces, with a hole between them.
fn in_two_pieces(image: &Image) -> SecondMapping {
    let [start, end, init, init_end] =
        [0x100, 0x800, 0x1000, 0x1f00].map(|at| image.arena.address(at));
    // SAFETY: the arena is mapped twice.
    unsafe {
        SecondMapping::new(start..end, image.arena.alias_offset()).with_init_text(init..init_end)
    }
}

fn free(image: &Image, set: &SiteSet<'_>) {
    let init = image.arena.address(0x1000)..image.arena.address(0x2000);
    // SAFETY: nobody executes an arena, and nobody patches meanwhile.
    assert!(unsafe { set.withdraw(init) });
    image.arena.take_second_page();
}

#[test]
fn text_in_two_pieces() {
    let image = image();
    let before = image.bytes();
    let mut patcher = image.patcher(in_two_pieces(&image));
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().changed, 5);
    assert_eq!(image.at(0x1100, 6), hex("fa 0f 1f 44 00 00"));
    assert_eq!(one_cpu(|cpu| patcher.revert(cpu)).unwrap().changed, 5);
    assert!(image.bytes()[..0x2000] == before[..0x2000]);
}

#[test]
fn a_site_in_the_hole_or_across_an_edge_is_outside() {
    for at in [0x7fb, 0x900, 0xffb, 0x1efb] {
        let mut image = image();
        image.site(call(at, 0));
        let mut patcher = image.patcher(in_two_pieces(&image));
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        let site = image.arena.address(at);
        assert!(
            matches!(error, Error::OutsideText { site: found, .. } if found == site),
            "{error}"
        );
    }
}

#[test]
fn withdrawn_sites_are_neither_read_nor_written() {
    let image = image();
    let set = image.site_set();
    let mut patcher = Patcher::new(set, in_two_pieces(&image));
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().withdrawn, 0);
    free(&image, set);
    image.set(0, Target::NOP);
    let plan = patcher.plan(Goal::Patched).unwrap();
    assert_eq!(plan.outcomes().count(), 2);
    assert_eq!((plan.report().sites, plan.report().withdrawn), (2, 3));
    let report = one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    assert_eq!((report.sites, report.changed, report.withdrawn), (2, 1, 3));
    assert_eq!(report.to_string(), "2 sites, 1 changed: 1 direct jump, 1 NOPs, 3 withdrawn");
    assert_eq!(image.read(0x200, 6), hex("66 0f 1f 44 00 00"));
    let report = one_cpu(|cpu| patcher.revert(cpu)).unwrap();
    assert_eq!((report.indirect, report.withdrawn), (2, 3));
}

struct Alone;

// SAFETY: nobody executes an arena.
unsafe impl StopOthers for Alone {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        write()
    }
}

struct Frame(usize);

// SAFETY: a trap that nobody took.
unsafe impl TrapFrame for Frame {
    fn ip(&self) -> usize {
        self.0
    }

    fn set_ip(&mut self, _: usize) {
        panic!("not the protocol's");
    }

    fn push(&mut self, _: usize) {
        panic!("not the protocol's");
    }
}

#[test]
fn live_switches_leave_them_out_and_the_hook_does_not_answer_for_them() {
    let image = image();
    let set = image.site_set();
    let sets = [set];
    let live = Live::new(&sets);
    let mut patcher = Patcher::new(set, in_two_pieces(&image));
    one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    free(&image, set);
    image.set(0, Target::NULL);
    // SAFETY: nobody executes an arena.
    let mut rendezvous = unsafe { Rendezvous::new(&live, in_two_pieces(&image), Alone) };
    let report = rendezvous.apply().unwrap();
    assert_eq!((report.changed, report.traps, report.withdrawn), (1, 1, 3));
    // The page is gone: to look at the byte there would be a fault.
    assert_eq!(live.handle(&mut Frame(image.arena.address(0x1100) + 1)), Handled::No);
}

#[test]
fn a_set_remembers_four_ranges() {
    let set = image().site_set();
    let ranges = [0x10..0x20, 0x40..0x50, 0x60..0x70, 0x80..0x90];
    for range in ranges.clone() {
        assert!(!set.is_withdrawn(range.start));
        // SAFETY: there is nothing.
        assert!(unsafe { set.withdraw(range) });
    }
    // SAFETY: as above.
    assert!(!unsafe { set.withdraw(0x100..0x200) });
    for address in 0..0x200 {
        let expected = ranges.iter().any(|range| range.contains(&address));
        assert_eq!(set.is_withdrawn(address), expected, "{address:#x}");
    }
}

/// A module may be loaded where code was that is gone: the sites of both begin at other addresses,
/// and those that were withdrawn overlap nothing any more.
#[test]
fn what_is_loaded_where_code_was_freed_overlaps_nothing() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x200, 0));
    image.site(call(0x1100, 0));
    let kernel = image.site_set();
    // SAFETY: nobody executes an arena, and nobody patches meanwhile.
    assert!(unsafe { kernel.withdraw(image.arena.address(0x1000)..image.arena.address(0x2000)) });
    // The module's text.
    let first = image.sites().records().len();
    image.site(call(0x1103, 0));
    image.site(call(0x300, 0));
    let sites = image.sites().part(first..usize::MAX);
    let module = crate::image::leak_set(sites, crate::image::source(image.table));
    for sets in [[kernel, module], [module, kernel]] {
        image.set(0, Target::NOP);
        let live = Live::new(&sets);
        // SAFETY: nobody executes an arena.
        let mut rendezvous = unsafe { Rendezvous::new(&live, image.second_mapping(), Alone) };
        let report = rendezvous.apply().unwrap();
        assert_eq!((report.sites, report.changed, report.withdrawn), (3, 3, 1));
        rendezvous.revert().unwrap();
    }
}

/// In one set as well: the record that was withdrawn says nothing any more.
#[test]
fn a_withdrawn_site_overlaps_none_of_its_set() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x1100, 0));
    image.site(call(0x10fb, 0));
    let set = image.site_set();
    // SAFETY: nobody executes an arena, and nobody patches meanwhile.
    assert!(unsafe { set.withdraw(image.arena.address(0x1100)..image.arena.address(0x1200)) });
    // Patched ahead of boot: all records are searched for such a site.
    image.arena.write(0x10fb, &hex("fa 0f 1f 44 00 00"));
    let mut patcher = Patcher::new(set, image.second_mapping());
    let report = one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    assert_eq!((report.sites, report.withdrawn), (1, 1));
}

/// The search for sites inside others looks some bytes behind a site, and not into text that is
/// gone. It comes once, so the sites are withdrawn before they were ever patched.
#[test]
fn nothing_is_read_behind_a_site_in_front_of_freed_text() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x1100, 0));
    image.site(call(0xff0, 0));
    // With an opening in its padding's place, the front end is asked and shown what follows.
    image.site(call(0xffa, 0));
    let set = image.site_set();
    free(&image, set);
    // All text is one piece.
    let mut patcher = Patcher::new(set, image.second_mapping());
    let report = one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    assert_eq!((report.sites, report.changed, report.withdrawn), (2, 2, 1));
}

/// A platform that knows the aliases of text that is there, and no other ones.
struct Strict<'i>(&'i Image);

// SAFETY: the arena is mapped twice.
unsafe impl Platform for Strict<'_> {
    fn text(&self) -> std::ops::Range<usize> {
        self.0.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        assert!(address < self.0.arena.address(0x1000), "asked for the alias of freed text");
        self.0.second_mapping().alias(address)
    }
}

#[test]
fn no_alias_of_freed_text_is_asked_for() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    for number in 0..40 {
        image.site(call(0x200 + 8 * number, 0));
    }
    for number in 0..40 {
        image.site(call(0x1200 + 8 * number, 0));
    }
    let set = image.site_set();
    free(&image, set);
    let mut patcher = Patcher::new(set, Strict(&image));
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().changed, 40);
}

/// A platform that leads the writes to one site elsewhere.
struct Astray<'i> {
    image: &'i Image,
    bad: usize,
    copy: Vec<u8>,
}

// SAFETY: it does not keep to the contract, which is the point; the copy is memory of this test.
unsafe impl Platform for Astray<'_> {
    fn text(&self) -> std::ops::Range<usize> {
        self.image.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        if address == self.bad {
            return self.copy.as_ptr().cast_mut();
        }
        self.image.second_mapping().alias(address)
    }
}

#[test]
fn putting_back_leaves_them_out() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    // Two of them, so that who counts them would put too few of the others back.
    for at in [0x200, 0x1100, 0x1180, 0x280, 0x300] {
        image.site(call(at, 0));
    }
    let copy = image.at(0x300, 6);
    let before = [0x200, 0x280, 0x300].map(|at| image.at(at, 6));
    let set = image.site_set();
    free(&image, set);
    let platform = Astray { image: &image, bad: image.arena.address(0x300), copy };
    let mut patcher = Patcher::new(set, platform);
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    assert!(matches!(error, Error::ReadBack { .. }), "{error}");
    assert!([0x200, 0x280, 0x300].map(|at| image.read(at, 6)) == before);
}

/// Records of text that is gone may say anything; and the last address of all is one as well.
#[test]
fn sites_at_both_ends_of_the_address_space() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x200, 0));
    let raw = image.raw(call(0x200, 0));
    let odd = [usize::MAX, usize::MAX - 3, usize::MAX - 6, 0, 1, 5];
    for site in odd {
        image.record(Raw { site, ..raw });
    }
    for site in odd {
        image.record(Raw { site, capacity: 255, kind: 9, op: 77, ..raw });
    }
    image.site(call(0x210, 0));
    let set = image.site_set();
    let sets = [set];
    let live = Live::new(&sets);
    // None of these is text.
    let mut patcher = Patcher::new(set, image.second_mapping());
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    assert!(matches!(error, Error::OutsideText { index: 1, .. }), "{error}");
    for range in [usize::MAX - 16..usize::MAX, 0..16] {
        // SAFETY: there is nothing.
        assert!(unsafe { set.withdraw(range) });
    }
    // A range ends before the last address.
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    assert!(matches!(error, Error::OutsideText { site: usize::MAX, .. }), "{error}");
    // The hook looks at what a CPU executed, so not at the last one.
    for site in &odd[1..] {
        assert_eq!(live.handle(&mut Frame(site.wrapping_add(1))), Handled::No);
    }
}
