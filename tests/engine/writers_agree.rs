//! The three writers over random programs: what boot patching makes of text, the INT3 protocol and
//! the rendezvous make of it, from every state that comes before; where one refuses, all do, for the
//! same reason and without a write. And several sets of one table in one batch.

use patchlet::live::{Int3, Live, Rendezvous, StopOthers, Synchronize};
use patchlet::ops::__private::Slot;
use patchlet::ops::{Abi, Op, OpSource, Table, Target};
use patchlet::site::Record;
use patchlet::text::{Emulation, Follow, Part, Recipe, RecordFault, Report, Source};
use patchlet::{Error, Kind, Patcher, SiteSet};
use proptest::prelude::*;

use crate::image::{Image, Raw, Site, call, leak_set, source, target};
use crate::model::hex;
use crate::platforms::one_cpu;

/// A synchronizer for text that nobody executes.
pub struct Alone;

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Alone {
    fn sync_all(&self) {}
}

// SAFETY: as above.
unsafe impl StopOthers for Alone {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        write()
    }
}

/// What a slot is to hold.
fn held(image: &Image, op: usize, choice: u32) -> Target {
    match choice % 7 {
        0 => Target::NULL,
        1 => Target::NOP,
        2 => Target::IDENT,
        5 => Target::ZERO,
        3 => image.table.ops()[op].native(),
        // On 64 bit some of these are out of reach.
        4 => target(image.arena.address(0).wrapping_add(0x7fff_f000 + choice as usize % 0x2000)),
        _ => target(image.arena.address(0x8000 + choice as usize % 0x10_0000)),
    }
}

/// One of the three ways to write.
#[derive(Clone, Copy, Debug)]
pub enum Writer {
    Boot,
    Int3,
    Rendezvous,
}

pub const WRITERS: [Writer; 3] = [Writer::Boot, Writer::Int3, Writer::Rendezvous];

/// Patches the sites of a set, or reverts them.
pub fn run(
    image: &Image,
    set: &'static SiteSet<'static>,
    writer: Writer,
    reverts: bool,
) -> Result<Report, Error> {
    let platform = image.second_mapping();
    let live = crate::image::leak_live(set);
    // SAFETY: nobody executes an arena.
    let mut int3 = unsafe { Int3::with_nobody_inside(live, platform.clone(), Alone) };
    // SAFETY: as above.
    let mut rendezvous = unsafe { Rendezvous::new(live, platform.clone(), Alone) };
    let mut patcher = Patcher::new(set, platform);
    match (writer, reverts) {
        (Writer::Boot, false) => one_cpu(|cpu| patcher.apply(cpu)),
        (Writer::Boot, true) => one_cpu(|cpu| patcher.revert(cpu)),
        (Writer::Int3, false) => int3.apply(),
        (Writer::Int3, true) => int3.revert(),
        (Writer::Rendezvous, false) => rendezvous.apply(),
        (Writer::Rendezvous, true) => rendezvous.revert(),
    }
}

/// Text, and the bytes around it.
const TEXT: std::ops::Range<usize> = 0..0x2000;

/// What one step does: which slots are set to what, and whether it reverts.
type Step = (Vec<(usize, u32)>, bool);

/// Before which step the sites in which part of text are withdrawn: offset and length.
type Gone = Option<(usize, usize, usize)>;

/// Distance from the site before, capacity, whether it is a jump, and the op.
type Place = (usize, u8, bool, usize);

fn program() -> impl Strategy<Value = (Vec<Place>, Vec<Step>, u8, Gone)> {
    let site = (0_usize..9, prop_oneof![Just(6_u8), 6_u8..=32], any::<bool>(), 0_usize..3);
    let step = (prop::collection::vec((0_usize..3, any::<u32>()), 0..3), prop::bool::weighted(0.2));
    (
        prop::collection::vec(site, 1..60).prop_shuffle(),
        prop::collection::vec(step, 1..8),
        0_u8..8,
        prop::option::of((0_usize..8, 0x100_usize..0x800, 0_usize..0x400)),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_writer_makes_the_same_text((sites, steps, flaw, gone) in program()) {
        let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[0x0f, 0x20, 0xd0, 0x90, 0x90, 0x90, 0x90])]);
        let mut at = 0x100;
        let mut raws = Vec::new();
        for (gap, capacity, is_jump, op) in sites {
            let kind = if is_jump { Kind::Jump } else { Kind::Call };
            let site = Site { at: at + gap, capacity, kind, op };
            at = site.at + usize::from(capacity);
            if at <= 0x1f00 {
                image.arena.write(site.at, &image.unpatched(site));
                raws.push(image.raw(site));
            }
        }
        // Not in the order of their sites.
        let middle = raws.len() / 2;
        raws.rotate_left(middle);
        // Some are there twice, as if a linker had folded their functions.
        if flaw > 4 {
            raws.extend_from_within(middle / 2..middle);
        }
        for (number, raw) in raws.iter().enumerate() {
            let flawed = number == middle;
            image.record(match flaw {
                0 if flawed => Raw { kind: 3, ..*raw },
                1 if flawed => Raw { site: raw.site + 1, ..*raw },
                2 if flawed => Raw { op: raw.op + 1, ..*raw },
                _ => *raw,
            });
        }
        // As many programs as writers, in the same arena one after the other: what boot patching
        // leaves after each step is what the others are to leave.
        let start = image.bytes();
        let mut expected: Vec<(Result<Report, &str>, Vec<u8>)> = Vec::new();
        for writer in WRITERS {
            image.arena.write(0, &start[TEXT]);
            image.table.reset();
            let set = leak_set(image.sites(), source(image.table));
            for (number, (slots, reverts)) in steps.iter().enumerate() {
                for &(op, choice) in slots {
                    image.set(op, held(&image, op, choice));
                }
                if let Some((at, from, len)) = gone && at == number {
                    let from = image.arena.address(from);
                    // SAFETY: nobody executes an arena, and nobody patches meanwhile.
                    let withdrawn = unsafe { set.withdraw(from..from + len) };
                    prop_assert!(withdrawn);
                }
                let before = image.bytes();
                let result = run(&image, set, writer, *reverts).map_err(|error| error.code());
                let after = image.bytes();
                prop_assert!(result.is_ok() || after == before, "{:?}: written", writer);
                for raw in raws.iter().filter(|raw| set.is_withdrawn(raw.site)) {
                    let from = raw.site - image.arena.address(0);
                    let site = from..from + usize::from(raw.capacity);
                    prop_assert!(after[site.clone()] == before[site], "{:?}: freed text", writer);
                }
                let found = (result, after[TEXT].to_vec());
                match expected.get(number) {
                    Some(expected) => prop_assert!(*expected == found, "{:?} {}: {:?}", writer, number, result),
                    None => expected.push(found),
                }
            }
        }
    }
}

