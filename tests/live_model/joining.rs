//! Joining: what the platform is asked for, and members whose texts touch.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use patchlet::live::{Live, Member};
use patchlet::{Error, Nops, Platform, SecondMapping};

use crate::image::{Image, call, leak_set, source_of};

/// A platform that notes what it is asked for.
struct Asked {
    text: SecondMapping,
    log: RefCell<Vec<&'static str>>,
    nops: Cell<usize>,
}

// SAFETY: the arena is mapped twice.
unsafe impl Platform for Asked {
    fn text(&self) -> Range<usize> {
        self.text.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.text.alias(address)
    }

    fn unlock(&mut self) {
        self.log.borrow_mut().push("unlock");
    }

    fn lock(&mut self) {
        self.log.borrow_mut().push("lock");
    }

    fn serialize(&self) {
        self.log.borrow_mut().push("serialize");
    }

    fn nops(&self) -> Nops {
        self.nops.set(self.nops.get() + 1);
        Nops::of_target()
    }
}

/// A module is written as a kernel is at boot: by a platform that is unlocked before, and locked and
/// serialized after, and whose NOPs it gets.
#[test]
fn a_member_is_written_by_the_platform() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x300, 0));
    let live = Live::new(&[]);
    let member = Member::new(image.site_set(), image.text());
    let (text, log) = (image.second_mapping(), RefCell::default());
    let mut platform = Asked { text, log, nops: Cell::new(0) };
    // SAFETY: nobody executes an arena, and this is the last use of `live`.
    let report = unsafe { live.join(&member, &mut platform) }.unwrap();
    assert_eq!(report.changed, 1);
    assert_eq!(platform.log.into_inner(), ["unlock", "lock", "serialize"]);
    assert!(platform.nops.get() > 0);
}

/// Modules are loaded right behind each other. Their texts touch then, and share nothing.
#[test]
fn members_whose_texts_touch_share_nothing() {
    let image = Image::new(&[]);
    let text = image.text();
    let middle = text.start + 0x100;
    for swap in [false, true] {
        for (end, shares) in [(middle - 1, false), (middle, false), (middle + 1, true)] {
            let mut members = [text.start..end, middle..text.end]
                .map(|text| Member::new(leak_set(image.sites(), source_of(&[])), text));
            if swap {
                members.reverse();
            }
            let (live, [first, second]) = (Live::new(&[]), &members);
            let join = |member| {
                // SAFETY: nobody executes an arena, and this `live` is dropped before the members.
                unsafe { live.join(member, &mut image.second_mapping()) }.map(|_| ())
            };
            assert_eq!(join(first), Ok(()));
            let (start, end, other) = (second.text().start, second.text().end, first.text().start);
            let shared = Err(Error::SharedText { start, end, other });
            assert_eq!(join(second), if shares { shared } else { Ok(()) }, "{swap}");
        }
    }
}
