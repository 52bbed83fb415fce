//! Modules: a set joins, is switched with the others by both protocols, is answered for by the
//! hook, and leaves. What is refused leaves everything as it was.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use patchlet::live::{
    BatchStep, Handled, INT3, Int3, Live, LivePlatform, Member, Rendezvous, StopOthers,
    Synchronize, TrapFrame,
};
use patchlet::ops::Target;
use patchlet::text::Report;
use patchlet::{Error, Kind, Platform, SiteSet};

use crate::frame::Frame;
use crate::hook::{trap, wait_for};
use crate::image::{self, Image, Raw, Site, call, jump, target};

/// The text of several images, each mapped twice.
#[derive(Clone, Debug)]
struct AllText {
    pieces: Vec<(Range<usize>, usize)>,
    /// A site whose alias is somewhere else, in memory that nothing else uses.
    astray: Option<usize>,
}

impl AllText {
    fn of(images: &[&Image]) -> Self {
        let piece = |image: &&Image| (image.text(), image.arena.alias_offset());
        Self { pieces: images.iter().map(piece).collect(), astray: None }
    }

    fn piece(&self, address: usize) -> (Range<usize>, usize) {
        let found = self.pieces.iter().find(|(text, _)| text.contains(&address));
        found.unwrap_or(&self.pieces[0]).clone()
    }
}

// SAFETY: the arenas are mapped twice. Where an alias goes astray the contract is broken on
// purpose.
unsafe impl Platform for AllText {
    fn text(&self) -> Range<usize> {
        self.pieces[0].0.clone()
    }

    fn text_around(&self, address: usize) -> Range<usize> {
        self.piece(address).0
    }

    fn alias(&self, address: usize) -> *mut u8 {
        let offset = self.piece(address).1;
        let alias = address.wrapping_add(offset);
        // Behind the text of the image there are only records, and behind these nothing.
        let alias = if self.astray == Some(address) { alias + 0x1800 } else { alias };
        std::ptr::with_exposed_provenance_mut(alias)
    }
}

// SAFETY: as above.
unsafe impl LivePlatform for AllText {}

/// Calls back between the steps, and while others are stopped.
struct Between<F>(F);

// SAFETY: nobody executes an arena.
unsafe impl<F: Fn(Option<BatchStep>)> Synchronize for Between<F> {
    fn sync_all(&self) {}

    fn between_steps(&self, step: BatchStep) {
        (self.0)(Some(step));
    }
}

// SAFETY: nobody executes an arena.
unsafe impl<F: Fn(Option<BatchStep>)> StopOthers for Between<F> {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        (self.0)(None);
        write()
    }
}

/// Sites of the kernel's ops.
const KERNEL: [Site; 3] = [call(0x200, 0), call(0x300, 1), jump(0x400, 0)];
/// Sites of a module: of an op of the kernel, and of its own.
const OF_KERNEL: [Site; 2] = [call(0x500, 0), call(0x600, 1)];
const OWN: Site = call(0x700, 0);

/// A kernel and what is loaded into it. All ops have a patchlet and no thread is inside, so
/// everything may become everything.
struct Kernel {
    image: Image,
    live: &'static Live<'static>,
}

struct Module {
    image: Image,
    set: &'static SiteSet<'static>,
    member: Member<'static>,
}

impl Kernel {
    fn new() -> Self {
        let mut image = Image::new(&[Some(&[0xfa]), Some(&[0xfb])]);
        KERNEL.iter().for_each(|&site| image.site(site));
        let live = image.live();
        Self { image, live }
    }

    /// Loads a module with these sites of the kernel's ops, and one of its own.
    fn load(&self) -> Module {
        self.load_with(|_| ())
    }

    /// Loads a module that `change` has changed.
    fn load_with(&self, change: impl FnOnce(&mut Image)) -> Module {
        let mut image = Image::new(&[Some(&[0xf4])]);
        for site in OF_KERNEL {
            let raw = Raw { slot: self.image.slot(site.op), ..image.raw(site) };
            image.arena.write(site.at, &image.unpatched_through(site, raw.slot));
            image.record(raw);
        }
        image.site(OWN);
        change(&mut image);
        let source = image::source_of(&[self.image.table, image.table]);
        let set = image::leak_set(image.sites(), source);
        let member = Member::new(set, image.text());
        Module { image, set, member }
    }

