//! Static branches while all CPUs run, alone and beside the sites of ops: every switch of a branch
//! against the explorer, the broken protocols too; the hook; and changes as transactions.

use std::cell::Cell;
use std::ops::Range;

use patchlet::live::{BatchStep, Handled, INT3, Int3, Rendezvous, StopOthers, Synchronize};
use patchlet::ops::Target;
use patchlet::{Error, Nops, OneCpu};

use crate::branch_image::{Branch, BranchImage};
use crate::explorer::{Run, explore};
use crate::frame::Frame;
use crate::image::{Site, call, target};
use crate::protocol::{BROKEN, differing};
use crate::recording::{Event, Recorder, bytes};
use crate::writers::Count;

/// A switch of a branch: which way it jumps, the state in which its key starts, and from which state
/// to which it is switched; `None` is what the assembler wrote.
#[derive(Clone, Copy, Debug)]
struct Switch {
    jumps_when_on: bool,
    starts_on: bool,
    from: Option<bool>,
    to: Option<bool>,
    target: usize,
}

/// All of them, with targets that differ from the site in one to four bytes of the displacement.
fn switches() -> impl Iterator<Item = Switch> {
    let both = [false, true];
    let states = [None, Some(false), Some(true)];
    let targets = [AT + 5, AT + 0x10, 0x100, 0x1c3c, AT + 5 + 0x0044_1f0f, AT + 0x1122_3344];
    targets.into_iter().flat_map(move |target| {
        both.into_iter().flat_map(move |jumps_when_on| {
            both.into_iter().flat_map(move |starts_on| {
                states.into_iter().flat_map(move |from| {
                    states.into_iter().map(move |to| Switch {
                        jumps_when_on,
                        starts_on,
                        from,
                        to,
                        target,
                    })
                })
            })
        })
    })
}

/// Across a page, and so across a line.
const AT: usize = 0xffe;

struct Program {
    image: BranchImage,
    branch: Branch,
    op: Site,
}

impl Program {
    /// One branch, and a site of an op right behind it.
    fn new(switch: &Switch) -> Self {
        let mut image = BranchImage::new(&[Some(&[0xfa])], &[switch.starts_on]);
        let op = call(AT + 5, 0);
        image.image.site(op);
        let Switch { jumps_when_on, target, .. } = *switch;
        let branch = Branch { at: AT, key: 0, jumps_when_on, target };
        image.branch(branch);
        Self { image, branch, op }
    }

    fn range_of(&self, at: usize, len: usize) -> Range<usize> {
        let start = self.image.image.arena.address(at);
        start..start + len
    }

    /// Applies at boot, or reverts.
    fn put(&self, state: Option<bool>) {
        let mut patcher = self.image.patcher(self.image.image.second_mapping());
        // SAFETY: nobody executes an arena.
        let report = unsafe {
            OneCpu::assume(|cpu| match state {
                Some(on) => patcher.change(&mut [self.image.to(0, on)], cpu),
                None => patcher.revert(cpu),
            })
        };
        report.unwrap();
    }

    /// Makes the switch by INT3, with threads inside, and returns what became of these bytes.
    fn switch(&self, switch: &Switch, watched: Range<usize>) -> Run {
        self.put(switch.from);
        let old = bytes(&watched);
        let recorder = Recorder::new(&self.image.image, watched.clone(), Nops::of_target());
        let live = self.image.live();
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::new(live, recorder.clone(), recorder.clone()) };
        let report = match switch.to {
            Some(on) => int3.change(&mut [self.image.to(0, on)]),
            None => int3.revert(),
        };
        report.unwrap_or_else(|error| panic!("{switch:?}: {error}"));
        let new = bytes(&watched);
        let events = recorder.finish();
        Run { address: watched.start as u64, codes: vec![old, new], events, nobody_inside: false }
    }
}

