//! Platforms that break their contract: an alias of something else, memory that
//! keeps its old bytes, aliases that exist only while text is unlocked. What was
//! written before the failure is put back; the whole arena is as it was.

use std::cell::Cell;
use std::ops::Range;

use patchlet::ops::Target;
use patchlet::{Error, InsnBuffer, Platform, SecondMapping};

use crate::arena::Arena;
use crate::image::{Image, Site, call, jump, target};
use crate::model;
use crate::platforms::{Event, Recorder, one_cpu};

/// A platform whose aliases are right but for some sites: those are in a copy of
/// the arena, so that they look right and are not.
struct Rom {
    recorder: Recorder,
    copy: Vec<u8>,
    base: usize,
    /// Addresses of the sites that cannot be written.
    bad: Range<usize>,
}

impl Rom {
    /// From this offset on, all of them.
    fn new(image: &Image, from: usize) -> Self {
        let (base, from) = (image.arena.address(0), image.arena.address(from));
        Self { recorder: Recorder::new(image), copy: image.bytes(), base, bad: from..usize::MAX }
    }

    /// Only the one at this offset.
    fn only(image: &Image, at: usize) -> Self {
        let rom = Self::new(image, at);
        let bad = rom.bad.start..rom.bad.start + 1;
        Self { bad, ..rom }
    }
}

// SAFETY: it does not keep to the contract, which is the point; but every alias
// is readable and writable memory of this test.
unsafe impl Platform for Rom {
    fn text(&self) -> Range<usize> {
        self.recorder.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        if !self.bad.contains(&address) {
            return self.recorder.alias(address);
        }
        self.copy.as_ptr().wrapping_add(address - self.base).cast_mut()
    }

    fn unlock(&mut self) {
        self.recorder.unlock();
    }

    fn lock(&mut self) {
        self.recorder.lock();
    }

    fn serialize(&self) {
        self.recorder.serialize();
    }
}

fn image() -> Image {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    image.site(call(0x200, 0));
    image.site(jump(0x300, 1));
    image.site(Site { capacity: 9, ..call(0x400, 0) });
    image.site(jump(0x500, 1));
    image
}

const SITES: [usize; 4] = [0x200, 0x300, 0x400, 0x500];

fn buffer(bytes: &[u8]) -> InsnBuffer {
    InsnBuffer::copy_of(bytes).unwrap()
}

/// Applies or reverts with a ROM from each site on; `wrote` are the bytes that
/// all sites would have.
fn check(image: &Image, revert: bool, wrote: &[u8]) {
    image.arena.protect_text();
    let before = image.bytes();
    for (at, op) in SITES.into_iter().zip(["op0", "op1", "op0", "op1"]) {
        let len = if at == 0x400 { 9 } else { 6 };
        let rom = Rom::new(image, at);
        let log = rom.recorder.log.clone();
        let mut patcher = image.patcher(rom);
        let error = one_cpu(|cpu| if revert { patcher.revert(cpu) } else { patcher.apply(cpu) });
        let error = error.unwrap_err();
        let site = image.arena.address(at);
        let (wrote, found) = (buffer(&wrote[at..at + len]), buffer(&before[at..at + len]));
        assert_eq!(error, Error::ReadBack { site, name: op, wrote, found });
        assert_eq!(
            error.to_string(),
            format!("site {site:#x} ({op}): wrote {wrote} and read back {found}")
        );
        assert!(image.bytes() == before, "{error}: not put back");
        // Something was written, so it is locked and serialized all the same.
        let events = log.borrow();
        assert!(
            matches!(&events[..], [Event::Unlock(_), Event::Lock(_), Event::Serialize(_)]),
            "{events:?}"
        );
    }
}

#[test]
fn text_that_does_not_change_is_an_error_and_the_others_are_put_back() {
    let image = image();
    // Never patched; what it would be, from the model of each op.
    let mut wrote = image.bytes();
    wrote[0x200..0x206].copy_from_slice(&model::hex("fa 0f 1f 44 00 00"));
    wrote[0x400..0x409].copy_from_slice(&model::hex("fa 0f 1f 84 00 00 00 00 00"));
    for at in [0x300_usize, 0x500] {
        let to = image.table.ops()[1].native().address() - image.arena.address(at + 5);
        wrote[at] = 0xe9;
        wrote[at + 1..at + 5].copy_from_slice(&(to as u32).to_le_bytes());
        wrote[at + 5] = 0x90;
    }
    check(&image, false, &wrote);
    // And it works once the platform does.
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
    assert!(image.bytes()[..0x2000] == wrote[..0x2000]);
}

