//! The #BP hook: what a CPU does that traps, in every step, before it, late, and
//! at an INT3 that is somebody else's.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use patchlet::live::{BatchStep, Handled, INT3, Int3, Live, Synchronize, TrapFrame};
use patchlet::ops::Target;
use patchlet::{Kind, native};

use crate::frame::Frame;
use crate::image::{Image, Site, call, jump, target};

/// What the hook answers at this address.
pub fn trap(live: &Live<'_>, address: usize) -> Option<Frame> {
    let mut frame = Frame { ip: address + 1, stack: Vec::new() };
    match live.handle(&mut frame) {
        Handled::Yes => Some(frame),
        Handled::No => {
            assert_eq!(frame, Frame { ip: address + 1, stack: Vec::new() }, "touched");
            None
        }
    }
}

/// Calls back between the steps.
struct Between<F>(F);

// SAFETY: nobody executes an arena.
unsafe impl<F: Fn(BatchStep)> Synchronize for Between<F> {
    fn sync_all(&self) {}

    fn between_steps(&self, step: BatchStep) {
        (self.0)(step);
    }
}

fn end(image: &Image, site: Site) -> usize {
    image.arena.address(site.at) + usize::from(site.capacity)
}

/// One op of each kind, each with a call of 6 bytes, one of 9, and a jump.
#[test]
fn a_trap_does_what_the_site_will_do() {
    let mut image = Image::new(&[Some(&[0xfa][..]); 5]);
    let sites: Vec<Site> = (0..5)
        .flat_map(|op| {
            let at = 0x200 + 0x100 * op;
            [call(at, op), Site { capacity: 9, ..call(at + 0x20, op) }, jump(at + 0x40, op)]
        })
        .collect();
    sites.iter().for_each(|&site| image.site(site));
    let a = target(image.arena.address(0x5000));
    let native_function = image.table.ops()[1].native();
    let held = [a, native_function, Target::NOP, Target::IDENT, Target::NULL];
    for (op, held) in held.into_iter().enumerate() {
        image.set(op, held);
    }
    let expected = |site: Site| {
        let to = match site.op {
            4 => native::ud2.native() as usize,
            op => held[op].address(),
        };
        match (site.kind, site.op) {
            (Kind::Jump, _) => Frame { ip: to, stack: vec![] },
            (Kind::Call, 2) => Frame { ip: end(&image, site), stack: vec![] },
            (Kind::Call, _) => Frame { ip: to, stack: vec![end(&image, site)] },
        }
    };

    let live = image.live();
    let steps = RefCell::new(Vec::new());
    let between = Between(|step| {
        if steps.borrow().len() == 7 {
            return;
        }
        steps.borrow_mut().push(step);
        if step == BatchStep::Int3Synced {
            // What other CPUs set meanwhile is for the next batch.
            image.set(0, Target::NOP);
        }
        for &site in &sites {
            let address = image.arena.address(site.at);
            assert_eq!(trap(live, address), Some(expected(site)), "{site:?} at {step:?}");
            assert_eq!(trap(live, address + 1), None, "inside of a site at {step:?}");
        }
        assert_eq!(trap(live, image.arena.address(0x180)), None, "no site");
    });
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, image.second_mapping(), between) };
    let report = int3.apply().unwrap();
    assert_eq!((report.changed, report.indirect), (sites.len(), 0));
    assert_eq!((report.calls, report.jumps), (2, 1), "as it was when the batch began");
    assert_eq!(
        *steps.borrow(),
        [
            BatchStep::Published,
            BatchStep::Int3Written,
            BatchStep::Int3Synced,
            BatchStep::TailsWritten,
            BatchStep::TailsSynced,
            BatchStep::FirstWritten,
            BatchStep::FirstSynced
        ]
    );
    let before = image.bytes();
    assert_eq!(int3.apply().unwrap().changed, 3, "the slot that was set meanwhile");
    assert_ne!(image.bytes(), before);
    assert_eq!(int3.apply().unwrap().changed, 0);
}

/// Towards the indirect call, the slot counts as it is at that moment.
#[test]
fn a_trap_while_reverting_goes_through_the_slot() {
    let mut image = Image::new(&[None]);
    let site = call(0x200, 0);
    image.site(site);
    let live = image.live();
    let [a, b] = [0x5000, 0x6000].map(|at| target(image.arena.address(at)));
    image.set(0, a);
    let reverting = Cell::new(false);
    let between = Between(|step| {
        if !reverting.get() {
            return;
        }
        let held = if step == BatchStep::Int3Synced { b } else { a };
        image.set(0, held);
        let found = trap(live, image.arena.address(site.at)).unwrap();
        assert_eq!(found, Frame { ip: held.address(), stack: vec![end(&image, site)] });
    });
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, image.second_mapping(), between) };
    int3.apply().unwrap();
    reverting.set(true);
    assert_eq!(int3.revert().unwrap().indirect, 1);
    assert_eq!(image.at(site.at, 6), image.unpatched(site));
}

