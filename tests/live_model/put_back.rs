//! What a failed batch leaves: the old first bytes, whatever the new ones are.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use patchlet::live::{Int3, Live, LivePlatform, Synchronize};
use patchlet::ops::Target;
use patchlet::{Error, Platform, SecondMapping};

use crate::image::{Image, Site, call, target};

/// One write that is lost, and then the platform is well again.
struct Once(SecondMapping, Cell<usize>, RefCell<Box<[u8; 4096]>>);

// SAFETY: it breaks its contract, harmlessly: the other page is ours.
unsafe impl Platform for Once {
    fn text(&self) -> Range<usize> {
        self.0.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.1.set(self.1.get().wrapping_sub(1));
        match self.1.get() {
            0 => self.2.borrow_mut().as_mut_ptr(),
            _ => self.0.alias(address),
        }
    }
}

// SAFETY: as above.
unsafe impl LivePlatform for Once {}

struct Nobody;

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Nobody {
    fn sync_all(&self) {}
}

/// A patchlet of one byte and the NOPs of the whole site have the same tail, of 6 bytes
/// and of 9; so the tail alone does not tell which of them was there.
fn check(capacity: u8, from: Target, to: Target) {
    let mut image = Image::new(&[Some(&[0xfa])]);
    for at in [0x200, 0x300, 0x400] {
        image.site(Site { capacity, ..call(at, 0) });
    }
    let native = image.table.ops()[0].native();
    let pick = |target: Target| if target == Target::IDENT { native } else { target };
    let live = Live::new(image.sites(), [image.table]);
    let platform = image.second_mapping();
    image.set(0, pick(from));
    // SAFETY: nobody executes an arena.
    let mut works = unsafe { Int3::with_nobody_inside(&live, platform.clone(), Nobody) };
    works.apply().unwrap();
    let before = image.bytes();
    image.set(0, pick(to));
    // 3 to validate; the third INT3 is lost.
    let once = Once(platform, Cell::new(6), RefCell::new(Box::new([0; 4096])));
    // SAFETY: nobody executes an arena.
    let mut fails = unsafe { Int3::with_nobody_inside(&live, once, Nobody) };
    let result = fails.apply();
    assert!(matches!(result, Err(Error::ReadBack { .. })), "{result:?}");
    let left: Vec<_> = [0x200, 0x300, 0x400].map(|at| image.at(at, capacity.into())).into();
    assert!(image.bytes()[..0x2000] == before[..0x2000], "not put back: {left:x?}");
    // And nothing was lost.
    image.set(0, target(image.arena.address(0x7000)));
    assert_eq!(works.apply().unwrap().changed, 3);
}

/// What a kernel sees of it that gives up, and later installs something else.
#[test]
fn sites_are_still_known_after_a_failed_batch() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    for at in [0x200, 0x300, 0x400] {
        image.site(call(at, 0));
    }
    let live = Live::new(image.sites(), [image.table]);
    let platform = image.second_mapping();
    // SAFETY: nobody executes an arena.
    let mut works = unsafe { Int3::with_nobody_inside(&live, platform.clone(), Nobody) };
    works.apply().unwrap();
    image.set(0, Target::NOP);
    let once = Once(platform, Cell::new(6), RefCell::new(Box::new([0; 4096])));
    // SAFETY: nobody executes an arena.
    let result = unsafe { Int3::with_nobody_inside(&live, once, Nobody) }.apply();
    assert!(matches!(result, Err(Error::ReadBack { .. })), "{result:?}");
    image.set(0, target(image.arena.address(0x7000)));
    works.apply().unwrap();
}

#[test]
fn a_patchlet_that_was_to_become_nops() {
    // IDENT stands for the op's own native function here.
    check(6, Target::IDENT, Target::NOP);
}

#[test]
fn nops_that_were_to_become_a_patchlet() {
    check(6, Target::NOP, Target::IDENT);
}

#[test]
fn nine_bytes() {
    check(9, Target::IDENT, Target::NOP);
}