/// After a revert what is put back are the indirect calls again.
#[test]
fn reverted_sites_are_put_back_to_the_indirect_calls() {
    let image = image();
    let before = image.bytes();
    image.set(0, target(image.arena.address(0x7000)));
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
    one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
    let rom = Rom::new(&image, 0x400);
    let error = one_cpu(|cpu| image.patcher(rom).apply(cpu)).unwrap_err();
    assert!(matches!(error, Error::ReadBack { .. }), "{error}");
    assert!(image.bytes()[..0x2000] == before[..0x2000], "not put back");
}

/// What is put back is what was there, not the indirect calls.
#[test]
fn patched_sites_are_put_back_to_what_they_were_patched_to() {
    let image = image();
    let unpatched = image.bytes();
    image.set(0, target(image.arena.address(0x7000)));
    image.set(1, target(image.arena.address(0x7100)));
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
    // Reverting fails.
    check(&image, true, &unpatched);
    // Patching for other functions fails.
    image.set(0, Target::NULL);
    image.set(1, Target::NOP);
    let mut wrote = unpatched.clone();
    for (at, bytes) in [
        (0x200, "0f 0b 0f 1f 40 00"),
        (0x300, "66 0f 1f 44 00 00"),
        (0x400, "0f 0b 0f 1f 80 00 00 00 00"),
        (0x500, "66 0f 1f 44 00 00"),
    ] {
        let bytes = model::hex(bytes);
        wrote[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    check(&image, false, &wrote);
    // And nothing was forgotten: reverting works once the platform does.
    one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
    assert!(image.bytes()[..0x2000] == unpatched[..0x2000]);
}

/// Two patchers share an op, and what it was last patched for is in reach of one of them
/// only: the sites of the other never had a call of it, and get their own one back.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_site_that_cannot_have_what_others_have_is_put_back() {
    let mut image = Image::new(&[None]);
    for at in [0x200, 0x300, 0x400] {
        image.site(call(at, 0));
    }
    let [these, last] = [0..2, 2..3].map(|positions| image.sites().part(positions));
    image.set(0, target(image.arena.address(0x405) + 0x7fff_ffff));
    let mut patcher = patchlet::Patcher::new(image.site_set_of(last), image.second_mapping());
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().calls, 1);
    image.set(0, Target::NOP);
    let before = image.bytes();
    let mut patcher = patchlet::Patcher::new(image.site_set_of(these), Rom::new(&image, 0x300));
    let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    let bad = image.arena.address(0x300);
    assert!(matches!(error, Error::ReadBack { site, .. } if site == bad), "{error}");
    assert!(image.bytes() == before);
}

/// The direct map of a kernel, or a temporary mapping, can end with a page. The second
/// site of each has that in it, within its first six bytes or behind them.
#[test]
fn half_of_a_site_is_not_enough() {
    for (start, capacity) in [(0xffe, 6), (0xffa, 9), (0xff9, 32)] {
        let mut image = Image::new(&[Some(&[0xfa])]);
        image.site(call(0x200, 0));
        image.site(Site { capacity, ..call(start, 0) });
        image.arena.protect_text();
        let before = image.bytes();
        image.arena.detach_second_page();
        let mut patcher = image.patcher(image.second_mapping());
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        let Error::ReadBack { site, name: "op0", wrote, found } = error else {
            panic!("{start:#x}: {error:?}");
        };
        assert_eq!(site, image.arena.address(start));
        let end = start + usize::from(capacity);
        assert_eq!(wrote.bytes()[0], 0xfa);
        let expected = [&wrote.bytes()[..0x1000 - start], &before[0x1000..end]].concat();
        assert_eq!(found.bytes(), expected);
        assert!(image.bytes() == before);
    }
}

