//! The protocol against the explorer: every pair of replacements a site can have,
//! and protocols that are broken on purpose.

use std::collections::BTreeMap;

use patchlet::live::Int3;
use patchlet::ops::Target;
use patchlet::text::Report;
use patchlet::{Error, Kind, Nops, OneCpu};

use crate::explorer::{Run, Wrong, explore};
use crate::image::{Image, Site, target};
use crate::recording::{Event, Recorder, bytes};

/// Patchlets of 1 to 6 bytes: one of two instructions, the others of one.
const PATCHLETS: [&[u8]; 6] = [
    &[0xfa],
    &[0x9c, 0x58],
    &[0x0f, 0x20, 0xd0],
    &[0x8d, 0x44, 0x24, 0x00],
    &[0xb8, 0x01, 0x02, 0x03, 0x04],
    &[0x81, 0xc0, 0x01, 0x02, 0x03, 0x04],
];

/// Everything a site can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Indirect,
    Patchlet,
    A,
    B,
    Nops,
    Identity,
    Trap,
}

const STATES: [State; 7] = [
    State::Indirect,
    State::Patchlet,
    State::A,
    State::B,
    State::Nops,
    State::Identity,
    State::Trap,
];

/// A site, from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    len: usize,
    capacity: u8,
    jump: bool,
    lea: bool,
    from: State,
    to: State,
}

/// A program of one site, whose op has a patchlet of `len` bytes.
struct Program {
    image: Image,
    site: Site,
    nops: Nops,
}

impl Program {
    fn new(pair: &Pair) -> Self {
        let mut image = Image::new(&[Some(PATCHLETS[pair.len - 1])]);
        let kind = if pair.jump { Kind::Jump } else { Kind::Call };
        let site = Site { at: 0x7fb, capacity: pair.capacity, kind, op: 0 };
        image.site(site);
        let nops = if pair.lea { Nops::Lea } else { Nops::Long };
        Self { image, site, nops }
    }

    fn range(&self) -> std::ops::Range<usize> {
        let start = self.image.arena.address(self.site.at);
        start..start + usize::from(self.site.capacity)
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(&self.image, self.range(), self.nops)
    }

    fn set(&self, state: State) {
        let held = match state {
            State::Indirect => return,
            State::Patchlet => self.image.table.ops()[0].native(),
            State::A => target(self.image.arena.address(0).wrapping_add(0x1122_3344)),
            State::B => target(self.image.arena.address(0).wrapping_add(0x0567_89ab)),
            State::Nops => Target::NOP,
            State::Identity => Target::IDENT,
            State::Trap => Target::NULL,
        };
        self.image.set(0, held);
    }

    /// At boot.
    fn put(&self, state: State) {
        self.set(state);
        let mut patcher = self.image.patcher(self.recorder());
        // SAFETY: nobody executes an arena.
        unsafe {
            OneCpu::assume(|cpu| match state {
                State::Indirect => patcher.revert(cpu),
                _ => patcher.apply(cpu),
            })
        }
        .unwrap();
    }

    /// By INT3, recorded. The state is reached even if the protocol refuses.
    fn switch(&self, pair: &Pair, nobody_inside: bool) -> Result<Run, Error> {
        self.put(pair.from);
        let old = bytes(&self.range());
        self.set(pair.to);
        let (live, recorder) = (self.image.live(), self.recorder());
        // SAFETY: nobody executes an arena.
        let mut int3 = unsafe {
            let (platform, sync) = (recorder.clone(), recorder.clone());
            match nobody_inside {
                true => Int3::with_nobody_inside(live, platform, sync),
                false => Int3::new(live, platform, sync),
            }
        };
        let report = match pair.to {
            State::Indirect => int3.revert(),
            _ => int3.apply(),
        };
        let new = bytes(&self.range());
        let changed = usize::from(old != new);
        match report {
            Ok(Report { sites: 1, changed: count, .. }) => assert_eq!(count, changed),
            Ok(report) => panic!("{report:?}"),
            Err(error) => {
                assert_eq!(old, new);
                return Err(error);
            }
        }
        let events = recorder.finish();
        let address = self.range().start as u64;
        Ok(Run { address, codes: vec![old, new], events, nobody_inside })
    }
}

fn pairs() -> impl Iterator<Item = Pair> {
    let sites = (1..=6).flat_map(|len| {
        [6, 9, 11].into_iter().flat_map(move |capacity| {
            [false, true].into_iter().flat_map(move |jump| {
                // 64-bit code has one family of NOPs only.
                let families = if cfg!(target_arch = "x86") { 2 } else { 1 };
                (0..families).map(move |family| (len, capacity, jump, family == 1))
            })
        })
    });
    sites.flat_map(|(len, capacity, jump, lea)| {
        STATES.into_iter().flat_map(move |from| {
            STATES.into_iter().filter(move |&to| from != to).map(move |to| Pair {
                len,
                capacity,
                jump,
                lea,
                from,
                to,
            })
        })
    })
}

