//! The patcher over random programs: sites anywhere in text and in any order,
//! capacities 6 to 32, ops with and without patchlets, slots set to everything a
//! slot can hold, in random sequences of set, apply and revert. After each step
//! every byte of the arena, the plan, the outcomes, the report and the report by
//! op are those of the model, or the error is and no byte changed.

use patchlet::ops::Target;
use patchlet::text::{Outcome, Report};
use patchlet::{ComposeError, Error, Goal, Kind, Nops, Patcher, Platform, Replacement, Width};
use proptest::prelude::*;

use crate::image::{Image, SLOT, Site, TEXT, call, jump, leak_set, source, target};
use crate::model::{self, Facts, What};
use crate::platforms::{Recorder, one_cpu};

/// What a test puts into a slot.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    Native,
    Null,
    Nop,
    Ident,
    Zero,
    /// A function this far from the arena: in reach.
    Near(i32),
    /// A function this far beyond 2 GiB; on 32-bit everything is in reach.
    Far(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Set(usize, Held),
    Reset,
    Apply,
    Revert,
}

/// A program and what is done to it.
#[derive(Clone, Debug)]
pub struct Program {
    pub ops: Vec<Option<Vec<u8>>>,
    pub sites: Vec<Site>,
    pub steps: Vec<Step>,
    pub nops: Nops,
}

/// The model: the arena as it must be, and what each slot holds.
struct Model<'i> {
    image: &'i Image,
    sites: &'i [Site],
    nops: Nops,
    bytes: Vec<u8>,
    slots: Vec<usize>,
    /// What each site has; `None` is the indirect call or jump.
    held: Vec<Option<What>>,
}

/// What happens to a site, according to the model.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    address: usize,
    op: &'static str,
    kind: Kind,
    held: Option<What>,
    what: Option<What>,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl<'i> Model<'i> {
    fn new(image: &'i Image, sites: &'i [Site], nops: Nops) -> Self {
        let slots = image.table.ops().iter().map(|op| op.native().address()).collect();
        let held = vec![None; sites.len()];
        Self { image, sites, nops, bytes: image.bytes(), slots, held }
    }

    fn set(&mut self, op: usize, address: usize) {
        self.slots[op] = address;
        if let Some(at) = self.image.slot_offset(op) {
            self.bytes[at..at + SLOT].copy_from_slice(&address.to_le_bytes());
        }
    }

    /// The replacement and the bytes for what the slot holds.
    fn patched(&self, site: &Site) -> Result<(What, Vec<u8>), ComposeError> {
        let op = &self.image.table.ops()[site.op];
        let slot = self.slots[site.op] as u64;
        let native = op.native().address() as u64;
        let own = op.patchlet().map(|patchlet| (native, patchlet.bytes()));
        let own = own.into_iter().collect::<Vec<_>>();
        let facts = Facts {
            width: Width::NATIVE,
            own: &own,
            nop: Target::NOP.address() as u64,
            ident: Target::IDENT.address() as u64,
            zero: Target::ZERO.address() as u64,
        };
        let replacement = model::choose(&facts, slot, site.kind);
        let address = self.image.arena.address(site.at) as u64;
        let bytes = model::compose(Width::NATIVE, self.nops, address, site.capacity, &replacement);
        // Capacities are 6 at least, so only one thing can be wrong.
        let what = model::what(&replacement).expect("no indirect branch");
        bytes.map(|bytes| (what, bytes)).map_err(|errors| errors[0])
    }

    fn outcomes(&self, goal: Goal) -> Result<Vec<Expected>, Error> {
        let sites = self.sites.iter().zip(&self.held);
        sites.map(|(site, &held)| self.outcome(site, held, goal)).collect()
    }

    fn outcome(&self, site: &Site, held: Option<What>, goal: Goal) -> Result<Expected, Error> {
        let address = self.image.arena.address(site.at);
        let op = self.image.table.ops()[site.op].name();
        let (what, new) = match goal {
            Goal::Original => (None, self.image.unpatched(*site)),
            Goal::Patched => {
                let error = |why| Error::Compose { site: address, name: op, why };
                let (what, new) = self.patched(site).map_err(error)?;
                (Some(what), new)
            }
        };
        let old = self.bytes[site.at..][..usize::from(site.capacity)].to_vec();
        // The patchlet of `vcpu_is_preempted` and the one that returns 0 have the same bytes. A site
        // then holds what it is to get.
        let held = if old == new { what } else { held };
        Ok(Expected { address, op, kind: site.kind, held, what, old, new })
    }

    fn write(&mut self, outcomes: &[Expected]) {
        self.held = outcomes.iter().map(|outcome| outcome.what).collect();
        for (site, outcome) in self.sites.iter().zip(outcomes) {
            self.bytes[site.at..site.at + outcome.new.len()].copy_from_slice(&outcome.new);
        }
    }
}

