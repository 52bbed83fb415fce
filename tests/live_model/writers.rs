//! The writers: how often they synchronize, what they do about each other, and
//! what is in text after an error.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use patchlet::live::{
    BatchStep, Handled, INT3, Int3, Live, LivePlatform, Rendezvous, StopOthers, Synchronize,
    TrapFrame,
};
use patchlet::ops::Target;
use patchlet::{Error, Platform, SecondMapping};

use crate::image::{Image, Site, call, target};

/// Counts synchronizations.
#[derive(Debug, Default)]
pub struct Count(pub Cell<usize>);

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for &Count {
    fn sync_all(&self) {
        self.0.set(self.0.get() + 1);
    }
}

pub fn sites(count: usize) -> Vec<Site> {
    (0..count).map(|index| call(0x200 + 8 * index, 0)).collect()
}

pub fn image(sites: &[Site]) -> Image {
    let mut image = Image::new(&[None]);
    sites.iter().for_each(|&site| image.site(site));
    image
}

#[test]
fn three_synchronizations_whatever_the_number_of_sites() {
    for count in [1, 2, 16, 256] {
        let image = image(&sites(count));
        let live = image.live();
        let synced = Count::default();
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::new(live, image.second_mapping(), &synced) };
        assert_eq!(int3.apply().unwrap().changed, count);
        assert_eq!(synced.0.take(), 3, "{count} sites");
        assert_eq!(int3.apply().unwrap().changed, 0);
        assert_eq!(synced.0.take(), 0, "nothing to do");
    }
}

/// Another writer, whatever it is and whoever asks: an error, at once.
#[test]
fn a_second_writer_is_answered_by_an_error() {
    struct Reentrant<'l>(&'l Live<'l>, SecondMapping);
    impl Reentrant<'_> {
        fn all_are_busy(&self) {
            let Self(live, platform) = self;
            let busy = Err(Error::Busy);
            // SAFETY: nobody executes an arena.
            unsafe {
                let mut int3 = Int3::new(live, platform.clone(), Stopped);
                assert_eq!((int3.apply(), int3.revert()), (busy, busy));
                let mut all = Int3::with_nobody_inside(live, platform.clone(), Stopped);
                assert_eq!((all.apply(), all.revert()), (busy, busy));
                let mut rendezvous = Rendezvous::new(live, platform.clone(), Stopped);
                assert_eq!((rendezvous.apply(), rendezvous.revert()), (busy, busy));
            }
        }
    }
    // SAFETY: nobody executes an arena.
    unsafe impl Synchronize for Reentrant<'_> {
        fn sync_all(&self) {
            self.all_are_busy();
            std::thread::scope(|scope| {
                let (live, platform) = (self.0, self.1.clone());
                scope.spawn(move || Reentrant(live, platform).all_are_busy());
            });
        }
    }
    // SAFETY: nobody executes an arena.
    unsafe impl StopOthers for Reentrant<'_> {
        fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
            self.all_are_busy();
            write()
        }
    }

    let image = image(&sites(3));
    let live = image.live();
    let reentrant = || Reentrant(live, image.second_mapping());
    // SAFETY: nobody executes an arena.
    unsafe {
        let mut int3 = Int3::new(live, image.second_mapping(), reentrant());
        assert_eq!(int3.apply().unwrap().changed, 3);
        image.set(0, target(image.arena.address(0x9000)));
        assert_eq!(int3.apply().unwrap().changed, 3);
        let mut rendezvous = Rendezvous::new(live, image.second_mapping(), reentrant());
        assert_eq!(rendezvous.revert().unwrap().changed, 3);
        assert_eq!(rendezvous.apply().unwrap().changed, 3);
    }
}

/// What a linker leaves that folds functions of the same code.
#[test]
fn a_record_that_is_there_twice_is_switched_once() {
    let all = sites(3);
    let mut image = image(&all);
    image.record(image.raw(all[1]));
    let before = image.bytes();
    let live = image.live();
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, image.second_mapping(), &synced) };
    assert_eq!(int3.apply().unwrap().sites, 4);
    for site in &all {
        assert_ne!(image.at(site.at, 6), before[site.at..site.at + 6]);
        assert_ne!(image.at(site.at, 1), [INT3]);
    }
    assert_eq!(int3.revert().unwrap().indirect, 4);
    assert!(image.bytes()[..0x2000] == before[..0x2000]);
    assert_eq!(synced.0.take(), 6);
}

