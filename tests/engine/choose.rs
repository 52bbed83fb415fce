//! Choosing: the five rules of `Choice::replacement` hold in their order. Tried with every case
//! that can be told apart, coinciding functions included.

use patchlet::Replacement;
use patchlet::choose::Choice;
use patchlet::{Kind, Width};

use crate::model::{self, Facts};

/// Small numbers coincide often; 0 is null.
const ADDRESSES: &[u64] = if cfg!(miri) { &[0, 1] } else { &[0, 1, 2, 3, 4, u64::MAX] };

#[test]
fn the_rules_hold_in_their_order() {
    for kind in [Kind::Call, Kind::Jump] {
        for width in [Width::Bits32, Width::Bits64] {
            for patchlet in [None, Some(&[0xfa][..]), Some(&[0x90; 32])] {
                for slot in ADDRESSES.iter().copied() {
                    for native in ADDRESSES.iter().copied() {
                        for nop in ADDRESSES.iter().copied() {
                            for ident in ADDRESSES.iter().copied() {
                                let facts = Facts { width, native, patchlet, nop, ident };
                                check(&facts, slot, kind);
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
        native: facts.native,
        patchlet: facts.patchlet.unwrap_or_default(),
        nop: facts.nop,
        ident: facts.ident,
        ident_patchlet: if facts.width == Width::Bits64 { model::IDENTITY } else { &[] },
        trap: model::TRAP,
    };
    let expected = model::choose(facts, slot, kind);
    assert_eq!(choice.replacement(slot, kind), expected, "{facts:?}, slot {slot:#x}, {kind:?}");
}

/// What an op of the built-in table is chosen by, for the width of this test.
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
    for op in patchlet::pv::TABLE.ops() {
        let choice = op.choice();
        let row = rows.iter().find(|row| match op.name() {
            "ident" => row.name == "ident_64",
            name => row.name == name,
        });
        assert_eq!(choice.patchlet, row.map_or(&[][..], |row| &row.bytes), "{op}");
        assert_eq!(choice.native, op.native().address() as u64, "{op}");
        assert_eq!(choice.nop, Target::NOP.address() as u64);
        assert_eq!(choice.ident, Target::IDENT.address() as u64);
        assert_eq!(choice.trap, model::TRAP);
        let identity = if width == Width::Bits64 { model::IDENTITY } else { &[] };
        assert_eq!(choice.ident_patchlet, identity);
        // By default an op is its patchlet; `ident` is the identity function itself.
        let by_default = choice.replacement(choice.native, Kind::Call);
        match (op.name(), width) {
            ("ident", Width::Bits64) => {
                assert_eq!(by_default, Replacement::Identity(choice.ident_patchlet));
            }
            ("ident", Width::Bits32) => assert_eq!(by_default, Replacement::Nops),
            _ => assert_eq!(by_default, Replacement::Patchlet(choice.patchlet), "{op}"),
        }
    }
    assert_ne!(Target::NOP.address(), 0);
    assert_ne!(Target::IDENT.address(), 0);
}
