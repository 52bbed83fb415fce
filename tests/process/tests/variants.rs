//! Variants of ops in a process: selected by features, patched and executed. The features are made
//! up, so that every variant is executed whatever this CPU has.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use patchlet::cpu::{Feature, Features};
use patchlet::ops::Target;
use patchlet::patchlet::native;
use patchlet::text::Report;
use patchlet::{Goal, OneCpu, Patcher, SecondMapping};
use patchlet_process::{own, own_ops, remap};

/// Features of this process's own.
mod flags {
    use patchlet::cpu::Feature;

    pub const BROKEN: Feature = Feature::own(0);
    pub const LOUD: Feature = Feature::own(63);
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plus_one(value: usize) -> usize {
    value + 1
}

extern "C" fn plus_two(value: usize) -> usize {
    value + 2
}

extern "C" fn count_call() {
    CALLS.fetch_add(1, Relaxed);
}

extern "C" fn scale(x: f64) -> f64 {
    x * 2.0
}

extern "C" fn scale_more(x: f64) -> f64 {
    x * 3.0
}

patchlet::slot_fn! {
    const NOT = callee_save fn(value: usize) -> usize { !value };
    const OF_LAYER = callee_save fn(value: usize) -> usize { value ^ 0xff };
}

patchlet::ops! {
    /// Ops with variants of every kind.
    mod chosen as "chosen_ops" {
        values {
            /// A thunk, with a variant that is a patchlet and one that is another thunk.
            turn: callee_save fn(value: usize) -> usize = slot_fn NOT,
                if [ERMS, !flags::BROKEN] => patchlet own::swap_bytes,
                if [FSRM] => slot_fn OF_LAYER;
            /// Functions, with a site that has more room than it takes.
            #[capacity(16)]
            plus: c fn(value: usize) -> usize = function plus_one,
                if [flags::LOUD] => function plus_two,
                if [flags::LOUD, FSRM] => patchlet native::vcpu_is_preempted;
            /// A function of any signature.
            scale: extern_c fn(x: f64) -> f64 = function scale,
                if [!SSE2] => function scale_more;
        }
        effects {
            /// Nothing, but for loud ones.
            noise: c fn() = nothing, if [flags::LOUD] => function count_call;
            /// Something, but for those without ERMS.
            quiet: c fn() = function count_call, if [!ERMS] => nothing;
            /// It has no variant.
            plain: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
        }
    }
}

patchlet::site_set! {
    static SITES = [patchlet::pv, own_ops, chosen];
}

/// What the ops do: the results, and how many calls the last two made.
#[derive(Debug, PartialEq)]
struct Effects {
    turn: usize,
    plus: usize,
    scale: f64,
    noise: usize,
    quiet: usize,
    plain: usize,
}

const VALUE: usize = 0x1234;

#[inline(never)]
fn effects() -> Effects {
    let calls_of = |op: fn()| {
        let before = CALLS.load(Relaxed);
        op();
        CALLS.load(Relaxed) - before
    };
    Effects {
        turn: chosen::turn(VALUE),
        plus: chosen::plus(VALUE),
        scale: chosen::scale(1.0),
        noise: calls_of(chosen::noise),
        quiet: calls_of(chosen::quiet),
        plain: chosen::plain(VALUE),
    }
}

/// Returns what is to be seen with these features, from the table above.
fn expected(erms: bool, fsrm: bool, sse2: bool, broken: bool, loud: bool) -> Effects {
    let plain = VALUE.swap_bytes();
    Effects {
        turn: match (erms && !broken, fsrm) {
            (_, true) => VALUE ^ 0xff,
            (true, false) => plain,
            (false, false) => !VALUE,
        },
        plus: match (loud, fsrm) {
            // The patchlet returns 0 in a register of 32 bits, which are the low ones of RAX.
            (true, true) => 0,
            (true, false) => VALUE + 2,
            (false, _) => VALUE + 1,
        },
        scale: if sse2 { 2.0 } else { 3.0 },
        noise: loud.into(),
        quiet: erms.into(),
        plain,
    }
}

fn apply(patcher: &mut Patcher<'_, SecondMapping>) -> Report {
    // SAFETY: this is the only test of this file. The thread of the test harness waits for it and
    // has no site, and no signal handler is installed.
    unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) }.expect("apply")
}