    fn platform(&self, modules: &[&Module]) -> AllText {
        let modules = modules.iter().map(|module| &module.image);
        AllText::of(&std::iter::once(&self.image).chain(modules).collect::<Vec<_>>())
    }

    fn join(&self, module: &Module) -> Result<Report, Error> {
        // SAFETY: nobody executes an arena; and members are dropped after they left, or after the
        // last use of the list.
        unsafe { self.live.join(&module.member, &mut self.platform(&[module])) }
    }

    fn leave(&self, module: &Module) -> Result<(), Error> {
        // SAFETY: nobody executes an arena.
        unsafe { self.live.leave(&module.member, std::thread::yield_now) }
    }

    fn int3<F: Fn(Option<BatchStep>)>(
        &self,
        platform: AllText,
        act: F,
    ) -> Int3<'static, AllText, Between<F>> {
        // SAFETY: nobody executes an arena.
        unsafe { Int3::with_nobody_inside(self.live, platform, Between(act)) }
    }

    fn rendezvous<F: Fn(Option<BatchStep>)>(
        &self,
        platform: AllText,
        act: F,
    ) -> Rendezvous<'static, AllText, Between<F>> {
        // SAFETY: nobody executes an arena.
        unsafe { Rendezvous::new(self.live, platform, Between(act)) }
    }
}

impl Module {
    fn address(&self, site: Site) -> usize {
        self.image.arena.address(site.at)
    }

    /// Returns what the site calls, if it is a direct call.
    fn called(&self, site: Site) -> Option<usize> {
        called(&self.image, site)
    }

    fn is_unpatched(&self) -> bool {
        let all = OF_KERNEL.iter().chain([&OWN]);
        all.into_iter().all(|site| self.image.at(site.at, 1) == [0xff])
    }
}

fn called(image: &Image, site: Site) -> Option<usize> {
    let bytes = image.at(site.at, 5);
    let end = image.arena.address(site.at) + 5;
    let distance = i32::from_le_bytes(bytes[1..].try_into().unwrap());
    let opcode = if site.kind == Kind::Call { 0xe8 } else { 0xe9 };
    (bytes[0] == opcode).then_some(end.wrapping_add_signed(distance as isize))
}

/// A function near the kernel's image.
fn function(kernel: &Kernel, number: usize) -> Target {
    target(kernel.image.arena.address(0x5000 + 0x10 * number))
}

#[test]
fn a_module_is_patched_when_it_joins_and_follows_each_switch_until_it_leaves() {
    let kernel = Kernel::new();
    let [first, second] = [kernel.load(), kernel.load()];
    kernel.image.set(0, function(&kernel, 0));
    // What slots say now, whatever the kernel's own sites hold.
    let report = kernel.join(&first).unwrap();
    assert_eq!((report.sites, report.changed, report.calls, report.patchlets), (3, 3, 1, 2));
    assert_eq!(first.called(OF_KERNEL[0]), Some(function(&kernel, 0).address()));
    assert_eq!(first.image.at(OF_KERNEL[1].at, 1), [0xfb]);
    assert_eq!(first.image.at(OWN.at, 1), [0xf4]);
    assert_eq!(kernel.image.at(KERNEL[0].at, 1), [0xff], "the kernel is not switched");
    kernel.join(&second).unwrap();

    let platform = kernel.platform(&[&first, &second]);
    let mut int3 = kernel.int3(platform.clone(), |_| ());
    let mut rendezvous = kernel.rendezvous(platform, |_| ());
    let report = int3.apply().unwrap();
    assert_eq!((report.sites, report.changed), (9, 3), "those of the kernel");

    for (number, by_int3) in [(1, true), (2, false), (3, true), (4, false)] {
        let to = function(&kernel, number);
        kernel.image.set(0, to);
        kernel.image.set(1, to);
        first.image.set(0, to);
        let report = if by_int3 { int3.apply() } else { rendezvous.apply() }.unwrap();
        // The second module's own op has not changed.
        assert_eq!((report.sites, report.changed), (9, 3 + 3 + 2), "{number}");
        for module in [&first, &second] {
            for site in OF_KERNEL {
                assert_eq!(module.called(site), Some(to.address()), "{number}");
            }
        }
        assert_eq!(first.called(OWN), Some(to.address()));
        for site in KERNEL {
            assert_eq!(called(&kernel.image, site), Some(to.address()));
        }
    }
    let report = int3.revert().unwrap();
    assert_eq!((report.changed, report.indirect), (9, 9));
    assert!(first.is_unpatched() && second.is_unpatched());
    assert_eq!(rendezvous.apply().unwrap().changed, 9);
    assert_eq!(rendezvous.revert().unwrap().changed, 9);
    assert_eq!(int3.apply().unwrap().changed, 9);

    // What has left is not touched any more, and the other one still is.
    kernel.leave(&first).unwrap();
    let before = first.image.bytes();
    let report = int3.revert().unwrap();
    assert_eq!((report.sites, report.changed), (6, 6));
    assert_eq!(rendezvous.apply().unwrap().changed, 6);
    assert!(first.image.bytes() == before);
    // And it may come again, to where it is.
    kernel.image.set(0, Target::NOP);
    assert_eq!(kernel.join(&first).unwrap().changed, 1);
    kernel.leave(&second).unwrap();
    kernel.leave(&first).unwrap();
    assert_eq!(int3.apply().unwrap().sites, 3);
}