fn report<'e>(outcomes: impl Iterator<Item = &'e Expected>) -> Report {
    let mut report = Report::default();
    for outcome in outcomes {
        report.sites += 1;
        report.changed += usize::from(outcome.old != outcome.new);
        report.patchlets += usize::from(outcome.what == Some(What::Patchlet));
        report.calls += usize::from(outcome.what == Some(What::Call));
        report.jumps += usize::from(outcome.what == Some(What::Jump));
        report.nops += usize::from(outcome.what == Some(What::Nops));
        report.identities += usize::from(outcome.what == Some(What::Identity));
        report.zeros += usize::from(outcome.what == Some(What::Zero));
        report.traps += usize::from(outcome.what == Some(What::Trap));
        report.indirect += usize::from(outcome.what.is_none());
    }
    report
}

fn found(outcome: Outcome<'_>) -> Expected {
    Expected {
        address: outcome.address,
        op: outcome.name,
        kind: match outcome.original {
            Replacement::Indirect(kind, _) => kind,
            other => panic!("{other:?} is no original of an op"),
        },
        held: model::what(&outcome.old),
        what: model::what(&outcome.new),
        old: outcome.old_bytes.bytes().to_vec(),
        new: outcome.new_bytes.bytes().to_vec(),
    }
}

/// Puts the program into the image and takes every step.
pub fn run(mut image: Image, program: &Program, platform: PlatformOf) {
    for &site in &program.sites {
        image.site(site);
    }
    let long = Program { nops: Nops::Long, ..program.clone() };
    match platform {
        PlatformOf::Writable => steps(&image, &long, image.patcher(image.writable())),
        PlatformOf::SecondMapping => {
            image.arena.protect_text();
            steps(&image, &long, image.patcher(image.second_mapping()));
        }
        PlatformOf::Recorder => {
            image.arena.protect_text();
            let mut recorder = Recorder::new(&image);
            recorder.nops = program.nops;
            steps(&image, program, image.patcher(recorder));
        }
    }
}

/// Which platform the program has.
#[derive(Clone, Copy, Debug)]
pub enum PlatformOf {
    Writable,
    SecondMapping,
    Recorder,
}

fn steps<P: Platform>(image: &Image, program: &Program, mut patcher: Patcher<'_, P>) {
    let mut model = Model::new(image, &program.sites, program.nops);
    for step in &program.steps {
        match *step {
            Step::Set(op, held) => {
                let op = op % program.ops.len();
                let base = image.arena.address(0);
                let held = match held {
                    Held::Native => image.table.ops()[op].native(),
                    Held::Null => Target::NULL,
                    Held::Nop => Target::NOP,
                    Held::Ident => Target::IDENT,
                    Held::Zero => Target::ZERO,
                    Held::Near(distance) => target(base.wrapping_add_signed(distance as isize)),
                    Held::Far(more) => {
                        target(base.wrapping_add(0x8000_1000).wrapping_add(more as usize))
                    }
                };
                image.set(op, held);
                model.set(op, held.address());
            }
            Step::Reset => {
                image.table.reset();
                for (index, op) in image.table.ops().iter().enumerate() {
                    model.set(index, op.native().address());
                }
            }
            Step::Apply => write(&mut patcher, &mut model, Goal::Patched),
            Step::Revert => write(&mut patcher, &mut model, Goal::Original),
        }
        assert!(image.bytes() == model.bytes, "after {step:?}");
    }
}

fn write<P: Platform>(patcher: &mut Patcher<'_, P>, model: &mut Model<'_>, goal: Goal) {
    let outcomes = model.outcomes(goal);
    let image_table = model.image.table;
    let planned = patcher.plan(goal).map(|plan| {
        assert_eq!(
            plan.report(),
            image_table.by_op(&plan).fold(Report::default(), |mut sum, (_, of_op)| {
                sum += of_op;
                sum
            })
        );
        for (op, of_op) in image_table.by_op(&plan) {
            let of_op_expected = outcomes.iter().flatten().filter(|o| o.op == op.name());
            assert_eq!(of_op, report(of_op_expected), "{op}");
        }
        plan.outcomes().map(found).collect::<Vec<_>>()
    });
    assert_eq!(planned, outcomes);
    let mut run = || {
        one_cpu(|cpu| match goal {
            Goal::Patched => patcher.apply(cpu),
            Goal::Original => patcher.revert(cpu),
        })
    };
    assert_eq!(run(), outcomes.as_ref().map(|all| report(all.iter())).map_err(|&error| error));
    if let Ok(outcomes) = outcomes {
        model.write(&outcomes);
        assert!(model.image.bytes() == model.bytes);
        // Again changes nothing.
        let mut again = report(outcomes.iter());
        again.changed = 0;
        assert_eq!(run(), Ok(again));
    }
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        3 => Just(Held::Native),
        2 => Just(Held::Null),
        2 => Just(Held::Nop),
        2 => Just(Held::Ident),
        2 => Just(Held::Zero),
        // Text and a call's own end are between the arena's ends.
        3 => (-0x7fff_0000..0x7fff_0000).prop_map(Held::Near),
        1 => (0_u32..0x7000_0000).prop_map(Held::Far),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..64, held()).prop_map(|(op, held)| Step::Set(op, held)),
        1 => Just(Step::Reset),
        4 => Just(Step::Apply),
        1 => Just(Step::Revert),
    ]
}