/// A branch is one instruction each way, so each switch is admitted with threads inside, and none
/// sees a mixture.
#[test]
fn no_cpu_sees_a_mixture_in_a_branch() {
    let mut switched = 0;
    for switch in switches() {
        let program = Program::new(&switch);
        // A revert would take the op from its patchlet, where a thread may be.
        let keeps_op = switch.from.is_some() == switch.to.is_some();
        if !keeps_op {
            program.image.image.set(0, Target::NULL);
        }
        let run = program.switch(&switch, program.range_of(AT, 5));
        let wrong = explore(&run);
        assert!(wrong.is_empty(), "{switch:?}: {run:x?}: {:x?}", wrong[0]);
        let expected =
            program.image.bytes_of(program.branch, switch.to.unwrap_or(switch.starts_on));
        assert_eq!(run.codes[1], expected, "{switch:?}");
        if run.codes[0] == run.codes[1] {
            continue;
        }
        switched += 1;
        let stores = differing(&run);
        let tail: Vec<_> = stores.iter().copied().filter(|&(at, _)| at > 0).collect();
        let mut events = vec![
            Event::Published,
            Event::Store(vec![(0, INT3)]),
            Event::Sync,
            Event::Store(tail.clone()),
            Event::Sync,
            Event::Store(vec![(0, run.codes[1][0])]),
            Event::Sync,
            Event::Retired,
        ];
        // Where jump and NOP have the same tail: `e9 1f 44 00 00`.
        events.retain(|event| *event != Event::Store(Vec::new()));
        assert_eq!(run.events, events, "{switch:?}");
    }
    assert!(switched > 80, "{switched}");
}

/// The same explorer and the same switches: each broken protocol is found.
#[test]
fn broken_protocols_are_found_in_branches() {
    let mut tried = 0;
    for switch in switches().filter(|switch| switch.from.is_some() && switch.to.is_some()) {
        let program = Program::new(&switch);
        let run = program.switch(&switch, program.range_of(AT, 5));
        if run.codes[0] == run.codes[1] {
            continue;
        }
        tried += 1;
        for (name, break_it) in BROKEN {
            let wrong = explore(&Run { events: break_it(&run), ..run.clone() });
            assert!(!wrong.is_empty(), "{name}: not found in {switch:?}: {run:x?}");
        }
    }
    assert!(tried > 40, "{tried}");
}