/// With threads inside: what is admitted is right, and what would go wrong is
/// refused.
#[test]
fn no_cpu_sees_a_mixture_in_what_the_rule_admits() {
    let (mut admitted, mut refused, mut too_careful) = (0, 0, BTreeMap::<_, usize>::new());
    for pair in pairs() {
        let program = Program::new(&pair);
        // What the same events would do to a thread inside.
        let mut run = program.switch(&pair, true).unwrap();
        run.nobody_inside = false;
        let wrong = explore(&run);
        match program.switch(&pair, false) {
            Ok(same) => {
                assert_eq!(same.events, run.events);
                assert!(wrong.is_empty(), "{pair:?} was admitted: {run:x?}: {:x?}", wrong[0]);
                admitted += 1;
            }
            Err(Error::ThreadInside { old, new, .. }) => {
                assert_eq!((old.bytes(), new.bytes()), (&run.codes[0][..], &run.codes[1][..]));
                refused += 1;
                if wrong.is_empty() {
                    *too_careful.entry((pair.from, pair.jump)).or_default() += 1;
                }
            }
            Err(error) => panic!("{pair:?}: {error}"),
        }
    }
    println!(
        "{admitted} pairs admitted, {refused} refused; of these without a fault in the model:"
    );
    for ((from, jump), count) in &too_careful {
        println!("  from {from:?}{}: {count}", if *jump { " (jump)" } else { "" });
    }
    assert!(admitted > 300 && refused > 300);
    // The price of not knowing where a patchlet's instructions end, and no other.
    assert!(too_careful.keys().all(|&(from, _)| matches!(from, State::Patchlet | State::Identity)));
}

/// A thread may stay inside through several switches. (At the NOP behind a patchlet
/// of one byte, which became a NOP of 6 with the same tail, in which nobody seemed
/// to be; and then a call. The rule once admitted both, and the user process died
/// of it, once in some thousand switches.)
#[test]
fn no_thread_inside_sees_a_mixture_after_two_switches() {
    let (mut explored, mut found) = (0, 0);
    let firsts = pairs().filter(|pair| [1, 2, 6].contains(&pair.len) && pair.capacity != 11);
    for first in firsts {
        for to in STATES.into_iter().filter(|&to| to != first.to) {
            let program = Program::new(&first);
            let second = Pair { from: first.to, to, ..first };
            let admitted = program.switch(&first, false).is_ok();
            let admitted = admitted && program.switch(&second, false).is_ok();
            let [one, two] = [first, second].map(|pair| program.switch(&pair, true).unwrap());
            let run = Run {
                address: one.address,
                codes: [one.codes, two.codes].concat(),
                events: [one.events, two.events].concat(),
                nobody_inside: false,
            };
            let wrong = explore(&run);
            assert!(!admitted || wrong.is_empty(), "{first:?}, {to:?}: {run:x?}: {:x?}", wrong[0]);
            explored += usize::from(admitted);
            found += usize::from(!wrong.is_empty());
        }
    }
    println!("{explored} pairs of switches admitted; {found} are wrong, and refused");
    assert!(explored > 100 && found > 100);
}

/// The rule, as the documentation of `live` has it.
#[test]
fn the_table_of_the_documentation() {
    let admitted = |from, to, capacity, jump| {
        let pair = Pair { len: 1, capacity, jump, lea: false, from, to };
        Program::new(&pair).switch(&pair, false).is_ok()
    };
    for to in STATES {
        for from in [State::Indirect, State::Nops, State::Trap] {
            assert!(admitted(from, to, 6, false), "{from:?} to {to:?}");
        }
        for from in [State::Indirect, State::A, State::Trap] {
            assert!(admitted(from, to, 11, true), "jump {from:?} to {to:?}");
        }
        let calls = [State::A, State::B].contains(&to);
        assert_eq!(admitted(State::A, to, 6, false), calls, "call A to {to:?}");
        let same = to == State::Patchlet;
        assert_eq!(admitted(State::Patchlet, to, 6, false), same, "patchlet to {to:?}");
    }
    assert!(!admitted(State::Indirect, State::A, 9, false), "padding");
    assert!(!admitted(State::Nops, State::A, 11, false), "two NOPs");
}

/// With nobody inside: everything may become everything.
#[test]
fn no_cpu_sees_a_mixture_when_nobody_is_inside() {
    for pair in pairs() {
        let run = Program::new(&pair).switch(&pair, true).unwrap();
        let wrong = explore(&run);
        assert!(wrong.is_empty(), "{pair:?}: {run:x?}: {:x?}", wrong[0]);
    }
}

/// The figure of the protocol stands in the page on live switching as well, for those who have not
/// come to the module yet.
#[test]
fn the_page_has_the_figure_of_the_documentation() {
    fn figure<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
        let first = |line: &&str| !line.trim_start().starts_with("1        2");
        lines.skip_while(first).take_while(|line| *line != "```").collect()
    }
    let module = include_str!("../../src/live/mod.rs");
    let documented = figure(module.lines().filter_map(|line| line.strip_prefix("//! ")));
    assert_eq!(documented.len(), 4);
    assert_eq!(figure(include_str!("../../docs/live.md").lines()), documented);
}

