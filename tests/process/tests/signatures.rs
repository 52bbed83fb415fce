//! Ops of any signature: structs by value, more arguments than there are registers, floats,
//! references and results in memory, called through their trampolines. Each is executed before its
//! site is patched, patched, with NOPs, with "return 0" and with other functions, and in each step of
//! the INT3 protocol and of a rendezvous.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use patchlet::live::{BatchStep, Int3, Live, Rendezvous, StopOthers, Synchronize};
use patchlet::ops::Target;
use patchlet::patchlet::native;
use patchlet::text::Report;
use patchlet::{Goal, Kind, OneCpu, Patcher, SecondMapping, Sites};
use patchlet_process::live::{signal, sync::Membarrier};
use patchlet_process::{own_ops, remap};

/// Two values of different kinds: on 64 bit in an integer register and a vector register, on 32 bit
/// in memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    count: u64,
    weight: f64,
}

/// More than registers hold: in memory on both widths, and so is a result of this type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    words: [u64; 6],
}

static TOLD: AtomicUsize = AtomicUsize::new(0);

/// Makes the functions of a layer. Their results differ by `$by`.
macro_rules! layer {
    ($module:ident, $by:literal) => {
        mod $module {
            use super::*;

            pub extern "C" fn pair(pair: Pair, count: u32) -> Pair {
                Pair { count: pair.count + u64::from(count) + $by, weight: -pair.weight }
            }

            pub extern "C" fn block(a: u8, mut block: Block, b: f32) -> Block {
                block.words[5] += u64::from(a) + b as u64 + $by;
                block
            }

            pub extern "C" fn many(
                a: u8,
                b: i16,
                c: u32,
                d: u64,
                e: usize,
                f: i8,
                g: u64,
                h: f64,
                i: i32,
                j: bool,
            ) -> u64 {
                [
                    a as u64,
                    b as u64,
                    c.into(),
                    d,
                    e as u64,
                    f as u64,
                    g,
                    h as u64,
                    i as u64,
                    j.into(),
                ]
                .iter()
                .fold($by, |sum: u64, digit| sum.wrapping_mul(10).wrapping_add(*digit))
            }

            pub extern "C" fn single(x: f32) -> f32 {
                x * 2.0 + $by as f32
            }

            pub extern "C" fn double(x: f32, y: f64) -> f64 {
                f64::from(x) / y + $by as f64
            }

            pub extern "C" fn tell(counter: &AtomicUsize, by: f64) {
                counter.fetch_add(by as usize + $by, SeqCst);
            }

            pub extern "C" fn count(name: &'static [u8; 4], x: f64, y: f64) -> usize {
                name.len() + x as usize + y as usize + $by
            }

            pub unsafe extern "C" fn read(at: *const u32) -> u32 {
                // SAFETY: by the contract of the op.
                unsafe { at.read() + $by }
            }

            pub extern "C" fn choose<'a>(one: &'a Pair, two: &'a Pair) -> Option<&'a Pair> {
                // Not the same for two layers, or their functions would become one.
                [Some(one), Some(two), None][$by]
            }
        }
    };
}
layer!(natively, 0);
layer!(first, 1);
layer!(second, 2);

