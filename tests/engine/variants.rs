//! Variants: what `select` puts into slots, and what the three writers make of the sites, against a
//! naive model. Random ops with random variants, random features, layers in between, and the slots
//! put back; every byte is looked at after every step.

use patchlet::cpu::{Feature, Features, Requirement};
use patchlet::ops::__private::Slot;
use patchlet::ops::{Abi, Op, Table, Target, Variant};
use patchlet::{Error, Kind, Nops, Width};
use proptest::prelude::*;

use crate::arena::Arena;
use crate::image::{Image, Site, call, leak_patchlet, leak_set, source, target};
use crate::model::{self, Facts};
use crate::writers_agree::{WRITERS, Writer, run};

/// The features of the conditions: of CPUID, of a control register, and the kernel's own.
const FEATURES: [Feature; 4] =
    [Feature::ERMS, Feature::SMAP_ENABLED, Feature::own(0), Feature::own(63)];

/// One way to do an op: a patchlet, a function or nothing.
#[derive(Clone, Debug)]
enum Way {
    Patchlet(Vec<u8>),
    Function,
    Nothing,
}

/// A way, and the condition as pairs of a feature's number and whether it must be there.
type VariantOf = (Vec<(usize, bool)>, Way);

/// What an op is by default, and its variants.
type OpOf = (Way, Vec<VariantOf>);

#[derive(Clone, Debug)]
enum Step {
    /// Selects for a CPU with the features whose bits are set.
    Select(u8),
    /// Puts a function of a hypervisor into a slot: one of its own, or the last way of this op,
    /// which is no patchlet to another op.
    Install(usize, Option<usize>),
    Reset,
    Apply(usize),
    Revert(usize),
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        // No site begins with INT3: the live protocol could not tell it from its own.
        3 => (0_u8..0xcc, prop::collection::vec(any::<u8>(), 0..11))
            .prop_map(|(first, rest)| Way::Patchlet([vec![first], rest].concat())),
        2 => Just(Way::Function),
        1 => Just(Way::Nothing),
    ]
}

fn op() -> impl Strategy<Value = OpOf> {
    let condition = prop::collection::vec((0..FEATURES.len(), any::<bool>()), 1..4);
    (way(), prop::collection::vec((condition, way()), 0..4))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..16).prop_map(Step::Select),
        1 => (0_usize..4, prop::option::of(0_usize..4))
            .prop_map(|(op, of)| Step::Install(op, of)),
        1 => Just(Step::Reset),
        4 => (0..WRITERS.len()).prop_map(Step::Apply),
        1 => (0..WRITERS.len()).prop_map(Step::Revert),
    ]
}

/// A way as the table has it: the target, and the bytes if it is a patchlet.
struct Made {
    target: Target,
    patchlet: Option<Vec<u8>>,
    condition: Vec<(usize, bool)>,
}

struct Program {
    image: Image,
    /// The ways of each op, the default first.
    ops: Vec<Vec<Made>>,
}

impl Program {
    fn new(ops: &[OpOf]) -> Self {
        let arena = Arena::low();
        let mut address = arena.address(0x10_0000);
        let mut made = |way: &Way, condition: &[(usize, bool)]| {
            address += 0x10;
            let (target, patchlet) = match way {
                Way::Patchlet(bytes) => (target(address), Some(bytes.clone())),
                Way::Function => (target(address), None),
                Way::Nothing => (Target::NOP, None),
            };
            Made { target, patchlet, condition: condition.to_vec() }
        };
        let ops: Vec<Vec<Made>> = ops
            .iter()
            .map(|(default, variants)| {
                let mut ways = vec![made(default, &[])];
                ways.extend(variants.iter().map(|(condition, way)| made(way, condition)));
                ways
            })
            .collect();
        let leak = |made: &Made| made.patchlet.as_deref().map(leak_patchlet);
        let of_table: Vec<Op> = ops
            .iter()
            .map(|ways| Op::new("test", "op", Abi::C, ways[0].target, leak(&ways[0])))
            .collect();
        let mut variants = Vec::new();
        for (index, ways) in ops.iter().enumerate() {
            for made in &ways[1..] {
                let condition: Vec<Requirement> = made
                    .condition
                    .iter()
                    .map(|&(number, present)| match present {
                        true => FEATURES[number].present(),
                        false => FEATURES[number].absent(),
                    })
                    .collect();
                variants.push(Variant::new(
                    index as u16,
                    condition.leak(),
                    made.target,
                    leak(made),
                ));
            }
        }
        let slots: Vec<Slot> = ops.iter().map(|ways| Slot::new(ways[0].target)).collect();
        let first = arena.pointer(0x3000).cast::<Slot>();
        for (index, slot) in slots.into_iter().enumerate() {
            // SAFETY: aligned, in the arena, and nobody knows of it yet.
            unsafe { first.add(index).write(slot) };
        }
        // SAFETY: written just now, and the arena stays for ever.
        let slots = unsafe { std::slice::from_raw_parts(first, ops.len()) };
        // SAFETY: nobody calls what these slots hold.
        let table = unsafe { Table::new(of_table.leak(), slots).with_variants(variants.leak()) };
        let table: &'static Table = Box::leak(Box::new(table));
        Self { image: Image::over(arena, table, first.addr()), ops }
    }

