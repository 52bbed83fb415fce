//! The rule is asked once for a class of branches. What was found of one of them is taken neither
//! for another class nor for a site that holds something else.

use patchlet::live::Int3;
use patchlet::ops::Target;
use patchlet::site::Record;
use patchlet::text::{Emulation, Follow, Part, Recipe, RecordFault, Source};
use patchlet::{Error, Replacement, SiteSet};

use crate::branch_image::{Branch, BranchImage};
use crate::image::{Image, Raw, call, leak_live};
use crate::writers::Count;

/// Two instructions: a thread can be between them.
const TWO: &[u8] = &[0x9c, 0x58];

/// The branches come first, as they do in no kernel.
#[test]
fn a_branch_says_nothing_of_the_site_of_an_op() {
    let mut image = BranchImage::new(&[Some(TWO)], &[false]);
    let branch = Branch { at: 0x200, key: 0, jumps_when_on: true, target: 0x1000 };
    image.branch(branch);
    image.image.site(call(0x300, 0));
    // SAFETY: each front end has its part only.
    let ops = unsafe { Part::new(image.image.sites(), image.image.source) };
    let set = Box::leak(Box::new(SiteSet::new(vec![image.source().part(), ops].leak())));
    let live = leak_live(set);
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut at_first =
        unsafe { Int3::with_nobody_inside(live, image.image.second_mapping(), &synced) };
    at_first.apply().unwrap();
    assert_eq!(image.image.at(0x300, 2), TWO);
    image.image.set(0, Target::NOP);
    let before = image.image.bytes();
    // SAFETY: as above.
    let mut int3 = unsafe { Int3::new(live, image.image.second_mapping(), &synced) };
    let error = int3.change(&mut [image.to(0, true)]).unwrap_err();
    let inside = image.image.arena.address(0x300);
    assert!(matches!(error, Error::ThreadInside { site, .. } if site == inside), "{error}");
    assert!(image.image.bytes() == before);
}

/// A front end whose sites are NOPs that become jumps, and may hold two instructions ahead of boot.
struct Mixed {
    target: u64,
}

// SAFETY: nobody executes an arena. What the sites get is constant, and no site begins inside
// another.
unsafe impl Source for Mixed {
    fn recipe(&self, _: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        let original = Replacement::Nop(&[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        Ok(Recipe {
            name: "mixed",
            new: if follow == Follow::Original { original } else { Replacement::Jump(self.target) },
            last_applied: original,
            original,
            ahead_of_boot: Replacement::Patchlet(&[0x9c, 0x58, 0x0f, 0x1f, 0x00]),
            may_trap: true,
        })
    }

    fn emulation(&self, _: &Record, _: Follow) -> Option<Emulation> {
        Some(Emulation::Jump(self.target as usize))
    }

    fn may_begin_inside(&self, _: usize, _: u8, _: &[u8]) -> bool {
        false
    }

    fn begin(&self) {}

    fn finish(&self, _: Follow) {}
}

#[test]
fn a_site_says_nothing_of_one_that_holds_something_else() {
    let mut image = Image::new(&[None]);
    let places = [0x200, 0x210, 0x220];
    for at in places {
        image.arena.write(at, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        let (site, slot) = (image.arena.address(at), image.slot(0));
        image.record(Raw { site, slot, op: 0, capacity: 5, kind: 0 });
    }
    let mixed = Box::leak(Box::new(Mixed { target: image.arena.address(0x1000) as u64 }));
    // SAFETY: the front end has this part only.
    let parts = vec![unsafe { Part::new(image.sites(), mixed) }].leak();
    let live = leak_live(Box::leak(Box::new(SiteSet::new(parts))));
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::new(live, image.second_mapping(), &synced) };
    let original = image.bytes();
    image.arena.write(0x210, &[0x9c, 0x58, 0x0f, 0x1f, 0x00]);
    let before = image.bytes();
    let error = int3.apply().unwrap_err();
    let inside = image.arena.address(0x210);
    assert!(matches!(error, Error::ThreadInside { site, .. } if site == inside), "{error}");
    assert!(image.bytes() == before);
    // Without that one all of them are switched.
    image.arena.write(0x210, &original[0x210..0x215]);
    assert_eq!(int3.apply().unwrap().changed, places.len());
}