/// Sites that do not overlap, in any order; most follow at once.
pub fn sites(ops: usize) -> impl Strategy<Value = Vec<Site>> {
    let site = (prop_oneof![Just(0_usize), 0_usize..80], 6_u8..=32, any::<bool>(), 0..ops);
    prop::collection::vec(site, 0..=50)
        .prop_map(|parts| {
            let mut at = TEXT.start;
            let mut sites = Vec::new();
            for (gap, capacity, is_call, op) in parts {
                let kind = if is_call { Kind::Call } else { Kind::Jump };
                sites.push(Site { at: at + gap, capacity, kind, op });
                at += gap + usize::from(capacity);
            }
            // And one that ends where text ends.
            sites.push(Site { at: TEXT.end - 6, capacity: 6, kind: Kind::Call, op: 0 });
            sites
        })
        .prop_flat_map(|sites| prop_oneof![Just(sites.clone()), Just(sites).prop_shuffle()])
}

fn patchlet() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        2 => Just(None),
        12 => prop::collection::vec(any::<u8>(), 1..=6).prop_map(Some),
        1 => prop::collection::vec(any::<u8>(), 1..=32).prop_map(Some),
    ]
}

pub fn platform() -> impl Strategy<Value = PlatformOf> {
    use PlatformOf::{Recorder, SecondMapping, Writable};
    prop_oneof![Just(Writable), Just(SecondMapping), Just(Recorder)]
}

fn program() -> impl Strategy<Value = Program> {
    prop::collection::vec(patchlet(), 1..=8).prop_flat_map(|ops| {
        let nops = prop_oneof![Just(Nops::Long), Just(Nops::Lea)];
        (sites(ops.len()), prop::collection::vec(step(), 1..=20), nops)
            .prop_map(move |(sites, steps, nops)| Program { ops: ops.clone(), sites, steps, nops })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_byte_is_the_models(program in program(), platform in platform()) {
        let ops: Vec<_> = program.ops.iter().map(Option::as_deref).collect();
        run(Image::new(&ops), &program, platform);
    }
}

#[test]
fn a_table_without_a_site_is_fine() {
    let image = Image::new(&[None]);
    let mut patcher = image.patcher(image.writable());
    assert_eq!(one_cpu(|cpu| patcher.apply(cpu)), Ok(Report::default()));
    assert_eq!(patcher.plan(Goal::Original).unwrap().outcomes().count(), 0);
}

/// A kernel's sites and those of a module go through one ops table. Each set knows what its own
/// sites were last patched for, so the sets are patched in any order, and one of them may fall
/// behind by as many changes of a slot as it likes.
#[test]
fn two_patchers_of_one_table() {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    for site in [call(0x200, 0), jump(0x210, 1), call(0x300, 0), jump(0x310, 1)] {
        image.site(site);
    }
    let [kernel, module] =
        [0, 2].map(|first| leak_set(image.sites().part(first..first + 2), source(image.table)));
    let apply = |set| {
        let mut patcher = Patcher::new(set, image.second_mapping());
        one_cpu(|cpu| patcher.apply(cpu)).unwrap();
    };
    let unpatched = image.bytes();
    apply(kernel);
    apply(module);
    for function in [0x7000, 0x7100, 0x7200] {
        let before = image.bytes();
        for changes in [0x800, 0x400, 0] {
            image.set(0, target(image.arena.address(function + changes)));
            image.set(1, target(image.arena.address(function + changes + 0x80)));
            apply(kernel);
        }
        assert!(image.bytes()[0x300..0x316] == before[0x300..0x316]);
        apply(module);
        for at in [0x200, 0x210, 0x300, 0x310] {
            assert_ne!(image.at(at, 6), before[at..at + 6]);
        }
    }
    for set in [kernel, module] {
        let mut patcher = Patcher::new(set, image.second_mapping());
        one_cpu(|cpu| patcher.revert(cpu)).unwrap();
    }
    assert!(image.bytes()[..0x2000] == unpatched[..0x2000]);
}
