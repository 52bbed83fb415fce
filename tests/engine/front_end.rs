//! A second front end, as small as can be: sites that toggle between two constants. It proves that
//! the seam is one: what is not in `ops` works the same way at boot, live, beside ops in one set,
//! and for sites of five bytes, which no op has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use patchlet::live::{Handled, Int3, Live, Synchronize, TrapFrame};
use patchlet::ops::Target;
use patchlet::site::Record;
use patchlet::text::{Emulation, Follow, Part, Recipe, RecordFault, Report, Source};
use patchlet::{Error, Goal, Nops, Patcher, Replacement, SiteSet};

use crate::image::{Image, Raw, call};
use crate::model::hex;
use crate::platforms::{Recorder, one_cpu};

/// `mov $1, %al` and `mov $2, %al`; NOPs follow.
const ONE: &[u8] = &[0xb0, 1];
const TWO: &[u8] = &[0xb0, 2];
/// What the assembler would have written: `ud2`, and a NOP.
const ORIGINAL: &str = "0f 0b 0f 1f 00";

/// What decides: whether the sites are to say two.
#[derive(Debug, Default)]
struct Toggles {
    says_two: AtomicBool,
    at_start: AtomicBool,
    last_applied: AtomicBool,
    is_patched: AtomicBool,
    /// How often it was asked what may begin inside a site.
    asked: AtomicUsize,
}

impl Toggles {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn constant(says_two: bool) -> Replacement<'static> {
        Replacement::Patchlet(if says_two { TWO } else { ONE })
    }
}

/// The same as a value.
const TRAP: Replacement<'static> = Replacement::Trap(&[0x0f, 0x0b]);

// SAFETY: nobody executes an arena. The batch follows what `begin` kept; an original is a trap, and
// no site begins inside another's five bytes with `0f 0b` but where that is searched for.
unsafe impl Source for Toggles {
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        if record.capacity() != 5 {
            return Err(RecordFault::Capacity);
        }
        if record.kind().is_err() {
            return Err(RecordFault::Kind);
        }
        if record.subject() != self.address() {
            return Err(RecordFault::UnknownSubject);
        }
        Ok(Recipe {
            name: "toggle",
            new: match follow {
                Follow::Present => Self::constant(self.says_two.load(Relaxed)),
                Follow::Batch => Self::constant(self.at_start.load(Relaxed)),
                Follow::Original => TRAP,
            },
            last_applied: match self.is_patched.load(Relaxed) {
                true => Self::constant(self.last_applied.load(Relaxed)),
                false => TRAP,
            },
            original: TRAP,
            ahead_of_boot: TRAP,
            may_trap: true,
        })
    }

    fn emulation(&self, record: &Record, _: Follow) -> Option<Emulation> {
        (record.subject() == self.address()).then_some(Emulation::Skip)
    }

    fn may_begin_inside(&self, _: usize, capacity: u8, text: &[u8]) -> bool {
        self.asked.fetch_add(1, Relaxed);
        text.windows(2).take(capacity.into()).skip(1).any(|bytes| bytes == [0x0f, 0x0b])
    }

    fn begin(&self) {
        self.at_start.store(self.says_two.load(Relaxed), Relaxed);
    }

    fn finish(&self, follow: Follow) {
        self.last_applied.store(self.at_start.load(Relaxed), Relaxed);
        self.is_patched.store(follow == Follow::Batch, Relaxed);
    }
}

/// An image with two ops' sites, and the toggling sites at these offsets in a part of their own.
fn image(toggles: &'static Toggles, at: &[usize]) -> (Image, &'static SiteSet<'static>) {
    let mut image = Image::new(&[Some(&[0xfa])]);
    for &at in at {
        image.arena.write(at, &hex(ORIGINAL));
        let site = image.arena.address(at);
        image.record(Raw { site, slot: toggles.address(), op: 7, capacity: 5, kind: 0 });
    }
    let toggling = image.sites();
    image.site(call(0x180, 0));
    image.site(call(0x400, 0));
    let of_ops = image.sites().part(at.len()..usize::MAX);
    // SAFETY: each front end has its part only.
    let parts = unsafe { vec![Part::new(of_ops, image.source), Part::new(toggling, toggles)] };
    let parts = parts.leak();
    (image, Box::leak(Box::new(SiteSet::new(parts))))
}

