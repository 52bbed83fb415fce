//! Changes that nothing follows: each writer refuses a key or a slot that no set of its own knows,
//! and changes neither memory nor text.

use std::ops::Range;

use patchlet::branch::{CountedKey, Key};
use patchlet::live::{Int3, Live, LivePlatform, Member, Rendezvous};
use patchlet::ops::Target;
use patchlet::text::{Change, Report};
use patchlet::{Error, Patcher, Platform, SiteSet};

use crate::branch_image::{Branch, BranchImage};
use crate::branches::Alone;
use crate::image::{Image, call, leak_live};
use crate::platforms::one_cpu;

/// The text of two images, the second of which may be a module's.
#[derive(Clone, Debug)]
struct TwoTexts([(Range<usize>, usize); 2]);

impl TwoTexts {
    fn of(images: [&Image; 2]) -> Self {
        Self(images.map(|image| (image.text(), image.arena.alias_offset())))
    }

    fn piece(&self, address: usize) -> &(Range<usize>, usize) {
        self.0.iter().find(|(text, _)| text.contains(&address)).unwrap_or(&self.0[0])
    }
}

// SAFETY: the arenas are mapped twice.
unsafe impl Platform for TwoTexts {
    fn text(&self) -> Range<usize> {
        self.0[0].0.clone()
    }

    fn text_around(&self, address: usize) -> Range<usize> {
        self.piece(address).0.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(address.wrapping_add(self.piece(address).1))
    }
}

// SAFETY: as above.
unsafe impl LivePlatform for TwoTexts {}