#[test]
fn any_member_can_leave_and_the_others_are_found() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let kernel = Kernel::new();
        let modules = [kernel.load(), kernel.load(), kernel.load()];
        modules.iter().for_each(|module| assert!(kernel.join(module).is_ok()));
        let mut joined = vec![0, 1, 2];
        for leaving in order {
            kernel.leave(&modules[leaving]).unwrap();
            joined.retain(|&number| number != leaving);
            for (number, module) in modules.iter().enumerate() {
                let address = module.address(OWN);
                // The site holds no INT3, so a trap there would be a late one.
                let again = joined.contains(&number).then(|| Frame { ip: address, stack: vec![] });
                assert_eq!(trap(kernel.live, address), again, "{order:?}: {number}");
            }
        }
    }
}

#[test]
fn a_trap_in_a_module_does_what_its_site_will_do() {
    let kernel = Kernel::new();
    let module = kernel.load();
    kernel.join(&module).unwrap();
    let to = [function(&kernel, 0), Target::NOP, function(&kernel, 1)];
    kernel.image.set(0, to[0]);
    kernel.image.set(1, to[1]);
    module.image.set(0, to[2]);
    let steps = RefCell::new(Vec::new());
    let sites = [OF_KERNEL[0], OF_KERNEL[1], OWN];
    let mut int3 = kernel.int3(kernel.platform(&[&module]), |step| {
        steps.borrow_mut().push(step);
        for (site, to) in sites.iter().zip(to) {
            let address = module.address(*site);
            let frame = if to == Target::NOP {
                Frame { ip: address + 6, stack: vec![] }
            } else {
                Frame { ip: to.address(), stack: vec![address + 6] }
            };
            assert_eq!(trap(kernel.live, address), Some(frame), "{site:?} at {step:?}");
            assert_eq!(trap(kernel.live, address + 1), None, "inside of a site");
        }
        let all = kernel.image.bytes();
        let stands = |bytes: &[u8], site: &Site| bytes[site.at] == INT3;
        let here = module.image.bytes();
        let number = KERNEL.iter().filter(|site| stands(&all, site)).count()
            + sites.iter().filter(|site| stands(&here, site)).count();
        let expected = match step {
            Some(BatchStep::Published | BatchStep::FirstWritten | BatchStep::FirstSynced) => 0,
            _ => 6,
        };
        assert_eq!(number, expected, "{step:?}: kernel and module change together");
    });
    assert_eq!(int3.apply().unwrap().changed, 6);
    assert_eq!(steps.borrow().len(), 7);
}

/// A refusal: no member has joined, no byte has changed, and what was joined is switched.
fn refused(kernel: &Kernel, module: &Module, is_right: impl Fn(&Error) -> bool) {
    let before = [kernel.image.bytes(), module.image.bytes()];
    let error = kernel.join(module).expect_err("it cannot join");
    assert!(is_right(&error), "{error:?}");
    assert!([kernel.image.bytes(), module.image.bytes()] == before, "{error}");
    assert_eq!(trap(kernel.live, module.address(OWN)), None, "{error}");
    assert_eq!(kernel.leave(module), Err(Error::NotJoined), "{error}");
    let report = kernel.int3(kernel.platform(&[]), |_| ()).apply().unwrap();
    assert_eq!(report.sites, KERNEL.len(), "{error}");
    kernel.int3(kernel.platform(&[]), |_| ()).revert().unwrap();
}