    /// The bytes of a patched site, by the model.
    fn patched(&self, site: Site, slot: Target) -> Result<Vec<u8>, ()> {
        let own = self.ops[site.op]
            .iter()
            .filter_map(|made| Some((made.target.address() as u64, made.patchlet.as_deref()?)));
        let facts = Facts {
            width: Width::NATIVE,
            own: &own.collect::<Vec<_>>(),
            nop: Target::NOP.address() as u64,
            ident: Target::IDENT.address() as u64,
            zero: Target::ZERO.address() as u64,
        };
        let replacement = model::choose(&facts, slot.address() as u64, site.kind);
        let address = self.image.arena.address(site.at) as u64;
        model::compose(Width::NATIVE, Nops::Long, address, site.capacity, &replacement)
            .map_err(|_| ())
    }
}

/// What a slot holds for these features: the naive way.
fn selected(ways: &[Made], bits: u8) -> Target {
    let mut target = ways[0].target;
    for made in &ways[1..] {
        let mut holds = true;
        for &(number, present) in &made.condition {
            if (bits >> number & 1 == 1) != present {
                holds = false;
            }
        }
        if holds {
            target = made.target;
        }
    }
    target
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_is_the_models(
        ops in prop::collection::vec(op(), 4),
        places in prop::collection::vec((0_usize..9, 6_u8..=16, any::<bool>(), 0_usize..4), 1..20),
        steps in prop::collection::vec(step(), 1..16),
    ) {
        let mut program = Program::new(&ops);
        let mut sites = Vec::new();
        let mut at = 0x200;
        for (gap, capacity, is_jump, op) in places {
            let kind = if is_jump { Kind::Jump } else { Kind::Call };
            let site = Site { at: at + gap, capacity, kind, op };
            at = site.at + usize::from(capacity);
            program.image.site(site);
            sites.push(site);
        }
        let table = program.image.table;
        let set = leak_set(program.image.sites(), source(table));
        let mut slots: Vec<Target> = program.ops.iter().map(|ways| ways[0].target).collect();
        let mut text: Vec<Vec<u8>> =
            sites.iter().map(|&site| program.image.unpatched(site)).collect();
        for step in steps {
            match step {
                Step::Select(bits) => {
                    let has = |(number, _): &(usize, Feature)| bits >> number & 1 == 1;
                    let features = FEATURES.into_iter().enumerate().filter(has);
                    let features =
                        features.fold(Features::EMPTY, |set, (_, feature)| set.with(feature));
                    // SAFETY: nobody executes an arena.
                    unsafe { table.select(&features) };
                    for (slot, ways) in slots.iter_mut().zip(&program.ops) {
                        // Without variants there is nothing to select.
                        if ways.len() > 1 {
                            *slot = selected(ways, bits);
                        }
                    }
                }
                Step::Install(op, of) => {
                    let its_own = target(program.image.arena.address(0x20_0000 + op));
                    let last = |of: usize| program.ops[of].last().map(|made| made.target);
                    slots[op] = of.and_then(last).unwrap_or(its_own);
                    program.image.set(op, slots[op]);
                }
                Step::Reset => {
                    table.reset();
                    slots = program.ops.iter().map(|ways| ways[0].target).collect();
                }
                Step::Apply(writer) => {
                    let wanted: Result<Vec<_>, ()> = sites
                        .iter()
                        .map(|&site| program.patched(site, slots[site.op]))
                        .collect();
                    let result = run(&program.image, set, WRITERS[writer], false);
                    match wanted {
                        Ok(wanted) => {
                            prop_assert!(result.is_ok(), "{:?}: {result:?}", WRITERS[writer]);
                            text = wanted;
                        }
                        // A variant too long for its site: nothing is written.
                        Err(()) => prop_assert!(
                            matches!(result, Err(Error::Compose { .. })), "{result:?}"
                        ),
                    }
                }
                Step::Revert(writer) => {
                    let result = run(&program.image, set, WRITERS[writer], true);
                    prop_assert!(result.is_ok(), "{result:?}");
                    text = sites.iter().map(|&site| program.image.unpatched(site)).collect();
                }
            }
            for (op, slot) in slots.iter().enumerate() {
                prop_assert_eq!(table.get(op), Some(*slot), "slot of op {}", op);
            }
            for (site, text) in sites.iter().zip(&text) {
                prop_assert_eq!(&program.image.at(site.at, text.len()), text, "{:?}", site);
            }
        }
    }
}