/// A writer: it makes these changes in the sets of a `Live`, or at boot in the first of them.
type Writer = fn(&'static Live<'static>, TwoTexts, &mut [Change<'_>]) -> Result<Report, Error>;

const BOOT: (&str, Writer) = ("boot", |live, platform, changes| {
    one_cpu(|cpu| Patcher::new(live.sets()[0], platform).change(changes, cpu))
});
const LIVE: [(&str, Writer); 2] = [
    ("INT3", |live, platform, changes| {
        // SAFETY: nobody executes an arena.
        unsafe { Int3::with_nobody_inside(live, platform, Alone) }.change(changes)
    }),
    ("rendezvous", |live, platform, changes| {
        // SAFETY: as above.
        unsafe { Rendezvous::new(live, platform, Alone) }.change(changes)
    }),
];

const BRANCH: Branch = Branch { at: 0x210, key: 0, jumps_when_on: true, target: 0x1000 };

/// A program with an op, a key that starts off, and a site of each.
fn image() -> BranchImage {
    let mut image = BranchImage::new(&[Some(&[0xfa])], &[false]);
    image.image.site(call(0x200, 0));
    image.branch(BRANCH);
    image
}

/// The change that makes a slot of an image a no-op.
fn nop(image: &Image) -> Change<'static> {
    // SAFETY: nobody calls through it.
    unsafe { image.table.change(0, Target::NOP) }.unwrap()
}

/// Checks that this writer refuses this change, and one that it could make with it.
#[track_caller]
fn refuses(
    what: &str,
    write: impl Fn(&mut [Change<'_>]) -> Result<Report, Error>,
    [own, other]: [&BranchImage; 2],
    change: impl Fn() -> Change<'static>,
    expected: Error,
    hint: &str,
) {
    let memory = |image: &BranchImage| (image.image.bytes(), image.image.table.get(0));
    let before = [memory(own), memory(other)];
    for changes in [&mut [nop(&own.image), change()], &mut [change(), nop(&own.image)]] {
        let error = write(changes).unwrap_err();
        assert_eq!(error, expected, "{what}");
        assert!(error.to_string().contains(hint), "{what}: {error}");
        assert!([memory(own), memory(other)] == before, "{what}: something changed");
    }
}

/// A key, and a set that was made without the word `branches`.
#[test]
fn a_set_without_branches_changes_no_key() {
    for (what, write) in [BOOT].into_iter().chain(LIVE) {
        let own = image();
        let texts = TwoTexts::of([&own.image; 2]);
        let write = |changes: &mut [Change<'_>]| write(own.image.live(), texts.clone(), changes);
        let expected = Error::KeyNotFollowed { key: own.key(0) };
        let key = own.counted(0);
        let hint = "`, branches` behind the bracket of site_set!";
        refuses(what, write, [&own; 2], || own.to(0, true), expected, hint);
        refuses(what, write, [&own; 2], || key.increment(), expected, hint);
        assert_eq!((expected.code(), expected.site()), ("key-not-followed", None));
        write(&mut [nop(&own.image)]).unwrap();
    }
}

/// A slot of a table that does not stand in the brackets; in a set with branches and in one without.
#[test]
fn a_slot_of_another_table_is_refused() {
    for (what, write) in [BOOT].into_iter().chain(LIVE) {
        let both @ [own, other] = [&image(), &image()];
        let texts = TwoTexts::of([&own.image, &other.image]);
        let slot = other.image.slot(0);
        let expected = Error::SlotNotFollowed { slot, name: "op0" };
        for live in [own.live(), own.image.live()] {
            let write = |changes: &mut [Change<'_>]| write(live, texts.clone(), changes);
            let hint = format!("slot {slot:#x} (op0) was not changed");
            refuses(what, write, both, || nop(&other.image), expected, &hint);
        }
        assert_eq!((expected.code(), expected.site()), ("slot-not-followed", None));
    }
}

/// A key without branches is in no table of keys. Nothing has to follow it, if somebody would.
#[test]
fn a_key_without_branches_changes_in_a_set_that_has_some() {
    static KEY: Key<false> = Key::new();
    static COUNTED: CountedKey<false> = CountedKey::new();
    for (what, write) in [BOOT].into_iter().chain(LIVE) {
        let own = image();
        let texts = TwoTexts::of([&own.image; 2]);
        let write = |changes: &mut [Change<'_>]| write(own.live(), texts.clone(), changes);
        write(&mut []).unwrap();
        let report = write(&mut [KEY.on(), COUNTED.increment()]).unwrap();
        assert_eq!((report.changed, KEY.is_enabled(), COUNTED.count()), (0, true, 1), "{what}");
        write(&mut [KEY.off(), COUNTED.decrement()]).unwrap();
    }
}

/// Slots and keys of a module follow as long as its set has joined.
#[test]
fn what_a_member_knows_is_changed_while_it_has_joined() {
    for (what, write) in LIVE {
        for kernel_has_branches in [false, true] {
            let both @ [kernel, module] = [&image(), &image()];
            let set: &'static SiteSet<'static> =
                if kernel_has_branches { kernel.set() } else { kernel.image.site_set() };
            let live = leak_live(set);
            let mut texts = TwoTexts::of([&kernel.image, &module.image]);
            let member = Member::new(module.set(), module.image.text());
            // SAFETY: nobody executes an arena, and all of it stays.
            unsafe { live.join(&member, &mut texts) }.unwrap();

            let write = |changes: &mut [Change<'_>]| write(live, texts.clone(), changes);
            write(&mut []).unwrap();
            let mut changes = [module.to(0, true), nop(&module.image)];
            assert_eq!(write(&mut changes).unwrap().changed, 2, "{what}");
            assert_eq!(module.image.at(BRANCH.at, 5), module.bytes_of(BRANCH, true));
            assert_eq!(write(&mut changes).unwrap().changed, 2, "{what}");
            assert_eq!(module.image.at(BRANCH.at, 5), module.bytes_of(BRANCH, false));

            // SAFETY: as above.
            unsafe { live.leave(&member, || ()) }.unwrap();
            let key = Error::KeyNotFollowed { key: module.key(0) };
            refuses(what, write, both, || module.to(0, true), key, "with its branches join");
            let slot = Error::SlotNotFollowed { slot: module.image.slot(0), name: "op0" };
            refuses(what, write, both, || nop(&module.image), slot, "with that table join");
        }
    }
}