/// Never to be called.
struct Stopped;

// SAFETY: it stops before anything happens.
unsafe impl Synchronize for Stopped {
    fn sync_all(&self) {
        panic!("synchronized");
    }

    fn between_steps(&self, step: BatchStep) {
        panic!("got to {step:?}");
    }
}

// SAFETY: as above.
unsafe impl StopOthers for Stopped {
    fn stop_others<R>(&self, _: impl FnOnce() -> R) -> R {
        panic!("stopped the others");
    }
}

#[test]
fn an_error_comes_before_the_first_write_and_the_next_writer_may_try() {
    let all = sites(3);
    let image = image(&all);
    let live = image.live();
    let platform = image.second_mapping();
    // SAFETY: nobody executes an arena.
    let (mut int3, mut rendezvous) = unsafe {
        (
            Int3::new(live, platform.clone(), Stopped),
            Rendezvous::new(live, platform.clone(), Stopped),
        )
    };

    // Out of reach, which the boot patcher would find, too.
    #[cfg(target_pointer_width = "64")]
    {
        let before = image.bytes();
        image.set(0, target(0x7000_0000_0000));
        let errors = (int3.apply(), rendezvous.apply());
        assert!(matches!(errors, (Err(Error::Compose { .. }), Err(Error::Compose { .. }))));
        image.set(0, image.table.ops()[0].native());
        assert!(image.bytes() == before);
    }

    // Somebody else's bytes in the last site.
    let before = image.bytes();
    image.arena.write(all[2].at, &[0x0f]);
    assert!(matches!(int3.apply(), Err(Error::OldBytes { .. })));
    assert!(matches!(rendezvous.apply(), Err(Error::OldBytes { .. })));
    image.arena.write(all[2].at, &[0xff]);
    assert!(image.bytes() == before);

    // An alias that is none.
    let before = image.bytes();
    // SAFETY: the whole arena is writable at its own address.
    let shifted = unsafe { SecondMapping::new(platform.text(), 0x40) };
    // SAFETY: nobody executes an arena.
    let result = unsafe { Int3::new(live, shifted, Stopped) }.apply();
    assert!(matches!(result, Err(Error::Alias { .. })), "{result:?}");
    assert!(image.bytes() == before);

    // A direct call that a thread may be inside.
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut works = unsafe { Int3::new(live, platform, &synced) };
    works.apply().unwrap();
    let before = image.bytes();
    let site = image.arena.address(all[0].at);
    match int3.revert() {
        Err(Error::ThreadInside { site: named, name: "op0", boundary: 5, old, new }) => {
            assert_eq!(named, site);
            assert_eq!(old.bytes(), image.at(all[0].at, 6));
            assert_eq!(new.bytes(), image.unpatched(all[0]));
        }
        other => panic!("{other:?}"),
    }
    assert!(image.bytes() == before);
    image.set(0, target(image.arena.address(0x9000)));
    assert_eq!(works.apply().unwrap().changed, 3);
}

/// An alias that turns into another page's after some uses.
struct Drifting {
    image: SecondMapping,
    good: Cell<usize>,
    trash: RefCell<Box<[u8; 4096]>>,
}

// SAFETY: it breaks its contract, harmlessly: the other page is ours.
unsafe impl Platform for Drifting {
    fn text(&self) -> Range<usize> {
        self.image.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        match self.good.get().checked_sub(1) {
            Some(left) => {
                self.good.set(left);
                self.image.alias(address)
            }
            None => self.trash.borrow_mut().as_mut_ptr(),
        }
    }
}

// SAFETY: as above.
unsafe impl LivePlatform for Drifting {}

/// A frame at a site.
struct At(usize);

// SAFETY: nobody returns from it.
unsafe impl TrapFrame for At {
    fn ip(&self) -> usize {
        self.0 + 1
    }
    fn set_ip(&mut self, _: usize) {}
    fn push(&mut self, _: usize) {}
}