/// One batch for a branch and for a site of an op right behind it: neither sees a mixture, also in
/// the bytes of both together.
#[test]
fn no_cpu_sees_a_mixture_in_a_branch_beside_an_op() {
    let to = [Some(false), Some(true)];
    for switch in switches().filter(|switch| to.contains(&switch.to) && switch.from != switch.to) {
        for held in [Target::NOP, Target::NULL, target(0x1234)] {
            for watched in [AT..AT + 5, AT + 5..AT + 11] {
                let program = Program::new(&switch);
                // Something that one instruction fills, so that everything is admitted.
                program.image.image.set(0, Target::NULL);
                program.put(switch.from);
                let len = watched.len();
                let watched = program.range_of(watched.start, len);
                let old = bytes(&watched);
                let image = &program.image.image;
                let held = match held.address() {
                    0x1234 => target(image.arena.address(0x3000)),
                    _ => held,
                };
                let recorder = Recorder::new(image, watched.clone(), Nops::of_target());
                // SAFETY: nobody executes an arena; nothing calls through the slot.
                let (mut int3, slot) = unsafe {
                    let live = program.image.live();
                    let int3 = Int3::new(live, recorder.clone(), recorder.clone());
                    (int3, image.table.change(program.op.op, held).unwrap())
                };
                let on = switch.to.unwrap();
                let report = int3.change(&mut [program.image.to(0, on), slot]).unwrap();
                assert_eq!(report.sites, 2);
                let events = recorder.finish();
                let run = Run {
                    address: watched.start as u64,
                    codes: vec![old, bytes(&watched)],
                    events,
                    nobody_inside: false,
                };
                let syncs = run.events.iter().filter(|event| **event == Event::Sync).count();
                assert_eq!(syncs, if report.changed > 0 { 3 } else { 0 }, "{switch:?}");
                let wrong = explore(&run);
                assert!(wrong.is_empty(), "{switch:?} {held:?}: {run:x?}: {:x?}", wrong[0]);
            }
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

/// Two keys that start off and on, a branch of either kind for each, and a site of an op.
fn image() -> (BranchImage, Vec<Branch>) {
    let mut image = BranchImage::new(&[Some(&[0xfa])], &[false, true]);
    image.image.site(call(0x200, 0));
    let branches: Vec<_> = [(0, true), (0, false), (1, true), (1, false)]
        .into_iter()
        .enumerate()
        .map(|(index, (key, jumps_when_on))| {
            let (at, target) = (0x300 + 0x10 * index, 0x1000 + 0x10 * index);
            Branch { at, key, jumps_when_on, target }
        })
        .collect();
    branches.iter().for_each(|&branch| image.branch(branch));
    (image, branches)
}

/// What a CPU does that traps at this address.
fn trap(image: &BranchImage, live: &patchlet::live::Live<'_>, at: usize) -> Option<usize> {
    let mut frame = Frame { ip: image.image.arena.address(at) + 1, stack: Vec::new() };
    let handled = live.handle(&mut frame);
    assert_eq!(frame.stack, [0; 0], "a branch pushes nothing");
    (handled == Handled::Yes).then(|| frame.ip - image.image.arena.address(0))
}

/// Where a branch goes in this state of its key.
fn goes_to(branch: Branch, is_on: bool) -> usize {
    if is_on == branch.jumps_when_on { branch.target } else { branch.at + 5 }
}

/// In each step a CPU that traps does what the branch is going to do, whatever the keys say
/// meanwhile; and so it does while the branches are reverted.
#[test]
fn a_trap_at_a_branch_does_what_the_branch_will_do() {
    let (image, branches) = image();
    let live = image.live();
    let steps = Cell::new(0);
    let expected = Cell::new([true, false]);
    let between = Between(|step| {
        steps.set(steps.get() + 1);
        if step == BatchStep::Int3Synced {
            // What somebody presets meanwhile is for the next batch.
            image.counted(0).preset(0);
        }
        for &branch in &branches {
            let to = goes_to(branch, expected.get()[branch.key]);
            assert_eq!(trap(&image, live, branch.at), Some(to), "{branch:x?} at {step:?}");
            assert_eq!(trap(&image, live, branch.at + 1), None, "inside");
        }
    });
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, image.image.second_mapping(), between) };
    int3.change(&mut [image.to(0, true), image.to(1, false)]).unwrap();
    assert_eq!(steps.take(), 7);
    // Late: each executes its branch again.
    for branch in &branches {
        assert_eq!(trap(&image, live, branch.at), Some(branch.at));
    }
    image.counted(0).preset(1);
    expected.set([false, true]);
    int3.revert().unwrap();
    assert_eq!(steps.take(), 7);
    // And an INT3 that is nobody's batch is somebody else's.
    image.image.arena.write(branches[0].at, &[INT3]);
    assert_eq!(trap(&image, live, branches[0].at), None);
}

/// Three synchronizations for several keys and a slot in one list, and none where every direction
/// stays.
#[test]
fn synchronizations_of_a_change() {
    let (image, _) = image();
    let live = image.live();
    let synced = Count::default();
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, image.image.second_mapping(), &synced) };
    int3.apply().unwrap();
    assert_eq!(synced.0.take(), 3);
    // SAFETY: nothing calls through the slot.
    let slot = unsafe { image.image.table.change(0, Target::NOP) }.unwrap();
    let mut list = [image.to(0, true), image.to(1, false), slot];
    assert_eq!(int3.change(&mut list).unwrap().changed, 5);
    assert_eq!(synced.0.take(), 3);
    for (change, count) in [(image.counted(0).increment(), 2), (image.counted(0).decrement(), 1)] {
        assert_eq!(int3.change(&mut [change]).unwrap().changed, 0);
        assert_eq!((synced.0.take(), image.counted(0).count()), (0, count));
    }
    assert_eq!(int3.change(&mut [image.to(0, true)]).unwrap().changed, 0);
    assert_eq!(int3.change(&mut []).unwrap().changed, 0);
    assert_eq!(synced.0.take(), 0);
    assert_eq!(int3.change(&mut [image.counted(0).decrement()]).unwrap().changed, 2);
    assert_eq!(synced.0.take(), 3);
}