/// Returns the bytes that the first site of an op holds.
fn bytes_of(patcher: &Patcher<'_, SecondMapping>, op: &str) -> Vec<u8> {
    let plan = patcher.plan(Goal::Patched).expect("plan");
    let site = plan.outcomes().find(|outcome| outcome.name == op).expect("it has a site");
    site.old_bytes.bytes().to_vec()
}

/// One record of the section `patchlet_variants`.
#[derive(Debug, PartialEq)]
struct VariantRecord {
    slot: usize,
    function: usize,
    place: u8,
    /// 0 for a patchlet, 1 for a function, 2 for nothing.
    means: u8,
    condition: String,
}

/// Reads the records of all variants, as `src/ops/define/variant.rs` describes them.
fn variant_records() -> Vec<VariantRecord> {
    unsafe extern "C" {
        static __start_patchlet_variants: [u8; 0];
        static __stop_patchlet_variants: [u8; 0];
    }
    let mut at = (&raw const __start_patchlet_variants).expose_provenance();
    let stop = (&raw const __stop_patchlet_variants).addr();
    let read = |at: usize| std::ptr::with_exposed_provenance::<u8>(at);
    let mut records = Vec::new();
    while at < stop {
        // SAFETY: the linker bounds the section by these symbols; it has whole records.
        let (slot, function, [place, len]) = unsafe {
            (
                read(at).cast::<i32>().read(),
                read(at + 4).cast::<i32>().read(),
                read(at + 8).cast::<[u8; 2]>().read(),
            )
        };
        let word = (at + 4).wrapping_add_signed(function as isize);
        // SAFETY: as above; the word is in the table of variants, which is a static.
        let (function, condition) = unsafe {
            (
                std::ptr::with_exposed_provenance::<usize>(word).read(),
                std::slice::from_raw_parts(read(at + 10), len.into()),
            )
        };
        records.push(VariantRecord {
            slot: at.wrapping_add_signed(slot as isize),
            function,
            place: place & 0x3f,
            means: place >> 6,
            condition: String::from_utf8(condition.to_vec()).expect("names"),
        });
        at += (10 + usize::from(len)).next_multiple_of(4);
    }
    assert_eq!(at, stop);
    records
}

/// Checks that the linked file says of each variant what the table says.
fn each_variant_has_its_record() {
    let mut place = 0;
    let mut last = usize::MAX;
    let mut expected: Vec<VariantRecord> = Vec::new();
    for variant in chosen::TABLE.variants() {
        place = if variant.op() == last { place + 1 } else { 0 };
        last = variant.op();
        let words = variant.condition().iter().map(|requirement| {
            // The names of a kernel's own features are those of its constants.
            format!("{requirement:?}").replace("own(0)", "BROKEN").replace("own(63)", "LOUD")
        });
        expected.push(VariantRecord {
            slot: chosen::TABLE.slot_address(last).expect("an op"),
            function: variant.target().address(),
            place,
            means: match variant.patchlet() {
                Some(_) => 0,
                None if variant.target() == Target::NOP => 2,
                None => 1,
            },
            condition: words.collect::<Vec<_>>().join(" "),
        });
    }
    let mut found = variant_records();
    // The program has the ready-made table as well.
    found.retain(|record| chosen::TABLE.index_of_slot(record.slot).is_some());
    // The linker may order them otherwise.
    found.sort_unstable_by_key(|record| (record.slot, record.place));
    assert_eq!(found, expected);
}