/// The platform breaks its contract at each of its uses in turn. While the tails
/// are the old ones, everything is put back. Later the INT3s stay, and the hook
/// goes on answering for them.
#[test]
fn a_platform_that_breaks_its_contract() {
    let all = sites(3);
    let (mut put_back, mut left) = (0, 0);
    // 3 to validate, 3 INT3s, 3 tails, 3 first bytes.
    for good in 3..12 {
        let image = image(&all);
        let live = image.live();
        let synced = Count::default();
        let before = image.bytes();
        let drifting = || Drifting {
            image: image.second_mapping(),
            good: Cell::new(good),
            trash: RefCell::new(Box::new([0; 4096])),
        };
        // SAFETY: nobody executes an arena.
        let result = unsafe { Int3::new(live, drifting(), &synced) }.apply();
        assert!(matches!(result, Err(Error::ReadBack { .. })), "{good}: {result:?}");
        let after = image.bytes();
        // SAFETY: nobody executes an arena.
        let mut next = unsafe { Int3::new(live, image.second_mapping(), &synced) };
        if good == 3 {
            assert!(after == before, "nothing could be written");
            assert_eq!(next.apply().unwrap().changed, 3);
            put_back += 1;
            continue;
        }
        // What it can no longer write it cannot put back either.
        assert_eq!(next.apply(), Err(Error::Busy), "{good}");
        let mut int3s = 0;
        for site in &all {
            if after[site.at] == INT3 {
                int3s += 1;
                let mut frame = At(image.arena.address(site.at));
                assert_eq!(live.handle(&mut frame), Handled::Yes, "{good}");
            }
        }
        assert!(int3s > 0);
        left += 1;
    }
    assert_eq!((put_back, left), (1, 8));
}

/// Sites that hold already what they get are not written, and not even looked for at
/// their aliases.
#[test]
fn what_does_not_change_is_not_written() {
    struct Except(SecondMapping, usize);
    // SAFETY: it is the second mapping.
    unsafe impl Platform for Except {
        fn text(&self) -> Range<usize> {
            self.0.text()
        }

        fn alias(&self, address: usize) -> *mut u8 {
            assert_ne!(address, self.1);
            self.0.alias(address)
        }
    }
    // SAFETY: as above.
    unsafe impl LivePlatform for Except {}

    for capacity in [6, 9] {
        let mut image = Image::new(&[None, None]);
        image.site(Site { capacity, ..call(0x200, 0) });
        image.site(call(0x300, 1));
        let live = image.live();
        let synced = Count::default();
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::with_nobody_inside(live, image.second_mapping(), &synced) };
        assert_eq!(int3.apply().unwrap().changed, 2);
        image.set(1, target(image.arena.address(0x7000)));
        let except = Except(image.second_mapping(), image.arena.address(0x200));
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::with_nobody_inside(live, except, &synced) };
        assert_eq!(int3.apply().unwrap().changed, 1);
    }
}

/// The order of the rendezvous: validated before, written and serialized within.
#[test]
fn the_rendezvous_writes_while_the_others_are_stopped() {
    struct Watch<'i>(&'i Image, &'i RefCell<Vec<(&'static str, Vec<u8>)>>);
    impl Watch<'_> {
        fn note(&self, what: &'static str) {
            self.1.borrow_mut().push((what, self.0.bytes()));
        }
    }
    // SAFETY: nobody executes an arena.
    unsafe impl StopOthers for Watch<'_> {
        fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
            self.note("stopped");
            let result = write();
            self.note("released");
            result
        }
    }
    // SAFETY: the arena is mapped twice.
    unsafe impl Platform for Watch<'_> {
        fn text(&self) -> Range<usize> {
            self.0.text()
        }

        fn alias(&self, address: usize) -> *mut u8 {
            self.0.second_mapping().alias(address)
        }

        fn unlock(&mut self) {
            self.note("unlocked");
        }

        fn lock(&mut self) {
            self.note("locked");
        }

        fn serialize(&self) {
            self.note("serialized");
        }
    }

    let all = sites(3);
    let image = image(&all);
    let live = image.live();
    let log = RefCell::default();
    // SAFETY: nobody executes an arena.
    let mut rendezvous = unsafe { Rendezvous::new(live, Watch(&image, &log), Watch(&image, &log)) };
    for (held, changed) in [(Target::NULL, 3), (Target::NULL, 0), (Target::IDENT, 3)] {
        image.set(0, held);
        let before = image.bytes();
        assert_eq!(rendezvous.apply().unwrap().changed, changed);
        let after = image.bytes();
        let log = log.take();
        let names: Vec<_> = log.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["stopped", "unlocked", "locked", "serialized", "released"]);
        assert!(log[..2].iter().all(|(_, bytes)| *bytes == before));
        assert!(log[2..].iter().all(|(_, bytes)| *bytes == after));
        assert_eq!(before != after, changed > 0);
    }
}