#[test]
fn a_set_that_has_joined_does_not_join_again() {
    let kernel = Kernel::new();
    let module = kernel.load();
    kernel.join(&module).unwrap();
    assert_eq!(kernel.join(&module), Err(Error::AlreadyJoined));
    // By another member of the same set.
    let other = Member::new(module.set, module.image.text());
    let mut platform = kernel.platform(&[&module]);
    let join = |live: &Live<'_>, member: &Member<'_>, platform: &mut AllText| {
        // SAFETY: nobody executes an arena, and nothing joins.
        unsafe { live.join(member, platform) }
    };
    assert_eq!(join(kernel.live, &other, &mut platform), Err(Error::AlreadyJoined));
    // Elsewhere.
    let elsewhere = Kernel::new();
    assert_eq!(elsewhere.join(&module), Err(Error::AlreadyJoined));
    assert_eq!(elsewhere.leave(&module), Err(Error::NotJoined));
    // A set of the kernel's.
    let own = Member::new(kernel.live.sets()[0], kernel.image.text());
    assert_eq!(join(kernel.live, &own, &mut platform), Err(Error::AlreadyJoined));
    // It is still there, once.
    assert_eq!(kernel.int3(platform, |_| ()).apply().unwrap().sites, 6);
    kernel.leave(&module).unwrap();
    assert_eq!(kernel.leave(&module), Err(Error::NotJoined));
    kernel.join(&module).unwrap();
    kernel.leave(&module).unwrap();
    refused_before_it_joined();
}

fn refused_before_it_joined() {
    let kernel = Kernel::new();
    let module = kernel.load();
    assert_eq!(kernel.leave(&module), Err(Error::NotJoined));
}

#[test]
fn a_record_outside_the_module_is_refused() {
    let kernel = Kernel::new();
    // The site of another module, which the platform would write to: a call, in text.
    let victim = kernel.load();
    let module = kernel.load_with(|image| {
        image.record(Raw { site: victim.address(OWN), ..image.raw(OWN) });
    });
    let before = victim.image.bytes();
    let platform = &mut kernel.platform(&[&module, &victim]);
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&module.member, platform) }.unwrap_err();
    let (text, site) = (module.image.text(), victim.address(OWN));
    // The text of the other module and that of this one have nothing in common.
    let Error::OutsideText { index: 3, site: found, start, end } = error else {
        panic!("{error:?}")
    };
    assert_eq!(found, site);
    assert!(start >= end || (start..end) == text, "{error}");
    assert!(victim.image.bytes() == before && module.is_unpatched());
    // A site of the kernel's.
    let module = kernel.load_with(|image| {
        let site = kernel.image.arena.address(KERNEL[0].at);
        image.record(Raw { site, ..image.raw(OWN) });
    });
    refused(&kernel, &module, |error| matches!(error, Error::OutsideText { index: 3, .. }));
    // A site at the end of the module's text, which goes on in the platform's.
    let module = kernel.load();
    let text = module.image.text();
    let short = Member::new(module.set, text.start..module.address(OWN) + 5);
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&short, &mut kernel.platform(&[&module])) }.unwrap_err();
    assert!(matches!(error, Error::OutsideText { index: 2, .. }), "{error:?}");
    assert!(module.is_unpatched());
}

#[test]
fn the_slot_of_a_table_that_nobody_gave_is_refused() {
    let kernel = Kernel::new();
    let stranger = Kernel::new();
    let module = kernel.load_with(|image| {
        let slot = stranger.image.slot(0);
        image.arena.write(0x800, &image.unpatched_through(call(0x800, 0), slot));
        image.record(Raw { slot, ..image.raw(call(0x800, 0)) });
    });
    let slot = stranger.image.slot(0);
    refused(
        &kernel,
        &module,
        |error| matches!(error, Error::UnknownSubject { index: 3, subject, number: 0, .. } if *subject == slot),
    );
    // The tables are given, but not a state for each op.
    let module = kernel.load();
    let source = image::source_of(&[kernel.image.table]);
    let set = image::leak_set(module.image.sites(), source);
    let member = Member::new(set, module.image.text());
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&member, &mut kernel.platform(&[&module])) }.unwrap_err();
    assert!(matches!(error, Error::UnknownSubject { index: 2, .. }), "{error:?}");
    assert!(module.is_unpatched());
}