/// One writer at a time: while one is at work, the changes of another are refused before any is
/// made, whatever protocol it has.
#[test]
fn two_writers_do_not_mix_their_changes() {
    struct Second<'i>(&'i BranchImage, &'i patchlet::live::Live<'i>, Cell<usize>);
    impl Second<'_> {
        fn is_refused(&self) {
            let Self(image, live, count) = self;
            let platform = || image.image.second_mapping();
            let mut list = [image.to(1, false), image.counted(0).increment()];
            let before = image.counted(0).count();
            // SAFETY: nobody executes an arena.
            unsafe {
                let nobody = Between(|_| ());
                assert_eq!(Int3::new(live, platform(), nobody).change(&mut list), Err(Error::Busy));
                let mut rendezvous = Rendezvous::new(live, platform(), Never);
                assert_eq!(rendezvous.change(&mut list), Err(Error::Busy));
            }
            assert!(image.is_on(1));
            assert_eq!(image.counted(0).count(), before);
            count.set(count.get() + 1);
        }
    }
    // SAFETY: nobody executes an arena.
    unsafe impl Synchronize for Second<'_> {
        fn sync_all(&self) {
            self.is_refused();
        }
    }
    // SAFETY: as above.
    unsafe impl StopOthers for Second<'_> {
        fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
            self.is_refused();
            write()
        }
    }
    struct Never;
    // SAFETY: it stops nobody.
    unsafe impl StopOthers for Never {
        fn stop_others<R>(&self, _: impl FnOnce() -> R) -> R {
            panic!("stopped the others")
        }
    }
    let (image, _) = image();
    let live = image.live();
    // SAFETY: nobody executes an arena.
    unsafe {
        let second = Second(&image, live, Cell::new(0));
        let mut int3 = Int3::with_nobody_inside(live, image.image.second_mapping(), second);
        assert_eq!(int3.change(&mut [image.to(0, true)]).unwrap().changed, 3);
        let second = Second(&image, live, Cell::new(0));
        let mut rendezvous = Rendezvous::new(live, image.image.second_mapping(), second);
        assert_eq!(rendezvous.change(&mut [image.to(0, false)]).unwrap().changed, 2);
    }
}

/// A platform that breaks its contract, at each of its uses: while the tails are the old ones, text
/// is put back and keys with it. Later the INT3s stay, the hook goes on answering for the change,
/// and so the keys stay as well.
#[test]
fn keys_go_with_text_when_a_write_is_lost() {
    struct Lost<'i>(&'i BranchImage, Cell<usize>, Box<std::cell::UnsafeCell<[u8; 64]>>);
    // SAFETY: it breaks its contract, harmlessly: the other memory is its own.
    unsafe impl patchlet::Platform for Lost<'_> {
        fn text(&self) -> Range<usize> {
            self.0.image.text()
        }

        fn alias(&self, address: usize) -> *mut u8 {
            self.1.set(self.1.get().wrapping_sub(1));
            match self.1.get() {
                0 => self.2.get().cast(),
                _ => self.0.image.second_mapping().alias(address),
            }
        }
    }
    // SAFETY: as above.
    unsafe impl patchlet::live::LivePlatform for Lost<'_> {}

    let (mut put_back, mut left) = (0, 0);
    // 2 to validate, 2 INT3s, 2 tails, 2 first bytes.
    for lost in 1..=8 {
        let (image, branches) = image();
        // SAFETY: nobody executes an arena.
        unsafe {
            let mut patcher = image.patcher(image.image.second_mapping());
            OneCpu::assume(|cpu| patcher.apply(cpu)).unwrap();
        }
        let before = image.image.bytes();
        let live = image.live();
        let synced = Count::default();
        let cell = Box::new(std::cell::UnsafeCell::new([0; 64]));
        let platform = Lost(&image, Cell::new(lost), cell);
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe { Int3::new(live, platform, &synced) };
        let error = int3.change(&mut [image.to(0, true)]).unwrap_err();
        assert!(matches!(error, Error::Alias { .. } | Error::ReadBack { .. }), "{lost}: {error}");
        if lost <= 4 {
            assert!(image.image.bytes() == before, "{lost}");
            assert!(!image.is_on(0), "{lost}");
            put_back += 1;
        } else {
            let key_0 = branches.iter().filter(|branch| branch.key == 0);
            let int3s = key_0.filter(|branch| image.image.at(branch.at, 1) == [INT3]);
            for branch in int3s {
                assert_eq!(trap(&image, live, branch.at), Some(goes_to(*branch, true)), "{lost}");
            }
            assert!(image.is_on(0), "{lost}: the hook answers for the change");
            assert_eq!(int3.change(&mut [image.to(0, false)]), Err(Error::Busy));
            assert!(image.is_on(0));
            left += 1;
        }
    }
    assert_eq!((put_back, left), (4, 4));
}