/// A front end of ops after whose start somebody sets a slot.
struct SetAfterwards(&'static OpSource<'static>, &'static Table);

// SAFETY: nobody executes an arena, and all is as the front end of ops says.
unsafe impl Source for SetAfterwards {
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault> {
        self.0.recipe(record, follow)
    }

    fn emulation(&self, record: &Record, follow: Follow) -> Option<Emulation> {
        self.0.emulation(record, follow)
    }

    fn may_begin_inside(&self, address: usize, capacity: u8, text: &[u8]) -> bool {
        self.0.may_begin_inside(address, capacity, text)
    }

    fn begin(&self) {
        self.0.begin();
        // SAFETY: nobody calls it.
        assert!(unsafe { self.1.set(0, Target::NOP) });
    }

    fn finish(&self, follow: Follow) {
        self.0.finish(follow);
    }
}

/// Two sets of one table in one batch: each gets what its own front end kept, and remembers that.
#[test]
fn sets_of_one_table_are_not_mixed_up() {
    let mut image = Image::new(&[Some(&[0xfa])]);
    image.site(call(0x200, 0));
    image.site(call(0x300, 0));
    let [one, two] = [0..1, 1..2].map(|positions| image.sites().part(positions));
    let setting: &'static SetAfterwards =
        Box::leak(Box::new(SetAfterwards(source(image.table), image.table)));
    // SAFETY: the front end has this part only.
    let parts: &'static [Part<'static>] = vec![unsafe { Part::new(one, setting) }].leak();
    let first: &'static SiteSet<'static> = Box::leak(Box::new(SiteSet::new(parts)));
    let sets = [first, leak_set(two, source(image.table))];
    let live = Live::new(&sets);
    // SAFETY: nobody executes an arena.
    let mut rendezvous = unsafe { Rendezvous::new(&live, image.second_mapping(), Alone) };
    assert_eq!(rendezvous.apply().unwrap().changed, 2);
    assert_eq!(image.at(0x200, 6), hex("fa 0f 1f 44 00 00"));
    assert_eq!(image.at(0x300, 6), hex("66 0f 1f 44 00 00"));
    assert_eq!(rendezvous.apply().unwrap().changed, 1);
    assert_eq!(rendezvous.revert().unwrap().changed, 2);
}

/// A site of a function in assembly may stand where no trap can be taken: INT3 refuses it before
/// anything is written, and the others do not.
#[test]
fn only_int3_asks_whether_a_site_can_trap() {
    let arena = crate::arena::Arena::low();
    let native = target(arena.address(0x10_0000));
    let ops: &[Op] = vec![Op::new("test", "swapgs", Abi::Assembly, native, None)].leak();
    let slots = arena.pointer(0x3000).cast::<Slot>();
    // SAFETY: aligned, in the arena, which stays.
    let slots = unsafe {
        slots.write(Slot::new(native));
        std::slice::from_raw_parts(slots, 1)
    };
    // SAFETY: nobody calls what these slots hold.
    let table = unsafe { Table::new(ops, slots) };
    let table: &'static Table = Box::leak(Box::new(table));
    let mut image = Image::over(arena, table, slots.as_ptr().addr());
    image.site(call(0x200, 0));
    let before = image.bytes();
    let address = image.arena.address(0x200);
    for reverts in [false, true] {
        if reverts {
            assert_eq!(run(&image, image.site_set(), Writer::Boot, false).unwrap().changed, 1);
        }
        let start = image.bytes();
        let error = run(&image, image.site_set(), Writer::Int3, reverts).unwrap_err();
        assert_eq!(error, Error::NotEmulated { site: address, name: "swapgs" });
        assert!(image.bytes() == start);
    }
    assert_eq!(run(&image, image.site_set(), Writer::Rendezvous, true).unwrap().changed, 1);
    assert!(image.bytes() == before);
}