/// Tests all sets of features one after the other. It is one test, because it changes the text of
/// the whole process.
#[test]
fn every_variant_is_selected_patched_and_executed() {
    the_table_knows_its_variants();
    each_variant_has_its_record();
    let range = remap::text_with_sites().expect("there are sites");
    // SAFETY: `range` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(range) }.expect("second mapping");
    let mut patcher = Patcher::new(&SITES, platform);
    // The defaults work from the first instruction on: nothing is selected yet.
    let by_default = Effects { scale: 2.0, quiet: 1, ..expected(false, false, true, false, false) };
    assert_eq!(effects(), by_default);

    for bits in 0_u8..32 {
        let [erms, fsrm, sse2, broken, loud] = [0, 1, 2, 3, 4].map(|bit| bits >> bit & 1 == 1);
        let all = [
            (erms, Feature::ERMS),
            (fsrm, Feature::FSRM),
            (sse2, Feature::SSE2),
            (broken, flags::BROKEN),
            (loud, flags::LOUD),
        ];
        let has = all.into_iter().filter(|(has, _)| *has);
        let features = has.fold(Features::EMPTY, |set, (_, feature)| set.with(feature));
        let before = effects();
        // SAFETY: all variants work on every CPU that this test runs on.
        unsafe { chosen::select(&features) };
        if bits > 0 {
            // The slots have changed, and the sites have not.
            assert_eq!(effects(), before, "{features:?}");
        }
        let report = apply(&mut patcher);
        assert_eq!(report.indirect, 0);
        assert_eq!(effects(), expected(erms, fsrm, sse2, broken, loud), "{features:?}");
        let swaps = bytes_of(&patcher, "turn").starts_with(own::swap_bytes.bytes());
        assert_eq!(swaps, erms && !fsrm && !broken);
        let plus = bytes_of(&patcher, "plus");
        let is_zero = plus.starts_with(native::vcpu_is_preempted.bytes());
        assert_eq!((plus.len(), is_zero), (16, loud && fsrm));
        let is_nop = bytes_of(&patcher, "quiet") == [0x66, 0x0f, 0x1f, 0x44, 0, 0];
        assert_eq!(is_nop, !erms);
    }

    // A layer has the last word, until variants are selected again; `reset` forgets both.
    let all = Features::EMPTY.with(Feature::ERMS).with(Feature::FSRM).with(flags::LOUD);
    // SAFETY: as above; the functions of the layer fit, by the types of the slots.
    unsafe {
        chosen::select(&all);
        chosen::install(&[
            chosen::slot::turn.holds(NOT),
            chosen::slot::noise.nop(),
            chosen::slot::plus.ident(),
            (chosen::Id::plain, Target::ZERO),
        ]);
    }
    apply(&mut patcher);
    let of_layer = Effects {
        turn: !VALUE,
        noise: 0,
        plus: VALUE,
        plain: 0,
        ..expected(true, true, false, false, true)
    };
    assert_eq!(effects(), of_layer);
    // SAFETY: as above.
    unsafe { chosen::select(&all) };
    apply(&mut patcher);
    // The op without a variant keeps what the layer gave it.
    assert_eq!(effects(), Effects { plain: 0, ..expected(true, true, false, false, true) });
    chosen::reset();
    apply(&mut patcher);
    assert_eq!(effects(), by_default);
}

/// Checks what the table says of itself: its variants, and the sizes of its sites.
fn the_table_knows_its_variants() {
    let of = |id: chosen::Id| {
        chosen::TABLE.variants().iter().filter(move |variant| variant.op() == id as usize)
    };
    let conditions: Vec<String> =
        of(chosen::Id::turn).map(|variant| format!("{:?}", variant.condition())).collect();
    assert_eq!(conditions, ["[ERMS, !own(0)]", "[FSRM]"]);
    let patchlets: Vec<_> =
        of(chosen::Id::plus).map(|variant| variant.patchlet().map(|it| it.name())).collect();
    assert_eq!(patchlets, [None, Some("vcpu_is_preempted")]);
    assert_eq!(of(chosen::Id::quiet).next().map(|variant| variant.target()), Some(Target::NOP));
    assert_eq!(of(chosen::Id::plain).count(), 0);
    assert_eq!(chosen::TABLE.variants().len(), 7);
    let capacity = |id: chosen::Id| chosen::TABLE.ops()[id as usize].capacity();
    assert_eq!([chosen::Id::turn, chosen::Id::plus].map(capacity), [6, 16]);
}