#[test]
fn the_recorded_protocol_is_the_one_documented() {
    let pair = Pair {
        len: 1,
        capacity: 6,
        jump: false,
        lea: false,
        from: State::Indirect,
        to: State::Nops,
    };
    let run = Program::new(&pair).switch(&pair, false).unwrap();
    let new = &run.codes[1];
    let tail = differing(&run).into_iter().filter(|&(at, _)| at > 0).collect();
    assert_eq!(
        run.events,
        [
            Event::Published,
            Event::Store(vec![(0, 0xcc)]),
            Event::Sync,
            Event::Store(tail),
            Event::Sync,
            Event::Store(vec![(0, new[0])]),
            Event::Sync,
            Event::Retired,
        ]
    );
}

/// A protocol broken on purpose: its name, and what it makes of the events.
pub type Broken = (&'static str, fn(&Run) -> Vec<Event>);

/// The parts of the real protocol: published, INT3, tails, first byte, retired.
fn parts(run: &Run) -> [Event; 5] {
    let stores: Vec<_> =
        run.events.iter().filter(|event| matches!(event, Event::Store(_))).cloned().collect();
    let [int3, tails, first] = stores.try_into().unwrap();
    [Event::Published, int3, tails, first, Event::Retired]
}

pub fn differing(run: &Run) -> Vec<(usize, u8)> {
    let [old, new] = &run.codes[..] else { panic!("one switch") };
    (0..old.len()).filter(|&at| old[at] != new[at]).map(|at| (at, new[at])).collect()
}

pub const BROKEN: [Broken; 11] = [
    ("a plain copy in one store", |run| vec![Event::Store(differing(run)), Event::Sync]),
    ("a plain copy byte by byte", |run| {
        let mut events: Vec<_> =
            differing(run).into_iter().map(|byte| Event::Store(vec![byte])).collect();
        events.push(Event::Sync);
        events
    }),
    ("a plain copy byte by byte, each synchronized", |run| {
        let each = |byte| [Event::Store(vec![byte]), Event::Sync];
        differing(run).into_iter().flat_map(each).collect()
    }),
    ("no INT3", |run| {
        let [_, _, tails, _, _] = parts(run);
        vec![tails, Event::Sync, Event::Store(vec![(0, run.codes[1][0])]), Event::Sync]
    }),
    ("no synchronization behind INT3", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, int3, tails, Event::Sync, first, Event::Sync, retire]
    }),
    ("no middle synchronization", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, int3, Event::Sync, tails, first, Event::Sync, retire]
    }),
    ("tail before INT3", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, tails, Event::Sync, int3, Event::Sync, first, Event::Sync, retire]
    }),
    ("first byte before the tail", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, int3, Event::Sync, first, Event::Sync, tails, Event::Sync, retire]
    }),
    ("published after INT3", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        let sync = || Event::Sync;
        vec![int3, publish, sync(), tails, sync(), first, sync(), retire]
    }),
    ("no last synchronization", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, int3, Event::Sync, tails, Event::Sync, first, retire]
    }),
    ("retired before the last synchronization", |run| {
        let [publish, int3, tails, first, retire] = parts(run);
        vec![publish, int3, Event::Sync, tails, Event::Sync, first, retire, Event::Sync]
    }),
];

/// The same explorer, the same pairs, even with nobody inside: each broken
/// protocol is found, in every pair whose first byte and tail both change.
#[test]
fn broken_protocols_are_found() {
    let mut first: BTreeMap<&str, (Pair, Wrong)> = BTreeMap::new();
    let mut tried = 0;
    for pair in pairs().filter(|pair| pair.len % 2 == 1 && !pair.lea) {
        let run = Program::new(&pair).switch(&pair, true).unwrap();
        let stores = differing(&run);
        let in_tail = stores.iter().filter(|&&(at, _)| at > 0).count();
        if in_tail == 0 || in_tail == stores.len() {
            continue;
        }
        tried += 1;
        for (name, break_it) in BROKEN {
            let wrong = explore(&Run { events: break_it(&run), ..run.clone() });
            let Some(one) = wrong.first() else {
                panic!("{name}: not found in {pair:?}: {run:x?}");
            };
            first.entry(name).or_insert((pair, one.clone()));
        }
    }
    println!("{tried} pairs; each of these is found in each:");
    for (name, (pair, wrong)) in &first {
        println!(
            "  {name}: {:?} to {:?}, after {} events, at byte {}: {:02x?}, {}",
            pair.from, pair.to, wrong.time, wrong.at, wrong.fetched, wrong.why
        );
    }
    assert_eq!(first.len(), BROKEN.len());
    assert!(tried > 100);
}
