//! Composing: every byte against the model, and the meaning of the bytes by a
//! disassembler that knows neither. Both widths, both NOP families, capacities 0
//! to 33, targets forward, backward, at the limits of a rel32, one beyond, and
//! across the ends of the address space.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use patchlet::Replacement;
use patchlet::{ComposeError, InsnBuffer, Kind, Nops, Width};
use proptest::prelude::*;

use crate::{model, table};

const WIDTHS: [Width; 2] = [Width::Bits32, Width::Bits64];
const FAMILIES: [Nops; 2] = [Nops::Long, Nops::Lea];
const KINDS: [Kind; 2] = [Kind::Call, Kind::Jump];

/// Addresses at which arithmetic can go wrong.
const CORNERS: [u64; 13] = [
    0,
    1,
    5,
    0x40_0000,
    0x7fff_fffb,
    0x8000_0000,
    0xffff_fffb,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_fffb,
    0x8000_0000_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_fffb,
];

/// Distances from a site around which reach begins and ends.
const DISTANCES: [i64; 7] = [0, 5, 6, i32::MAX as i64, i32::MIN as i64, u32::MAX as i64, i64::MAX];

fn branch(kind: Kind, target: u64) -> Replacement<'static> {
    match kind {
        Kind::Call => Replacement::Call(target),
        Kind::Jump => Replacement::Jump(target),
    }
}

/// An address of that width.
fn fit(width: Width, address: u64) -> u64 {
    if width == Width::Bits64 { address } else { address & 0xffff_ffff }
}

fn decode(width: Width, address: u64, bytes: &[u8]) -> Vec<Instruction> {
    let bits = if width == Width::Bits64 { 64 } else { 32 };
    Decoder::with_ip(bits, bytes, address, DecoderOptions::NONE).into_iter().collect()
}

/// One composed site, by the model and by its meaning.
fn check(width: Width, nops: Nops, address: u64, capacity: u8, replacement: &Replacement<'_>) {
    let context = || format!("{width:?} {nops:?} {address:#x} {capacity} {replacement:x?}");
    let composed = InsnBuffer::compose(width, nops, address, capacity, replacement);
    match model::compose(width, nops, address, capacity, replacement) {
        Err(errors) => {
            let error = composed.expect_err(&context());
            assert!(errors.contains(&error), "{error:?} is none of {errors:?}: {}", context());
        }
        Ok(expected) => {
            let buffer = composed.unwrap_or_else(|error| panic!("{error:?}: {}", context()));
            assert_eq!(buffer.bytes(), expected, "{}", context());
            assert_eq!(InsnBuffer::copy_of(&expected), Some(buffer), "{}", context());
            let wanted = match *replacement {
                Replacement::Call(target) => {
                    check_branch(width, address, buffer.bytes(), Mnemonic::Call, target);
                    5
                }
                Replacement::Jump(target) => {
                    check_branch(width, address, buffer.bytes(), Mnemonic::Jmp, target);
                    5
                }
                Replacement::Nops => 0,
                Replacement::Indirect(..) => unreachable!("`check_indirect` looks at these"),
                Replacement::Patchlet(bytes)
                | Replacement::Nop(bytes)
                | Replacement::Identity(bytes)
                | Replacement::Zero(bytes)
                | Replacement::Trap(bytes) => bytes.len(),
            };
            check_nops(width, nops, &buffer.bytes()[wanted..]);
        }
    }
}

fn check_branch(width: Width, address: u64, bytes: &[u8], mnemonic: Mnemonic, target: u64) {
    let first = decode(width, address, bytes)[0];
    assert_eq!((first.mnemonic(), first.len()), (mnemonic, 5), "{first}");
    assert!(first.is_call_near() || first.is_jmp_short_or_near(), "{first}");
    assert_eq!(first.near_branch_target(), target, "{first} at {address:#x}");
}

/// They change nothing, there are no fewer that would do, and nothing follows.
fn check_nops(width: Width, nops: Nops, bytes: &[u8]) {
    let instructions = decode(width, 0, bytes);
    assert_eq!(instructions.iter().map(Instruction::len).sum::<usize>(), bytes.len());
    for instruction in &instructions {
        assert!(is_nop(width, instruction), "`{instruction}` is no NOP in {width:?}");
    }
    let fewest = model::fewest(&model::family(width, nops), bytes.len())[bytes.len()];
    assert_eq!(instructions.len(), fewest, "{bytes:02x?} ({width:?} {nops:?})");
}