patchlet::ops! {
    /// Ops that no register could carry.
    pub mod any as "any_ops" {
        values {
            /// Takes and returns a struct.
            pair: extern_c fn(pair: Pair, count: u32) -> Pair = function natively::pair;
            /// Takes and returns a struct in memory.
            #[capacity(9)]
            block: extern_c fn(a: u8, block: Block, b: f32) -> Block = function natively::block;
            /// Takes ten arguments.
            many: extern_c fn(
                a: u8, b: i16, c: u32, d: u64, e: usize, f: i8, g: u64, h: f64, i: i32, j: bool,
            ) -> u64 = function natively::many;
            /// Takes and returns a float.
            single: extern_c fn(x: f32) -> f32 = function natively::single;
            /// Takes two floats and returns one.
            double: extern_c fn(x: f32, y: f64) -> f64 = function natively::double;
        }
        effects {
            /// Counts.
            tell: extern_c fn(counter: &AtomicUsize, by: f64) = function natively::tell;
            /// Returns a number that is never 0.
            count: extern_c fn(name: &'static [u8; 4], x: f64, y: f64) -> usize
                = function natively::count;
            /// Reads.
            ///
            /// # Safety
            /// - `at` is valid for reads.
            read: extern_c unsafe fn(at: *const u32) -> u32 = function natively::read;
            /// Returns one of two references.
            choose: extern_c fn(one: &'static Pair, two: &'static Pair) -> Option<&'static Pair>
                = function natively::choose;
            /// Returns 0: natively a patchlet, which the return behind the site follows.
            nothing_yet: extern_c fn(x: f64) -> u32 = patchlet native::vcpu_is_preempted;
            /// Does nothing.
            quiet: extern_c fn(block: Block) = nothing;
            /// No code calls this op: neither its trampoline nor the record of its site is there.
            uncalled: extern_c fn(x: f64) -> f64 = function uncalled;
        }
    }
}

extern "C" fn uncalled(x: f64) -> f64 {
    x
}

patchlet::site_set! {
    static SITES = [patchlet::pv, own_ops, any];
}
static LIVE: Live<'static> = Live::new(&[&SITES]);

static ONE: Pair = Pair { count: 1, weight: 1.5 };
static TWO: Pair = Pair { count: 2, weight: 2.5 };

/// Executes every op and checks what it does; the functions add `by`.
#[inline(never)]
fn check(by: usize) {
    let b = by as u64;
    let pair = any::pair(black_box(Pair { count: 40, weight: 0.5 }), black_box(2));
    assert_eq!(pair, Pair { count: 42 + b, weight: -0.5 });
    let block = any::block(black_box(3), black_box(Block { words: [1, 2, 3, 4, 5, 6] }), 7.0);
    assert_eq!(block, Block { words: [1, 2, 3, 4, 5, 16 + b] });
    let many = any::many(1, 2, 3, 4, black_box(5), 6, 7, black_box(8.0), 9, true);
    assert_eq!(many, 1_234_567_891 + b * 10_000_000_000);
    // Twice in one expression, so that a float that the x87 stack is left with would be found.
    assert_eq!(any::single(black_box(1.25)) + any::single(1.0), 4.5 + 2.0 * by as f32);
    assert_eq!(any::double(3.0, black_box(4.0)) - any::double(0.0, 1.0), 0.75);
    assert_eq!(any::double(3.0, black_box(4.0)), 0.75 + by as f64);
    let before = TOLD.load(SeqCst);
    any::tell(&TOLD, 10.0);
    assert_eq!(TOLD.load(SeqCst) - before, 10 + by);
    assert_eq!(any::count(b"four", 1.0, black_box(2.0)), 7 + by);
    // SAFETY: a reference.
    assert_eq!(unsafe { any::read(&black_box(5)) }, 5 + by as u32);
    assert_eq!(any::choose(&ONE, &TWO), [Some(&ONE), Some(&TWO), None][by]);
    assert_eq!(any::nothing_yet(black_box(1.0)), 0);
    any::quiet(block);
}

type Functions = [(any::Id, Target); 9];

macro_rules! functions {
    ($layer:ident) => {
        [
            any::slot::pair.holds($layer::pair),
            any::slot::block.holds($layer::block),
            any::slot::many.holds($layer::many),
            any::slot::single.holds($layer::single),
            any::slot::double.holds($layer::double),
            any::slot::tell.holds($layer::tell),
            any::slot::count.holds($layer::count),
            any::slot::read.holds($layer::read),
            any::slot::choose.holds($layer::choose),
        ]
    };
}
// A layer can be a constant.
const FIRST: Functions = functions!(first);
const SECOND: Functions = functions!(second);

fn install(layer: &[(any::Id, Target)]) {
    // SAFETY: each function is typed by its slot, and part of the program.
    unsafe { any::install(layer) };
}

/// Patches every site while nobody else executes one.
fn apply(patcher: &mut Patcher<'_, SecondMapping>) -> Report {
    // SAFETY: this is the only test of this file. The thread of the test harness waits for it and
    // has no site, and no signal handler has one.
    unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) }.expect("apply")
}