/// What the copy got is not there for good either.
#[test]
fn what_was_written_elsewhere_is_taken_back_there() {
    let image = image();
    let rom = Rom::new(&image, 0x400);
    let copy = (rom.copy.as_ptr(), rom.copy.clone());
    let mut patcher = image.patcher(rom);
    one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
    // SAFETY: the patcher still owns the vector.
    let now = unsafe { std::slice::from_raw_parts(copy.0, copy.1.len()) };
    assert!(now == copy.1);
}

#[test]
fn an_alias_that_is_none() {
    let image = image();
    image.arena.protect_text();
    // The copy differs in one byte of one site, the last one of it.
    for (at, op) in SITES.into_iter().zip(["op0", "op1", "op0", "op1"]) {
        let before = image.bytes();
        let mut rom = Rom::only(&image, at);
        rom.copy[at + if at == 0x400 { 8 } else { 5 }] ^= 1;
        let copy = (rom.copy.as_ptr(), rom.copy.clone());
        let alias = rom.alias(image.arena.address(at)).addr();
        let mut patcher = image.patcher(rom);
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        let site = image.arena.address(at);
        assert_eq!(error, Error::Alias { site, alias, name: op });
        assert_eq!(
            error.to_string(),
            format!("site {site:#x} ({op}): {alias:#x} is not a second mapping of it")
        );
        assert!(image.bytes() == before);
        // SAFETY: the patcher still owns the vector.
        assert!(unsafe { std::slice::from_raw_parts(copy.0, copy.1.len()) } == copy.1);
    }
}

/// Where it is not the only one, the error is of the first site that does not show what
/// it got.
#[test]
fn an_alias_that_is_none_behind_one_that_only_looks_right() {
    let image = image();
    image.arena.protect_text();
    for at in &SITES[1..] {
        let before = image.bytes();
        let mut rom = Rom::new(&image, 0);
        rom.copy[at + 5] ^= 1;
        let copy = (rom.copy.as_ptr(), rom.copy.clone());
        let mut patcher = image.patcher(rom);
        let error = one_cpu(|cpu| patcher.apply(cpu)).unwrap_err();
        let first = image.arena.address(SITES[0]);
        assert!(matches!(error, Error::ReadBack { site, .. } if site == first), "{error}");
        assert!(image.bytes() == before);
        // SAFETY: the patcher still owns the vector.
        assert!(unsafe { std::slice::from_raw_parts(copy.0, copy.1.len()) } == copy.1);
    }
}

/// Where a linker folded functions, the record of a site is there twice. That it gets back
/// what it had is not an error of it: that is of the site behind it.
#[test]
fn a_site_whose_record_is_there_twice_is_not_blamed() {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    for site in [call(0x200, 0), Site { capacity: 9, ..call(0x300, 0) }] {
        image.site(site);
        image.site(site);
    }
    image.site(jump(0x400, 1));
    image.arena.protect_text();
    let before = image.bytes();
    let bad = image.arena.address(0x400);
    for looks_right in [true, false] {
        let mut rom = Rom::only(&image, 0x400);
        rom.copy[0x400] ^= u8::from(!looks_right);
        let error = one_cpu(|cpu| image.patcher(rom).apply(cpu)).unwrap_err();
        match error {
            Error::ReadBack { site, .. } if looks_right => assert_eq!(site, bad),
            Error::Alias { site, .. } if !looks_right => assert_eq!(site, bad),
            _ => panic!("{error}"),
        }
        assert!(image.bytes() == before);
    }
}

/// Where site `number` of [`many`] is.
const fn at(number: usize) -> usize {
    0x200 + 0x20 * number
}

/// A hundred sites, short and long ones in each place of a block.
fn many() -> Image {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    for number in 0..100 {
        let capacity = [6, 9, 32][number % 3];
        image.site(Site { capacity, ..call(at(number), number % 2) });
    }
    image
}

/// Each site is read back, wherever in its block it is, and is the one that the error
/// names.
#[test]
fn one_site_that_does_not_change() {
    let image = many();
    image.set(1, target(image.arena.address(0x7000)));
    image.arena.protect_text();
    let before = image.bytes();
    for number in 0..100 {
        let mut patcher = image.patcher(Rom::only(&image, at(number)));
        let result = one_cpu(|cpu| patcher.apply(cpu));
        let bad = image.arena.address(at(number));
        assert!(
            matches!(result, Err(Error::ReadBack { site, .. }) if site == bad),
            "{number}: {result:?}"
        );
        assert!(image.bytes() == before, "{number}: not put back");
    }
}