fn is_nop(width: Width, instruction: &Instruction) -> bool {
    let same = match instruction.mnemonic() {
        Mnemonic::Nop => return true,
        Mnemonic::Mov => {
            instruction.op1_kind() == OpKind::Register
                && instruction.op0_register() == instruction.op1_register()
        }
        Mnemonic::Lea => {
            instruction.op0_register() == instruction.memory_base()
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == 0
        }
        _ => false,
    };
    // In 64-bit code writing a 32-bit register clears the upper half.
    same && width == Width::Bits32
        && instruction.op0_register().is_gpr32()
        && instruction.op0_register() != Register::ESP
}

#[test]
#[cfg_attr(miri, ignore = "many cases; slow")]
fn every_built_in_patchlet_at_every_capacity() {
    for width in WIDTHS {
        let rows = match width {
            Width::Bits64 => table::native(table::Width::Bits64),
            Width::Bits32 => table::native(table::Width::Bits32),
        };
        for (row, nops) in rows.iter().flat_map(|row| FAMILIES.map(|nops| (row, nops))) {
            for capacity in 0..=33 {
                check(width, nops, 0x1000, capacity, &Replacement::Patchlet(&row.bytes));
                check(width, nops, 0x1000, capacity, &Replacement::Identity(&row.bytes));
                check(width, nops, 0x1000, capacity, &Replacement::Zero(&row.bytes));
                check(width, nops, 0x1000, capacity, &Replacement::Trap(&row.bytes));
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "many cases; slow")]
fn patchlets_of_any_length_at_every_capacity() {
    let bytes = [0xcc; 40];
    for width in WIDTHS {
        for nops in FAMILIES {
            for capacity in 0..=33 {
                for len in 0..=bytes.len() {
                    check(width, nops, 0, capacity, &Replacement::Patchlet(&bytes[..len]));
                }
            }
        }
    }
}

/// Among them 12, 19 and 26, where the longest `lea` first is not the fewest.
#[test]
fn the_fewest_nops_for_every_length() {
    for width in WIDTHS {
        for nops in FAMILIES {
            for capacity in [0, 33, 34, 255].into_iter().chain(1..=32) {
                check(width, nops, 0x1234, capacity, &Replacement::Nops);
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "many cases; slow")]
fn targets_at_every_corner() {
    for width in WIDTHS {
        for address in CORNERS.map(|address| fit(width, address)) {
            let targets = DISTANCES.into_iter().flat_map(|distance| {
                (-7..=7).flat_map(move |more| {
                    let distance = distance.wrapping_add(more);
                    [address.wrapping_add_signed(distance), address.wrapping_sub(distance as u64)]
                })
            });
            for target in targets.chain(CORNERS) {
                for kind in KINDS {
                    check(width, Nops::Long, address, 6, &branch(kind, target));
                    check(width, Nops::Long, address, 6, &branch(kind, fit(width, target)));
                }
            }
        }
    }
}

#[test]
fn the_reach_of_a_rel32_ends_exactly_where_it_must() {
    let site = 0x1000_0000_0000;
    let end = site + 5;
    let reach = |target| {
        InsnBuffer::compose(Width::Bits64, Nops::Long, site, 6, &Replacement::Call(target))
    };
    let bytes = |target| reach(target).map(|buffer| buffer.bytes()[..5].to_vec());
    assert_eq!(bytes(end + 0x7fff_ffff), Ok(model::hex("e8 ff ff ff 7f")));
    assert_eq!(bytes(end - 0x8000_0000), Ok(model::hex("e8 00 00 00 80")));
    for target in [end + 0x8000_0000, end - 0x8000_0001] {
        assert_eq!(reach(target), Err(ComposeError::OutOfReach { target }));
    }
}

/// `indirect` and what it says to a disassembler: through exactly that slot.
fn check_indirect(width: Width, kind: Kind, address: u64, capacity: u8, slot: u64) {
    let context = || format!("{width:?} {kind:?} {address:#x} {capacity} {slot:#x}");
    let expected = model::indirect(width, kind, address, capacity, slot);
    let buffer = {
        let indirect = Replacement::Indirect(kind, slot);
        InsnBuffer::compose(width, Nops::Long, address, capacity, &indirect)
    };
    assert_eq!(buffer.map(|buffer| buffer.bytes().to_vec()), expected, "{}", context());
    let Ok(buffer) = buffer else { return };
    // Equal to what is read from text, whatever lies behind the capacity.
    assert_eq!(InsnBuffer::copy_of(&expected.unwrap()), Some(buffer), "{}", context());
    let instructions = decode(width, address, buffer.bytes());
    let first = instructions[0];
    let code = match (width, kind) {
        (Width::Bits64, Kind::Call) => Code::Call_rm64,
        (Width::Bits64, Kind::Jump) => Code::Jmp_rm64,
        (Width::Bits32, Kind::Call) => Code::Call_rm32,
        (Width::Bits32, Kind::Jump) => Code::Jmp_rm32,
    };
    assert_eq!((first.code(), first.len()), (code, 6), "{}", context());
    assert_eq!(first.is_ip_rel_memory_operand(), width == Width::Bits64);
    assert_eq!(first.memory_displacement64(), slot, "{}", context());
    assert_eq!(first.memory_index(), Register::None);
    assert!(matches!(first.memory_base(), Register::None | Register::RIP));
    assert_eq!(instructions.len(), 1 + usize::from(capacity) - 6);
    assert!(instructions[1..].iter().all(|nop| nop.mnemonic() == Mnemonic::Nop));
}

#[test]
#[cfg_attr(miri, ignore = "many cases; slow")]
fn an_unpatched_site_names_its_slot() {
    for width in WIDTHS {
        for kind in KINDS {
            for address in CORNERS.map(|address| fit(width, address)) {
                for slot in CORNERS {
                    check_indirect(width, kind, address, 6, slot);
                }
                for distance in [0, 6, i32::MAX as i64, i32::MIN as i64] {
                    for more in -7..=7 {
                        let slot = address.wrapping_add_signed(distance + more);
                        check_indirect(width, kind, address, 7, slot);
                    }
                }
            }
            for capacity in 0..=255 {
                check_indirect(width, kind, 0x1000, capacity, 0x2000);
            }
        }
    }
}

#[test]
fn a_copy_has_at_most_32_bytes() {
    let bytes: Vec<u8> = (0..40).collect();
    for len in 0..=40 {
        let copy = InsnBuffer::copy_of(&bytes[..len]);
        assert_eq!(
            copy.map(|copy| copy.bytes().to_vec()),
            (len <= 32).then(|| bytes[..len].into())
        );
    }
}

#[test]
fn a_buffer_prints_as_hex() {
    let buffer = InsnBuffer::copy_of(&[0x0f, 0x1f, 0]).unwrap();
    assert_eq!(
        (buffer.to_string(), format!("{buffer:?}")),
        ("0f 1f 00".into(), "[0f 1f 00]".into())
    );
    assert_eq!(InsnBuffer::copy_of(&[]).unwrap().to_string(), "");
}

/// An address anywhere, or near one of the corners.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (prop::sample::select(&CORNERS[..]), -64_i64..64)
            .prop_map(|(corner, more)| corner.wrapping_add_signed(more)),
    ]
}

/// Where a branch goes, as seen from its site: anywhere, in reach, at the limits.
fn distance() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        any::<i32>().prop_map(i64::from),
        (prop::sample::select(&DISTANCES[..]), -8_i64..8)
            .prop_map(|(distance, more)| distance.wrapping_add(more)),
        (prop::sample::select(&DISTANCES[..]), -8_i64..8)
            .prop_map(|(distance, more)| 0_i64.wrapping_sub(distance).wrapping_add(more)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 20 } else { 2500 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn branches_are_what_the_model_says(
        width in prop::sample::select(&WIDTHS[..]),
        nops in prop::sample::select(&FAMILIES[..]),
        kind in prop::sample::select(&KINDS[..]),
        capacity in prop_oneof![1 => 0_u8..=5, 9 => 5_u8..=33],
        address in address(),
        distance in distance(),
        wide in prop::bool::weighted(0.1),
    ) {
        let address = fit(width, address);
        let target = address.wrapping_add_signed(distance);
        let target = if wide { target } else { fit(width, target) };
        check(width, nops, address, capacity, &branch(kind, target));
        check_indirect(width, kind, address, capacity, target);
    }

    #[test]
    fn patchlets_are_what_the_model_says(
        width in prop::sample::select(&WIDTHS[..]),
        nops in prop::sample::select(&FAMILIES[..]),
        capacity in 0_u8..=33,
        address in address(),
        bytes in prop::collection::vec(any::<u8>(), 0..=34),
    ) {
        let address = fit(width, address);
        check(width, nops, address, capacity, &Replacement::Patchlet(&bytes));
        check(width, nops, address, capacity, &Replacement::Trap(&bytes));
        check(width, nops, address, capacity, &Replacement::Identity(&bytes));
        check(width, nops, address, capacity, &Replacement::Zero(&bytes));
    }
}