#[test]
fn a_module_that_overlaps_another_is_refused() {
    let kernel = Kernel::new();
    let module = kernel.load();
    kernel.join(&module).unwrap();
    // The same text, whatever the sites.
    let empty = Member::new(image::leak_set(module.image.sites(), image::source_of(&[])), {
        let text = module.image.text();
        text.end - 1..text.end + 0x100
    });
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&empty, &mut kernel.platform(&[&module])) };
    let (start, end) = (empty.text().start, empty.text().end);
    assert_eq!(error, Err(Error::SharedText { start, end, other: module.image.text().start }));
    // A site of the kernel's, in a member whose text is the kernel's.
    let within = Member::new(
        image::leak_set(kernel.image.sites(), image::source_of(&[kernel.image.table])),
        kernel.image.text(),
    );
    let before = kernel.image.bytes();
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&within, &mut kernel.platform(&[])) };
    let site = kernel.image.arena.address(KERNEL[0].at);
    let Err(Error::Overlap { site: found, other, .. }) = error else { panic!("{error:?}") };
    assert_eq!((found, other), (site, site));
    assert!(kernel.image.bytes() == before);
    kernel.leave(&module).unwrap();
}

/// Two sets of the kernel that overlap are the kernel's fault. Its writers tell, and a module that
/// joins meanwhile is not blamed.
#[test]
fn a_module_is_not_blamed_for_sets_that_overlap_without_it() {
    let kernel = Kernel::new();
    let again = image::leak_set(kernel.image.sites(), image::source_of(&[kernel.image.table]));
    let sets: &'static [&'static SiteSet<'static>] =
        Box::leak(Box::new([kernel.live.sets()[0], again]));
    let kernel = Kernel { live: Box::leak(Box::new(Live::new(sets))), ..kernel };
    let module = kernel.load();
    kernel.join(&module).unwrap();
    assert!(!module.is_unpatched());
    let site = kernel.image.arena.address(KERNEL[0].at);
    let error = kernel.int3(kernel.platform(&[&module]), |_| ()).apply().unwrap_err();
    assert!(
        matches!(error, Error::Overlap { site: found, other, .. } if found == site && other == site),
        "{error:?}"
    );
    kernel.leave(&module).unwrap();
}

#[test]
fn bytes_that_are_nobodys_are_refused() {
    let kernel = Kernel::new();
    let module = kernel.load_with(|image| image.arena.write(OWN.at, &[0x0f, 0x0b]));
    let site = module.address(OWN);
    refused(
        &kernel,
        &module,
        |error| matches!(error, Error::OldBytes { site: found, .. } if *found == site),
    );
}

#[test]
fn during_a_batch_nobody_joins_or_leaves() {
    let kernel = Kernel::new();
    let [module, other] = [kernel.load(), kernel.load()];
    kernel.join(&module).unwrap();
    let asked = RefCell::new(0);
    let ask = |_| {
        *asked.borrow_mut() += 1;
        let before = other.image.bytes();
        assert_eq!(kernel.join(&other), Err(Error::Busy));
        assert_eq!(kernel.leave(&module), Err(Error::Busy));
        assert!(other.image.bytes() == before);
    };
    let platform = kernel.platform(&[&module, &other]);
    assert_eq!(kernel.int3(platform.clone(), ask).apply().unwrap().sites, 6);
    assert_eq!(kernel.rendezvous(platform.clone(), ask).revert().unwrap().sites, 6);
    assert_eq!(*asked.borrow(), 7 + 1);
    // While the hook is waited for, no batch begins and nobody else joins.
    kernel.join(&other).unwrap();
    kernel.leave(&module).unwrap();
    kernel.leave(&other).unwrap();
}