/// Returns the bytes that the site of an op holds.
fn bytes_of(patcher: &Patcher<'_, SecondMapping>, op: &str) -> Vec<u8> {
    let plan = patcher.plan(Goal::Patched).expect("plan");
    let site = plan.outcomes().find(|outcome| outcome.name == op).expect("it has a site");
    site.old_bytes.bytes().to_vec()
}

/// A synchronizer that executes all ops between the steps of a batch. When the INT3s are written
/// and synchronized, each op does what its slot says: by the trap, or by the new bytes.
struct Between<F>(Membarrier, F);

// SAFETY: `Membarrier` does what the contract asks for.
unsafe impl<F: Fn()> Synchronize for Between<F> {
    fn sync_all(&self) {
        self.0.sync_all();
    }

    fn between_steps(&self, step: BatchStep) {
        if !matches!(step, BatchStep::Published | BatchStep::Int3Written) {
            self.1();
        }
    }
}

/// The only thread that executes sites.
struct Alone;

// SAFETY: the thread of the test harness waits for the test, and has no site.
unsafe impl StopOthers for Alone {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        let result = write();
        patchlet::Serializer::default().serialize();
        result
    }
}

/// Checks that the sites are those of the trampolines: one for each op that is called.
fn one_site_for_each_op() {
    let sites = Sites::linked();
    let of_table = sites.records().filter_map(|record| {
        let index = any::TABLE.index_of_slot(record.subject())?;
        Some((any::TABLE.ops()[index].name(), record.kind(), record.capacity()))
    });
    let mut found: Vec<_> = of_table.collect();
    found.sort_unstable_by_key(|(name, ..)| *name);
    let names = [
        "block",
        "choose",
        "count",
        "double",
        "many",
        "nothing_yet",
        "pair",
        "quiet",
        "read",
        "single",
        "tell",
    ];
    let expected: Vec<_> = names
        .iter()
        .map(|&name| (name, Ok(Kind::Jump), if name == "block" { 9 } else { 6 }))
        .collect();
    assert_eq!(found, expected);
    for op in any::TABLE.ops() {
        assert_eq!(op.capacity(), if op.name() == "block" { 9 } else { 6 });
        assert_eq!(op.abi(), patchlet::ops::Abi::ExternC);
    }
}

/// Executes the ops that do nothing or return 0 by then.
fn check_nothing() {
    let before = TOLD.load(SeqCst);
    any::tell(&TOLD, 10.0);
    assert_eq!(TOLD.load(SeqCst), before);
    assert_eq!(any::count(b"four", 1.0, black_box(2.0)), 0);
    // SAFETY: nothing is read while the slot holds "return 0".
    assert_eq!(unsafe { any::read(std::ptr::null()) }, 0);
    assert_eq!(any::nothing_yet(black_box(1.0)), 0);
}

/// The layer of [`check_nothing`].
const NOTHING: [(any::Id, Target); 4] = [
    any::slot::tell.nop(),
    any::slot::count.zero(),
    any::slot::read.zero(),
    any::slot::nothing_yet.zero(),
];

