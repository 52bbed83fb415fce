//! Random programs over the built-in table, which is one for the whole process:
//! nothing else in this test binary may touch its slots.

use patchlet::{Nops, pv};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::apply::{Program, platform, run, sites, step};
use crate::arena::Arena;
use crate::image::Image;

#[test]
fn every_byte_is_the_models() {
    let ops = pv::TABLE.ops().len();
    let slots = (&raw const pv::SLOTS).addr();
    let arena = Arena::near(slots);
    let config =
        ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    let programs = (sites(ops), prop::collection::vec(step(), 1..=20), platform());
    let outcome = TestRunner::new(config).run(&programs, |(sites, steps, platform)| {
        pv::reset();
        arena.open_text();
        let program = Program { ops: vec![None; ops], sites, steps, nops: Nops::Long };
        run(Image::over(arena, &pv::TABLE, slots), &program, platform);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