/// A toggle whose address a record in the arena reaches.
fn near(image_of: impl Fn(&'static Toggles) -> (Image, &'static SiteSet<'static>)) -> Setup {
    let page = crate::arena::Arena::low();
    let place = page.pointer(0).cast::<Toggles>();
    // SAFETY: a page of memory of this test's own, aligned, and never unmapped.
    let toggles = unsafe {
        place.write(Toggles::default());
        &*place
    };
    let (image, set) = image_of(toggles);
    Setup { toggles, image, set }
}

struct Setup {
    toggles: &'static Toggles,
    image: Image,
    set: &'static SiteSet<'static>,
}

const AT: [usize; 3] = [0x200, 0x205, 0x300];

fn setup() -> Setup {
    near(|toggles| image(toggles, &AT))
}

impl Setup {
    fn says(&self, bytes: &str) {
        for at in AT {
            assert_eq!(self.image.at(at, 5), hex(bytes));
        }
    }

    fn apply(&self) -> Report {
        let mut patcher = Patcher::new(self.set, self.image.second_mapping());
        one_cpu(|cpu| patcher.apply(cpu)).unwrap()
    }
}

#[test]
fn boot_patching_knows_it_as_it_knows_ops() {
    let setup = setup();
    let before = setup.image.bytes();
    let mut patcher = Patcher::new(setup.set, setup.image.second_mapping());
    let plan = patcher.plan(Goal::Patched).unwrap();
    assert_eq!(plan.report_of(setup.toggles.address()).patchlets, 3);
    let names: Vec<_> = plan.outcomes().map(|outcome| outcome.name).collect();
    assert_eq!(names, ["op0", "op0", "toggle", "toggle", "toggle"]);

    let report = setup.apply();
    assert_eq!((report.sites, report.changed, report.patchlets), (5, 5, 5));
    setup.says("b0 01 0f 1f 00");
    assert_eq!(setup.image.at(0x180, 6), hex("fa 0f 1f 44 00 00"), "the part of the ops");

    setup.toggles.says_two.store(true, Relaxed);
    assert_eq!(setup.apply().changed, 3);
    setup.says("b0 02 0f 1f 00");
    assert_eq!(setup.apply().changed, 0);

    assert_eq!(one_cpu(|cpu| patcher.revert(cpu)).unwrap().changed, 5);
    assert!(setup.image.bytes()[..0x2000] == before[..0x2000]);
}

/// Records that are not sorted, as these, cost a search when the set is first patched, and never
/// again: no front end is asked any more.
#[test]
fn a_set_is_searched_for_overlaps_once() {
    let setup = setup();
    let mut patcher = Patcher::new(setup.set, setup.image.second_mapping());
    setup.apply();
    assert!(setup.toggles.asked.swap(0, Relaxed) > 0);
    // The sites hold their originals again, as they did then.
    one_cpu(|cpu| patcher.revert(cpu)).unwrap();
    setup.apply();
    assert_eq!(setup.toggles.asked.load(Relaxed), 0);
}

#[test]
fn its_faults_are_the_engines_errors() {
    /// What is changed in a record, and whether an error is the right one.
    type Case = (fn(&mut Raw), fn(Error) -> bool);
    let cases: [Case; 4] = [
        (
            |raw| raw.capacity = 6,
            |error| matches!(error, Error::BadRecord { field: "capacity", value: 6, index: 0 }),
        ),
        (
            |raw| raw.kind = 9,
            |error| matches!(error, Error::BadRecord { field: "kind", value: 9, index: 0 }),
        ),
        (|raw| raw.slot += 1, |error| matches!(error, Error::UnknownSubject { index: 0, .. })),
        (|raw| raw.site += 1, |error| matches!(error, Error::OldBytes { name: "toggle", .. })),
    ];
    for (change, is_expected) in cases {
        let setup = near(|toggles| {
            let mut image = Image::new(&[]);
            image.arena.write(0x200, &hex(ORIGINAL));
            let site = image.arena.address(0x200);
            let mut raw = Raw { site, slot: toggles.address(), op: 7, capacity: 5, kind: 0 };
            change(&mut raw);
            image.record(raw);
            // SAFETY: the front end has this part only.
            let parts = vec![unsafe { Part::new(image.sites(), toggles) }].leak();
            (image, Box::leak(Box::new(SiteSet::new(parts))))
        });
        let before = setup.image.bytes();
        let mut patcher = Patcher::new(setup.set, Recorder::new(&setup.image));
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        assert!(is_expected(error), "{error}");
        assert!(setup.image.bytes() == before);
    }
}

struct Nobody;

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Nobody {
    fn sync_all(&self) {}
}

struct Frame(usize);

// SAFETY: a trap that nobody took.
unsafe impl TrapFrame for Frame {
    fn ip(&self) -> usize {
        self.0
    }

    fn set_ip(&mut self, ip: usize) {
        self.0 = ip;
    }

    fn push(&mut self, _: usize) {
        panic!("a toggle calls nothing");
    }
}

struct Asking<'l>(&'l Live<'l>, usize);

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Asking<'_> {
    fn sync_all(&self) {
        let mut frame = Frame(self.1 + 1);
        assert_eq!(self.0.handle(&mut frame), Handled::Yes);
        // Behind the site while its INT3 stands; at its new bytes after that.
        assert!([self.1, self.1 + 5].contains(&frame.0));
    }
}