/// Sites are written in blocks. Those of the blocks before the one in which something
/// is wrong are put back as well, short and long ones.
#[test]
fn blocks_that_were_written_are_put_back() {
    let image = many();
    let unpatched = image.bytes();
    for patched in [false, true] {
        if patched {
            image.set(0, target(image.arena.address(0x7000)));
            image.set(1, target(image.arena.address(0x7100)));
            one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
            image.set(0, Target::NULL);
            image.set(1, Target::NOP);
        }
        let before = image.bytes();
        assert_eq!(before != unpatched, patched);
        for bad in [0, 15, 16, 31, 32, 98] {
            let rom = Rom::new(&image, at(bad));
            let result = one_cpu(|cpu| image.patcher(rom).apply(cpu));
            assert!(matches!(result, Err(Error::ReadBack { .. })), "{bad}: {result:?}");
            assert!(image.bytes() == before, "{bad}: not put back");
            let mut rom = Rom::new(&image, at(bad));
            rom.copy[at(bad) + 2] ^= 1;
            let result = one_cpu(|cpu| image.patcher(rom).apply(cpu));
            let site = image.arena.address(at(bad));
            assert!(
                matches!(result, Err(Error::Alias { site: found, .. }) if found == site),
                "{bad}: {result:?}"
            );
            assert!(image.bytes() == before, "{bad}: not put back");
        }
    }
}

/// Aliases that are there only between `unlock` and `lock`, as the contract says.
struct Window {
    arena: Arena,
    text: Range<usize>,
    open: Cell<bool>,
}

// SAFETY: the arena is mapped twice, the second time between `unlock` and `lock`.
unsafe impl Platform for Window {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        assert!(self.open.get(), "an alias is asked for while text is locked");
        std::ptr::with_exposed_provenance_mut(address.wrapping_add(self.arena.alias_offset()))
    }

    fn unlock(&mut self) {
        assert!(!self.open.replace(true));
        self.arena.protect_alias(libc::PROT_READ | libc::PROT_WRITE);
    }

    fn lock(&mut self) {
        assert!(self.open.replace(false));
        self.arena.protect_alias(libc::PROT_NONE);
    }
}

#[test]
fn aliases_are_used_between_unlock_and_lock_only() {
    let image = image();
    let before = image.bytes();
    image.arena.protect_text();
    image.arena.protect_alias(libc::PROT_NONE);
    let window = Window { arena: image.arena, text: image.text(), open: Cell::new(false) };
    let mut patcher = image.patcher(window);
    assert_eq!(patcher.plan(patchlet::Goal::Patched).unwrap().report().changed, 4);
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)).unwrap().changed, 4);
    assert_eq!(one_cpu(|cpu| patcher.revert(cpu)).unwrap().changed, 4);
    assert!(image.bytes() == before);
}

/// As if the direct map were shifted: the alias of a site is another site.
struct Shifted(SecondMapping);

// SAFETY: it does not keep to the contract; but every alias is writable memory.
unsafe impl Platform for Shifted {
    fn text(&self) -> Range<usize> {
        self.0.text()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.0.alias(address + 0x100)
    }
}

/// The other site, patched ahead of boot, is as it was: it was found before it was
/// written, or it got back what it had.
fn other_site_stays(slot: impl Fn(&Image) -> Target) {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x200, 0));
    image.arena.write(0x300, &model::hex("fa 0f 1f 44 00 00"));
    image.set(0, slot(&image));
    let before = image.bytes();
    let shifted = Shifted(image.second_mapping());
    let error = one_cpu(|cpu| image.patcher(shifted).apply(cpu)).unwrap_err();
    let now = image.bytes();
    assert!(now == before, "{error}: the other site now holds {:x?}", &now[0x300..0x306]);
}

#[test]
fn an_alias_that_shows_what_such_a_site_can_hold() {
    other_site_stays(|_| Target::NULL);
}

#[test]
fn an_alias_that_shows_what_the_site_is_to_get() {
    other_site_stays(|image| image.table.ops()[0].native());
}