#[test]
fn a_late_trap_executes_the_site_again() {
    let mut image = Image::new(&[None]);
    let site = call(0x200, 0);
    image.site(site);
    let address = image.arena.address(site.at);
    let live = image.live();
    let again = Some(Frame { ip: address, stack: vec![] });
    // Also before the first batch: the byte is an instruction, so go there.
    assert_eq!(trap(live, address), again);
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::new(live, image.second_mapping(), Between(|_| ())) };
    int3.apply().unwrap();
    assert_eq!(trap(live, address), again);

    // A debugger's INT3, with no batch about: not ours.
    image.arena.write(site.at, &[INT3]);
    assert_eq!(trap(live, address), None);
}

/// A table that no linker sorted: found all the same.
#[test]
fn sites_out_of_order_are_found() {
    let mut image = Image::new(&[None]);
    let sites = [0x700, 0x200, 0x900, 0x300, 0x100, 0x1000].map(|at| call(at, 0));
    sites.iter().for_each(|&site| image.site(site));
    let live = image.live();
    for site in sites {
        let address = image.arena.address(site.at);
        assert_eq!(image.sites().find(address).map(|record| record.site()), Some(address));
        assert_eq!(trap(live, address), Some(Frame { ip: address, stack: vec![] }));
    }
    assert!(image.sites().find(image.arena.address(0x201)).is_none());
}

/// A frame in which the hook stays for a while.
struct Slow<'s> {
    frame: Frame,
    inside: &'s AtomicBool,
    go_on: &'s AtomicBool,
}

// SAFETY: as for `Frame`.
unsafe impl TrapFrame for Slow<'_> {
    fn ip(&self) -> usize {
        self.frame.ip()
    }

    fn set_ip(&mut self, ip: usize) {
        self.frame.set_ip(ip);
    }

    fn push(&mut self, value: usize) {
        self.inside.store(true, SeqCst);
        wait_for(self.go_on);
        self.frame.push(value);
    }
}

#[test]
fn a_batch_is_retired_when_no_cpu_is_in_the_hook() {
    let mut image = Image::new(&[None]);
    let site = call(0x200, 0);
    image.site(site);
    let (table, platform) = (image.table, image.second_mapping());
    let (address, end) = (image.arena.address(site.at), end(&image, site));
    let live = image.live();
    let (inside, go_on, done) =
        (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let (trapped, synced) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: nobody executes an arena.
            let mut int3 = unsafe {
                Int3::new(
                    live,
                    platform,
                    Between(|step| {
                        if step == BatchStep::Int3Synced {
                            trapped.store(true, SeqCst);
                            wait_for(&inside);
                        }
                        synced.store(step == BatchStep::FirstSynced, SeqCst);
                    }),
                )
            };
            int3.apply().unwrap();
            done.store(true, SeqCst);
        });
        wait_for(&trapped);
        let mut slow = Slow {
            frame: Frame { ip: address + 1, stack: vec![] },
            inside: &inside,
            go_on: &go_on,
        };
        let reader = scope.spawn(|| {
            let handled = live.handle(&mut slow);
            (handled, slow.frame)
        });
        // The writer does not wait before it is at its end: no step does.
        wait_for(&synced);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!done.load(SeqCst), "retired under a CPU that uses it");
        go_on.store(true, SeqCst);
        let (handled, frame) = reader.join().unwrap();
        assert_eq!(handled, Handled::Yes);
        assert_eq!(frame, Frame { ip: table.get(0).unwrap().address(), stack: vec![end] });
    });
    assert!(done.load(SeqCst));
}

/// Asked at any moment, beside a writer: a batch that begins or ends while the hook
/// looks is no reason to take its INT3 for somebody else's.
#[test]
fn no_int3_of_a_batch_is_taken_for_somebody_elses() {
    let mut image = Image::new(&[None]);
    let site = call(0x200, 0);
    image.site(site);
    image.set(0, Target::NOP);
    let (platform, address) = (image.second_mapping(), image.arena.address(site.at));
    let live = image.live();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: nobody executes an arena.
            let mut int3 = unsafe { Int3::new(live, platform, Between(|_| ())) };
            for _ in 0..20_000 {
                int3.apply().unwrap();
                int3.revert().unwrap();
            }
            done.store(true, SeqCst);
        });
        while !done.load(SeqCst) {
            assert!(trap(live, address).is_some(), "somebody else's");
        }
    });
}