#[test]
fn a_live_batch_switches_both_parts_and_the_hook_asks_the_right_one() {
    let setup = setup();
    let sets = [setup.set];
    let live = Live::new(&sets);
    let platform = setup.image.second_mapping();
    let asking = Asking(&live, setup.image.arena.address(0x205));
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(&live, platform.clone(), asking) };
    assert_eq!(int3.apply().unwrap().changed, 5);
    setup.says("b0 01 0f 1f 00");
    setup.toggles.says_two.store(true, Relaxed);
    assert_eq!(int3.apply().unwrap().changed, 3);
    setup.says("b0 02 0f 1f 00");

    // Two constants differ in their second byte, where a thread may be.
    setup.toggles.says_two.store(false, Relaxed);
    // SAFETY: nobody executes an arena.
    let error = unsafe { Int3::new(&live, platform, Nobody) }.apply().unwrap_err();
    assert!(matches!(error, Error::ThreadInside { name: "toggle", boundary: 1, .. }), "{error}");
    setup.says("b0 02 0f 1f 00");
}

/// Sets of several linked objects are switched in one batch; which one is patched first at boot
/// does not matter.
#[test]
fn a_batch_of_two_sets() {
    let (a, b) = (setup(), setup());
    assert_eq!(b.apply().changed, 5);
    let sets = [a.set, b.set];
    let live = Live::new(&sets);
    // Both arenas as one text, whose second mapping is that of each.
    let platform = Both(&a.image, &b.image);
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(&live, platform, Nobody) };
    assert_eq!(int3.apply().unwrap().changed, 5, "the second set is patched already");
    b.toggles.says_two.store(true, Relaxed);
    b.image.set(0, Target::NOP);
    let report = int3.apply().unwrap();
    assert_eq!((report.sites, report.changed, report.nops), (10, 5, 2));
    a.says("b0 01 0f 1f 00");
    b.says("b0 02 0f 1f 00");
    assert_eq!(int3.revert().unwrap().changed, 10);
    a.says(ORIGINAL);
    b.says(ORIGINAL);
}

/// The text of two images.
struct Both<'i>(&'i Image, &'i Image);

// SAFETY: each arena is mapped twice. What lies between the two is no site's.
unsafe impl patchlet::Platform for Both<'_> {
    fn text(&self) -> std::ops::Range<usize> {
        let (a, b) = (self.0.text(), self.1.text());
        a.start.min(b.start)..a.end.max(b.end)
    }

    fn alias(&self, address: usize) -> *mut u8 {
        let image = if self.0.text().contains(&address) { self.0 } else { self.1 };
        let alias = address.wrapping_add(image.arena.alias_offset());
        std::ptr::with_exposed_provenance_mut(alias)
    }
}

// SAFETY: the second mappings are always writable.
unsafe impl patchlet::live::LivePlatform for Both<'_> {}

/// Sites of five bytes that hold NOPs until they call something.
struct Fillers(AtomicBool);

// SAFETY: nobody executes an arena; it is asked for one batch, and no site is inside another.
unsafe impl Source for Fillers {
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        let calls = Replacement::Call(record.subject() as u64);
        let held = |is_patched| if is_patched { calls } else { Replacement::Nops };
        Ok(Recipe {
            name: "filler",
            new: held(follow != Follow::Original),
            last_applied: held(self.0.load(Relaxed)),
            original: Replacement::Nops,
            ahead_of_boot: calls,
            may_trap: true,
        })
    }

    fn emulation(&self, record: &Record, _: Follow) -> Option<Emulation> {
        Some(Emulation::Call(record.subject()))
    }

    fn may_begin_inside(&self, _: usize, _: u8, _: &[u8]) -> bool {
        false
    }

    fn begin(&self) {}

    fn finish(&self, follow: Follow) {
        self.0.store(follow == Follow::Batch, Relaxed);
    }
}

/// Five bytes are one NOP, and a thread is in front of it or behind it; but the NOPs of old CPUs
/// are two there, and a thread may be between them.
#[test]
fn a_thread_may_be_between_two_nops() {
    let is_32_bit = cfg!(target_pointer_width = "32");
    for (nops, filling) in [(Nops::Long, "0f 1f 44 00 00"), (Nops::Lea, "90 8d 74 26 00")] {
        let refused = is_32_bit && nops == Nops::Lea;
        let mut image = Image::new(&[]);
        let filling = hex(if is_32_bit { filling } else { "0f 1f 44 00 00" });
        image.arena.write(0x200, &filling);
        let (site, subject) = (image.arena.address(0x200), image.arena.address(0x5000));
        image.record(Raw { site, slot: subject, op: 0, capacity: 5, kind: 0 });
        let fillers = Fillers(AtomicBool::new(false));
        // SAFETY: the front end has this part only.
        let parts = [unsafe { Part::new(image.sites(), &fillers) }];
        let set = SiteSet::new(&parts);
        let sets = [&set];
        let live = Live::new(&sets);
        // SAFETY: nobody executes an arena.
        let platform = unsafe { image.second_mapping().with_nops(nops) };
        // SAFETY: as above.
        let result = unsafe { Int3::new(&live, platform, Nobody) }.apply();
        match result {
            Err(Error::ThreadInside { boundary: 1, .. }) if refused => {
                assert_eq!(image.at(0x200, 5), filling);
            }
            Ok(report) if !refused => assert_eq!((report.changed, report.calls), (1, 1)),
            result => panic!("{nops:?}: {result:?}"),
        }
    }
}