/// A module that cannot be written: what was written before, of the kernel and of other modules, is
/// put back.
#[test]
fn a_member_that_cannot_be_written_leaves_all_as_it_was() {
    let kernel = Kernel::new();
    let [first, second] = [kernel.load(), kernel.load()];
    kernel.join(&first).unwrap();
    kernel.join(&second).unwrap();
    let images = [&kernel.image, &first.image, &second.image];
    for module in [&first, &second] {
        for by_int3 in [true, false] {
            let before = images.map(|image| image.bytes()[..0x1800].to_vec());
            let mut platform = kernel.platform(&[&first, &second]);
            platform.astray = Some(module.address(OF_KERNEL[1]));
            let to = function(&kernel, 7 + usize::from(by_int3));
            kernel.image.set(0, to);
            kernel.image.set(1, to);
            let error = if by_int3 {
                kernel.int3(platform, |_| ()).apply()
            } else {
                kernel.rendezvous(platform, |_| ()).apply()
            };
            let site = module.address(OF_KERNEL[1]);
            assert_eq!(error.unwrap_err().site(), Some(site), "{by_int3}");
            let after = images.map(|image| image.bytes()[..0x1800].to_vec());
            assert!(after == before, "{by_int3}");
        }
    }
    // And the next one may try.
    let platform = kernel.platform(&[&first, &second]);
    assert_eq!(kernel.int3(platform, |_| ()).apply().unwrap().changed, 3 + 2 + 2);
    // The same when it joins.
    let third = kernel.load();
    let mut platform = kernel.platform(&[&third]);
    platform.astray = Some(third.address(OWN));
    // SAFETY: nobody executes an arena, and nothing joins.
    let error = unsafe { kernel.live.join(&third.member, &mut platform) }.unwrap_err();
    assert_eq!(error.site(), Some(third.address(OWN)));
    assert!(third.is_unpatched());
    kernel.join(&third).unwrap();
}

/// A frame in which a CPU stays for a while that trapped late: in the hook, which has found the
/// site and goes back to it.
struct Held<'h> {
    ip: usize,
    inside: &'h AtomicBool,
    go_on: &'h AtomicBool,
}

// SAFETY: no code returns from this frame.
unsafe impl TrapFrame for Held<'_> {
    fn ip(&self) -> usize {
        self.ip
    }

    fn set_ip(&mut self, ip: usize) {
        self.inside.store(true, SeqCst);
        wait_for(self.go_on);
        self.ip = ip;
    }

    fn push(&mut self, _: usize) {
        unreachable!("there is no batch");
    }
}

#[test]
fn a_member_leaves_when_no_cpu_is_in_the_hook() {
    let kernel = Kernel::new();
    let module = kernel.load();
    kernel.join(&module).unwrap();
    let (live, member, address) = (kernel.live, &module.member, module.address(OWN));
    let flag = || AtomicBool::new(false);
    let (inside, go_on, waits, left) = (flag(), flag(), flag(), flag());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut held = Held { ip: address + 1, inside: &inside, go_on: &go_on };
            let handled = live.handle(&mut held);
            assert!(!left.load(SeqCst), "left under a CPU that uses it");
            (handled, held.ip)
        });
        wait_for(&inside);
        let writer = scope.spawn(|| {
            // SAFETY: nobody executes an arena.
            let result = unsafe { live.leave(member, || waits.store(true, SeqCst)) };
            left.store(true, SeqCst);
            result
        });
        wait_for(&waits);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!left.load(SeqCst), "left under a CPU that uses it");
        // Who comes now does not find it.
        assert_eq!(trap(live, address), None);
        // SAFETY: nobody executes an arena, and nothing leaves.
        assert_eq!(unsafe { live.leave(member, || ()) }, Err(Error::Busy));
        go_on.store(true, SeqCst);
        assert_eq!(reader.join().unwrap(), (Handled::Yes, address));
        assert_eq!(writer.join().unwrap(), Ok(()));
    });
}

/// Modules come and go beside CPUs in the hook, for the sites of a module that stays.
#[test]
fn the_hook_finds_a_member_while_others_come_and_go() {
    let kernel = Kernel::new();
    let stays = kernel.load();
    kernel.join(&stays).unwrap();
    let (live, address) = (kernel.live, stays.address(OWN));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let again = Frame { ip: address, stack: vec![] };
                    assert_eq!(trap(live, address), Some(again));
                }
            });
        }
        let module = kernel.load();
        for _ in 0..300 {
            // In front of the one that stays.
            let member = Box::new(Member::new(module.set, module.image.text()));
            let platform = &mut kernel.platform(&[&module]);
            // SAFETY: nobody executes an arena, and the member leaves before it is dropped.
            unsafe {
                live.join(&member, platform).unwrap();
                live.leave(&member, std::thread::yield_now).unwrap();
            }
            // What a CPU would find that still had its address.
            let freed: *mut Member<'_> = Box::into_raw(member);
            // SAFETY: nobody has it any more; a member has nothing to drop.
            unsafe {
                freed.cast::<u8>().write_bytes(0xff, size_of::<Member<'_>>());
                drop(Box::from_raw(freed.cast::<[u8; size_of::<Member<'_>>()]>()));
            }
        }
        done.store(true, SeqCst);
    });
}