/// The hook looks for a batch, finds an INT3, and looks again: a whole batch can come
/// and go meanwhile, and its number alone tells.
#[test]
fn after_each_batch_there_is_another_number() {
    let mut image = Image::new(&[None]);
    image.site(call(0x200, 0));
    let live = image.live();
    let number = || {
        let shown = format!("{live:?}");
        let (_, batch) = shown.split_once(" batch: ").unwrap();
        batch.split_once(',').unwrap().0.to_owned()
    };
    // SAFETY: nobody executes an arena.
    let mut int3 =
        unsafe { Int3::with_nobody_inside(live, image.second_mapping(), Between(|_| ())) };
    let mut numbers = BTreeSet::from([number()]);
    for _ in 0..3 {
        int3.apply().unwrap();
        assert!(numbers.insert(number()), "{} again", number());
        int3.revert().unwrap();
        assert!(numbers.insert(number()), "{} again", number());
    }
}

pub fn wait_for(flag: &AtomicBool) {
    let start = std::time::Instant::now();
    while !flag.load(SeqCst) {
        assert!(start.elapsed() < Duration::from_secs(60), "the other thread does not come");
        std::thread::yield_now();
    }
}

/// Sites are linked into the range the tests' own process has none of.
#[test]
fn a_static_needs_no_sites_of_its_own() {
    patchlet::site_set! {
        static PROCESS = [patchlet::pv];
    }
    static LIVE: Live<'static> = Live::new(&[&PROCESS]);
    let elsewhere: Range<usize> = 0x1000..0x1004;
    for address in elsewhere {
        assert_eq!(trap(&LIVE, address), None);
    }
}

/// What the fault handler needs: the page, and how far the writer is.
static PAGE: AtomicUsize = AtomicUsize::new(0);
static MAY_BEGIN: AtomicBool = AtomicBool::new(false);
static INT3_STANDS: AtomicBool = AtomicBool::new(false);

/// Makes the page readable again and lets a batch begin, before the hook goes on to read.
extern "C" fn begin_a_batch(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let page = PAGE.load(SeqCst);
    // SAFETY: the kernel passes what it has to say of a fault.
    let address = unsafe { (*info).si_addr() }.addr();
    if address & !0xfff != page {
        // A fault of somebody else's: the next one is the last.
        // SAFETY: as at the start of a process.
        unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        return;
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a page of this test's arena.
    unsafe { libc::mprotect(std::ptr::without_provenance_mut(page), 0x1000, access) };
    MAY_BEGIN.store(true, SeqCst);
    while !INT3_STANDS.load(SeqCst) {
        std::hint::spin_loop();
    }
}

/// Between the moment when the hook sees no batch and the one when it looks at the byte, a batch
/// begins: the INT3 is the batch's. The page of the site cannot be read, so that the hook stops
/// there.
#[test]
fn a_batch_that_begins_while_the_hook_looks_is_answered_for() {
    let mut image = Image::new(&[None]);
    let site = call(0x1200, 0);
    image.site(site);
    image.set(0, Target::NOP);
    let (platform, address) = (image.second_mapping(), image.arena.address(site.at));
    let live = image.live();
    let is_handled = AtomicBool::new(false);
    PAGE.store(image.arena.address(0x1000), SeqCst);
    // SAFETY: the handler does what one may; the page is this test's own.
    let before = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = begin_a_batch as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        let mut before = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, &raw mut before), 0);
        let page = image.arena.pointer(0x1000).cast();
        assert_eq!(libc::mprotect(page, 0x1000, libc::PROT_NONE), 0);
        before
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for(&MAY_BEGIN);
            let between = Between(|step| {
                if step == BatchStep::Int3Synced {
                    INT3_STANDS.store(true, SeqCst);
                    wait_for(&is_handled);
                }
            });
            // SAFETY: nobody executes an arena.
            let mut int3 = unsafe { Int3::new(live, platform, between) };
            // The batch is not retired before the hook has been left.
            assert_eq!(int3.apply().unwrap().changed, 1);
        });
        let frame = trap(live, address);
        is_handled.store(true, SeqCst);
        // SAFETY: what was there before.
        unsafe { libc::sigaction(libc::SIGSEGV, &raw const before, std::ptr::null_mut()) };
        assert_eq!(frame, Some(Frame { ip: address + 6, stack: vec![] }));
    });
}
