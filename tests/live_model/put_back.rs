//! What a batch leaves that failed while the first bytes were written: the old ones.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use patchlet::live::{Int3, LivePlatform};
use patchlet::ops::Target;
use patchlet::{Error, Platform, SecondMapping};

use crate::image::{Image, Site, call, target};
use crate::writers::{self, Count};

/// One write is lost, and then the platform is well again.
struct Once {
    well: SecondMapping,
    /// Aliases asked for until then.
    good: Cell<usize>,
    trash: RefCell<Box<[u8; 4096]>>,
}

impl Once {
    /// The alias of this number, from 1 on, is wrong.
    fn new(image: &Image, lost: usize) -> Self {
        let trash = RefCell::new(Box::new([0; 4096]));
        Self { well: image.second_mapping(), good: Cell::new(lost), trash }
    }
}

// SAFETY: it breaks its contract, harmlessly: the trash is memory of ours.
unsafe impl Platform for Once {
    fn text(&self) -> Range<usize> {
        self.well.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.good.set(self.good.get().wrapping_sub(1));
        match self.good.get() {
            0 => self.trash.borrow_mut().as_mut_ptr(),
            _ => self.well.alias(address),
        }
    }
}

// SAFETY: as above.
unsafe impl LivePlatform for Once {}

#[test]
fn int3s_are_taken_back_when_one_cannot_be_written() {
    // 3 to validate, 3 INT3s.
    for lost in 4..=6 {
        let image = writers::image(&writers::sites(3));
        let before = image.bytes();
        let live = image.live();
        let synced = Count::default();
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::new(live, Once::new(&image, lost), &synced) };
        assert!(matches!(int3.apply(), Err(Error::ReadBack { .. })));
        assert!(image.bytes() == before);
        assert_eq!(synced.0.take(), 1, "before the batch is retired");
        assert_eq!(int3.apply().unwrap().changed, 3, "and again");
    }
}

/// A patchlet of one byte and the NOPs of the whole site have the same tail, of 6 bytes
/// and of 9: the tail alone does not tell which of them was there. Afterwards the sites
/// are known, whatever they are to get next.
#[test]
fn of_two_with_the_same_tail_the_old_one() {
    for capacity in [6, 9] {
        for patchlet_to_nops in [true, false] {
            let mut image = Image::new(&[Some(&[0xfa])]);
            for at in [0x200, 0x300, 0x400] {
                image.site(Site { capacity, ..call(at, 0) });
            }
            let native = image.table.ops()[0].native();
            let (from, to) =
                if patchlet_to_nops { (native, Target::NOP) } else { (Target::NOP, native) };
            let live = image.live();
            let synced = Count::default();
            image.set(0, from);
            let well = image.second_mapping();
            // SAFETY: nobody executes an arena.
            let mut works = unsafe { Int3::with_nobody_inside(live, well, &synced) };
            works.apply().unwrap();
            image.set(0, to);
            let before = image.bytes();
            let once = Once::new(&image, 6);
            // SAFETY: nobody executes an arena.
            let result = unsafe { Int3::with_nobody_inside(live, once, &synced) }.apply();
            assert!(matches!(result, Err(Error::ReadBack { .. })), "{result:?}");
            assert!(image.bytes() == before, "{capacity}, {patchlet_to_nops}: not put back");
            image.set(0, target(image.arena.address(0x7000)));
            assert_eq!(works.apply().unwrap().changed, 3);
        }
    }
}

/// A platform whose aliases show the same bytes and are other memory: found when the first INT3
/// is read back. It is taken out of that memory again, whoever's that is.
#[test]
fn an_int3_that_went_astray_is_taken_back() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    for at in [0x200, 0x1300, 0x1400] {
        image.site(call(at, 0));
    }
    image.arena.detach_second_page();
    let platform = image.second_mapping();
    let before = image.bytes();
    let seen = |at: usize| {
        let alias = platform.alias(image.arena.address(at));
        // SAFETY: in the second mapping.
        unsafe { alias.read_volatile() }
    };
    // Writing makes the page another one.
    let page = platform.alias(image.arena.address(0x1000));
    // SAFETY: in the second mapping; the byte stays what it is.
    unsafe { page.write_volatile(page.read_volatile()) };
    let live = image.live();
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::new(live, platform.clone(), &synced) };
    let error = int3.apply().unwrap_err();
    assert!(matches!(error, Error::ReadBack { .. }), "{error}");
    assert!(image.bytes() == before);
    assert_eq!(seen(0x1300), before[0x1300], "an INT3 is left where the platform led");
    assert!(matches!(int3.apply(), Err(Error::ReadBack { .. })), "not busy");
}
