//! Choosing: the six rules of `Choice::replacement` hold in their order. Tried with every case
//! that can be told apart, coinciding functions included.

use patchlet::Replacement;
use patchlet::choose::Choice;
use patchlet::{Kind, Width};

use crate::model::{self, Facts};

/// Small numbers coincide often; 0 is null.
const ADDRESSES: &[u64] = if cfg!(miri) { &[0, 1] } else { &[0, 1, 2, 3, u64::MAX] };

/// The bytes of an op's own patchlets: of none, of one, or of a default and a variant.
const PATCHLETS: &[&[&[u8]]] = &[&[], &[&[0xfa]], &[&[0x90; 32]], &[&[0xfa], &[0x0f, 0x31]]];

#[test]
fn the_rules_hold_in_their_order() {
    let list = || ADDRESSES.iter().copied();
    for kind in [Kind::Call, Kind::Jump] {
        for width in [Width::Bits32, Width::Bits64] {
            for patchlets in PATCHLETS {
                for slot in list() {
                    for nop in list() {
                        for ident in list() {
                            for zero in list() {
                                for first in list() {
                                    for second in list() {
                                        let own = [first, second].into_iter();
                                        let own = own.zip(patchlets.iter().copied());
                                        let own = &own.collect::<Vec<_>>()[..];
                                        let facts = Facts { width, own, nop, ident, zero };
                                        check(&facts, slot, kind);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn check(facts: &Facts<'_>, slot: u64, kind: Kind) {
    let choice = Choice {
        nop: facts.nop,
        ident: facts.ident,
        ident_patchlet: if facts.width == Width::Bits64 { model::IDENTITY } else { &[] },
        zero: facts.zero,
        zero_patchlet: model::ZERO,
        trap: model::TRAP,
    };
    let expected = model::choose(facts, slot, kind);
    let chosen = choice.replacement(slot, kind, |target| {
        facts.own.iter().find(|(native, _)| *native == target).map(|(_, bytes)| *bytes)
    });
    assert_eq!(chosen, expected, "{facts:?}, slot {slot:#x}, {kind:?}");
}

/// What sites of the built-in ops get, for the width of this test.
#[test]
#[cfg_attr(miri, ignore = "the labels are in an assembled object")]
fn the_facts_of_the_built_in_ops_are_the_tables() {
    use patchlet::ops::Target;
    let width = Width::NATIVE;
    let table_width = if width == Width::Bits64 {
        crate::table::Width::Bits64
    } else {
        crate::table::Width::Bits32
    };
    let rows = crate::table::native(table_width);
    let table = &patchlet::pv::TABLE;
    for (index, op) in table.ops().iter().enumerate() {
        let row = rows.iter().find(|row| row.name == op.name()).map(|row| &row.bytes[..]);
        for kind in [Kind::Call, Kind::Jump] {
            let gets = |target| table.replacement(index, target, kind).expect("an op");
            let ident = match width {
                Width::Bits64 => Replacement::Identity(model::IDENTITY),
                Width::Bits32 => Replacement::Nops,
            };
            assert_eq!(gets(Target::NULL), Replacement::Trap(model::TRAP));
            assert_eq!(gets(Target::NOP), Replacement::Nops);
            assert_eq!(gets(Target::IDENT), ident);
            assert_eq!(gets(Target::ZERO), Replacement::Zero(model::ZERO));
            // By default an op is its patchlet; `ident` is the identity function itself.
            let by_default = row.map_or(ident, Replacement::Patchlet);
            assert_eq!(gets(op.native()), by_default, "{op}");
        }
    }
    assert_eq!(table.replacement(table.ops().len(), Target::NOP, Kind::Call), None);
    let functions = [Target::NULL, Target::NOP, Target::IDENT, Target::ZERO];
    for (place, function) in functions.iter().enumerate() {
        assert!(!functions[..place].contains(function), "two of {functions:?} are one");
    }
}