/// An op with a default of one instruction and a variant of another, and its site.
fn two_ways() -> Program {
    let mut program = Program::new(&[(
        Way::Patchlet(vec![0xfa]),
        vec![
            (vec![(0, true)], Way::Patchlet(vec![0x0f, 0x01, 0xca])),
            (vec![(1, true)], Way::Function),
        ],
    )]);
    program.image.site(call(0x200, 0));
    program
}

/// Switching between variants while CPUs run keeps to the ordinary rules: what a thread may be
/// inside of is refused by INT3 and made by the others, and nothing is written meanwhile.
#[test]
fn variants_are_switched_live_by_the_ordinary_rules() {
    use patchlet::live::Int3;
    let program = two_ways();
    let image = &program.image;
    let set = image.site_set();
    let live = crate::image::leak_live(set);
    let select = |features: Features| {
        // SAFETY: nobody executes an arena.
        unsafe { image.table.select(&features) }
    };
    let erms = Features::EMPTY.with(Feature::ERMS);
    // SAFETY: nobody executes an arena, so nobody is inside a site, either.
    let mut int3 = unsafe { Int3::new(live, image.second_mapping(), crate::writers_agree::Alone) };
    // From the indirect call to anything.
    select(erms);
    assert_eq!(int3.apply().unwrap().changed, 1);
    assert_eq!(image.at(0x200, 6), model::hex("0f 01 ca 0f 1f 00"));
    // From a patchlet to one of another length: a thread may be behind its first instruction.
    select(Features::EMPTY);
    let refused = int3.apply().unwrap_err();
    assert_eq!(refused.code(), "thread-inside");
    assert_eq!(image.at(0x200, 6), model::hex("0f 01 ca 0f 1f 00"));
    for (writer, features, bytes) in [
        (Writer::Int3, Features::EMPTY, "fa 0f 1f 44 00 00"),
        (Writer::Rendezvous, erms, "0f 01 ca 0f 1f 00"),
        (Writer::Int3, erms, "0f 01 ca 0f 1f 00"),
        (Writer::Boot, Features::EMPTY, "fa 0f 1f 44 00 00"),
    ] {
        select(features);
        let before = image.at(0x200, 6);
        let report = run(image, set, writer, false).unwrap();
        assert_eq!(image.at(0x200, 6), model::hex(bytes), "{writer:?}");
        assert_eq!(report.changed, usize::from(before != model::hex(bytes)), "{writer:?}");
    }
}

/// A hypervisor's layer has the last word until variants are selected again, and `reset` puts
/// defaults back.
#[test]
fn the_layer_has_the_last_word() {
    let program = two_ways();
    let table = program.image.table;
    let all = Features::EMPTY.with(Feature::ERMS).with(Feature::SMAP_ENABLED);
    let of_layer = target(0x1234_5670);
    // SAFETY: nobody calls through the slots.
    unsafe {
        table.select(&all);
        assert_eq!(table.get(0), Some(program.ops[0][2].target), "the last of two eligible ones");
        assert!(table.set(0, of_layer));
        assert_eq!(table.get(0), Some(of_layer));
        table.select(&all.without(Feature::SMAP_ENABLED));
        assert_eq!(table.get(0), Some(program.ops[0][1].target));
    }
    table.reset();
    assert_eq!(table.get(0), Some(program.ops[0][0].target));
}

/// A variant that its site has no room for is refused before anything is written, by name.
#[test]
fn a_variant_too_long_for_its_site_is_refused() {
    let mut program = Program::new(&[(
        Way::Patchlet(vec![0xfa]),
        vec![(vec![(0, true)], Way::Patchlet(vec![0x90; 7]))],
    )]);
    program.image.site(call(0x200, 0));
    program.image.site(call(0x300, 0));
    let before = program.image.bytes();
    // SAFETY: nobody executes an arena.
    unsafe { program.image.table.select(&Features::EMPTY.with(Feature::ERMS)) };
    let slot = program.image.slot_offset(0).unwrap();
    for writer in WRITERS {
        let error = run(&program.image, program.image.site_set(), writer, false).unwrap_err();
        let why = patchlet::ComposeError::TooLong { len: 7, capacity: 6 };
        let site = program.image.arena.address(0x200);
        assert_eq!(error, Error::Compose { site, name: "op", why }, "{writer:?}");
        let after = program.image.bytes();
        assert!(after[..slot] == before[..slot], "{writer:?}: written");
    }
}