/// Tests all states one after the other. It is one test, because it changes the text of the whole
/// process.
#[test]
fn ops_of_any_signature_in_every_state_of_their_sites() {
    one_site_for_each_op();
    let range = remap::text_with_sites().expect("there are sites");
    // SAFETY: `range` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(range) }.expect("second mapping");
    let mut patcher = Patcher::new(&SITES, platform.clone());

    // Unpatched, through the slots.
    check(0);
    install(&FIRST);
    check(1);
    install(&NOTHING);
    check_nothing();
    any::reset();

    // Patched. Two ops have no function to jump to.
    let report = apply(&mut patcher);
    assert_eq!((report.indirect, report.jumps), (0, 9));
    check(0);
    assert_eq!(bytes_of(&patcher, "nothing_yet"), [0x31, 0xc0, 0x0f, 0x1f, 0x40, 0x00]);
    assert_eq!(bytes_of(&patcher, "quiet"), [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
    install(&FIRST);
    check(0);
    assert_eq!(apply(&mut patcher).changed, 9);
    check(1);

    // No-op and "return 0": the return behind the site does the rest.
    install(&NOTHING);
    let report = apply(&mut patcher);
    assert_eq!((report.jumps, report.zeros, report.indirect), (6, 3, 0));
    check_nothing();
    assert_eq!(bytes_of(&patcher, "tell"), [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
    assert_eq!(bytes_of(&patcher, "count"), [0x31, 0xc0, 0x0f, 0x1f, 0x40, 0x00]);

    // Slots and sites in one transaction, and undone likewise by what the list then is.
    any::reset();
    apply(&mut patcher);
    // SAFETY: each function is typed by its slot, and part of the program.
    let mut changes = FIRST.map(|pair| unsafe { any::change(pair) });
    for by in [1, 0] {
        // SAFETY: as in `apply`.
        let report = unsafe { OneCpu::assume(|cpu| patcher.change(&mut changes, cpu)) };
        assert_eq!(report.expect("a change").changed, 9);
        check(by);
    }
    signal::with_signal_stack(|| live(&platform));
}

/// Switches live: the ops are executed in each step of a batch.
fn live(platform: &SecondMapping) {
    signal::install(&LIVE);
    let sync = Membarrier::register();

    // From jump to jump every use traps meanwhile, and the hook jumps for it.
    for (layer, by) in [(FIRST, 1), (SECOND, 2), (FIRST, 1)] {
        install(&layer);
        let traps = signal::TRAPS.load(SeqCst);
        let between = Between(sync, || check(by));
        // SAFETY: the signal handler calls the hook and has a stack of its own; a trampoline is the
        // start of a function, where nothing lies below the stack pointer; nobody else writes.
        let mut int3 = unsafe { Int3::new(&LIVE, platform.clone(), between) };
        assert_eq!(int3.apply().expect("a switch").changed, 9);
        assert!(signal::TRAPS.load(SeqCst) >= traps + 2 * 9, "no op trapped");
        check(by);
    }

    // A jump may become anything, for nobody comes back into it. The other ops stay as they are.
    install(&NOTHING);
    // SAFETY: as above.
    let mut int3 = unsafe { Int3::new(&LIVE, platform.clone(), Between(sync, check_nothing)) };
    assert_eq!(int3.apply().expect("a switch").changed, 3);
    check_nothing();

    // What is not a jump any more, a thread may be inside of. A rendezvous knows that none is.
    install(&SECOND);
    // SAFETY: as above.
    let mut int3 = unsafe { Int3::new(&LIVE, platform.clone(), sync) };
    assert_eq!(int3.apply().expect_err("a thread may be inside").code(), "thread-inside");
    // SAFETY: no other thread executes sites.
    let mut rendezvous = unsafe { Rendezvous::new(&LIVE, platform.clone(), Alone) };
    assert_eq!(rendezvous.apply().expect("a switch").changed, 9);
    check(2);
    any::reset();
    assert_eq!(rendezvous.apply().expect("a switch").changed, 9);
    check(0);
    assert_eq!(rendezvous.revert().expect("a switch").indirect, Sites::linked().records().len());
    check(0);
}
