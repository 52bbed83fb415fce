//! The rule, over random sites, against a disassembler: it says where in the old
//! bytes a thread can really be, the rule says it without knowing the patchlets.

use std::sync::LazyLock;

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use patchlet::Replacement;
use patchlet::live::{INT3, admit};
use patchlet::text::Outcome;
use patchlet::{Error, Goal, InsnBuffer, Kind, Nops, Width};
use proptest::prelude::*;

use crate::image::{Image, Site, TEXT};

const ADDRESS: u64 = 0x1000_0000;

/// An outcome to be overwritten: other crates cannot make one.
fn any_outcome() -> Outcome<'static> {
    static OUTCOME: LazyLock<Outcome<'static>> = LazyLock::new(|| {
        let mut image = Image::new(&[None]);
        image.site(Site { at: TEXT.start, op: 0, kind: Kind::Call, capacity: 6 });
        let patcher = Box::leak(Box::new(image.patcher(image.writable())));
        patcher.plan(Goal::Patched).unwrap().outcomes().next().unwrap()
    });
    *OUTCOME
}

/// Where a thread can be in these bytes beside the first.
fn boundaries(code: &[u8]) -> Vec<usize> {
    let mut decoder = Decoder::with_ip(usize::BITS, code, ADDRESS, DecoderOptions::NONE);
    let mut found = Vec::new();
    while decoder.can_decode() {
        let insn = decoder.decode();
        let comes_back = matches!(
            insn.flow_control(),
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall
        );
        if !comes_back {
            break;
        }
        found.push(decoder.position());
    }
    found
}

/// Of these the rule knows no instruction: it looks at all bytes but the first.
fn is_patchlet(held: Replacement<'_>) -> bool {
    matches!(held, Replacement::Patchlet(_) | Replacement::Identity(_))
}

/// Of one instruction, of two, of three; jumps and traps among them.
const PATCHLETS: [&[u8]; 9] = [
    &[0xfa],
    &[0xfb],
    &[0x9c, 0x58],
    &[0x57, 0x9d],
    &[0x0f, 0x20, 0xd0],
    &[0x8d, 0x44, 0x24, 0x00],
    &[0x0f, 0x31, 0x89, 0xd0, 0x90],
    &[0x81, 0xc0, 0x01, 0x02, 0x03, 0x04],
    &[0xcf],
];

const SLOT: u64 = ADDRESS + 0x5000;

fn held() -> impl Strategy<Value = (Kind, Replacement<'static>)> {
    let near =
        (-0x1000_0000..0x1000_0000_i64).prop_map(|distance| ADDRESS.wrapping_add_signed(distance));
    let patchlet = prop::sample::select(&PATCHLETS[..]);
    let kinds = prop_oneof![
        2 => Just(Replacement::Indirect(Kind::Call, SLOT)),
        2 => patchlet.prop_map(Replacement::Patchlet),
        2 => near.prop_map(Replacement::Call),
        1 => Just(Replacement::Nops),
        1 => Just(Replacement::Identity(&[0x48, 0x89, 0xf8])),
        1 => Just(Replacement::Trap(&[0x0f, 0x0b])),
    ];
    (kinds, any::<bool>()).prop_map(|(held, jump)| {
        let kind = if jump { Kind::Jump } else { Kind::Call };
        (kind, as_kind(kind, held))
    })
}

/// The same at a site of this kind.
fn as_kind(kind: Kind, held: Replacement<'static>) -> Replacement<'static> {
    match held {
        Replacement::Indirect(_, slot) => Replacement::Indirect(kind, slot),
        Replacement::Call(target) | Replacement::Jump(target) => match kind {
            Kind::Call => Replacement::Call(target),
            Kind::Jump => Replacement::Jump(target),
        },
        held => held,
    }
}

fn bytes(held: Replacement<'_>, capacity: u8, nops: Nops) -> InsnBuffer {
    InsnBuffer::compose(Width::NATIVE, nops, ADDRESS, capacity, &held).unwrap()
}

proptest! {
    #[test]
    fn what_is_admitted_leaves_each_thread_its_instructions(
        (kind, held) in held(),
        (_, to) in held(),
        capacity in 6_u8..=32,
        lea: bool,
    ) {
        let nops = if lea { Nops::Lea } else { Nops::Long };
        let old = bytes(held, capacity, nops);
        let to = as_kind(kind, to);
        let new = bytes(to, capacity, nops);
        let mut outcome = any_outcome();
        (outcome.address, outcome.name, outcome.may_trap) = (ADDRESS as usize, "op", true);
        (outcome.old, outcome.new) = (held, to);
        (outcome.old_bytes, outcome.new_bytes) = (old, new);
        // The new bytes from each on are the old ones, and the next time the rule is
        // asked it looks at them from there on, or from before.
        let (old_boundaries, new_boundaries) = (boundaries(old.bytes()), boundaries(new.bytes()));
        let harmless = old_boundaries.iter().filter(|&&at| at < usize::from(capacity)).all(|&at| {
            old.bytes()[at..] == new.bytes()[at..] && (is_patchlet(to) || new_boundaries.iter().any(|&first| first <= at))
        });
        match admit(&outcome, nops) {
            Ok(()) => prop_assert!(harmless),
            Err(Error::ThreadInside { site, name, boundary, old: said_old, new: said_new }) => {
                prop_assert_eq!((site, name), (outcome.address, "op"));
                prop_assert_eq!((said_old, said_new), (old, new));
                prop_assert!(boundary < old.bytes().len());
                prop_assert!(is_patchlet(held) || !harmless, "refused for nothing");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }

        // Whatever the bytes: not where there may be no stack, and not if an INT3
        // could be the replacement's own.
        let mut assembly = outcome;
        assembly.may_trap = false;
        prop_assert_eq!(
            admit(&assembly, nops),
            Err(Error::NotEmulated { site: outcome.address, name: "op" })
        );
        let mut breakpoint = outcome.new_bytes.bytes().to_vec();
        breakpoint[0] = INT3;
        let breakpoint = InsnBuffer::copy_of(&breakpoint).unwrap();
        let (mut into, mut out_of) = (outcome, outcome);
        (into.new_bytes, out_of.old_bytes) = (breakpoint, breakpoint);
        for outcome in [into, out_of] {
            prop_assert_eq!(
                admit(&outcome, nops),
                Err(Error::Breakpoint { site: outcome.address, name: "op" })
            );
        }
    }
}

/// A thread may be behind each byte of a patchlet but the last. Pairs that agree behind
/// the second byte are rare above.
#[test]
fn a_patchlet_may_become_one_that_differs_in_the_first_byte_only() {
    let (nops, capacity) = (Nops::Long, 6);
    for (old, new) in PATCHLETS.iter().flat_map(|old| PATCHLETS.map(|new| (*old, new))) {
        let [held, to] = [old, new].map(Replacement::Patchlet);
        let mut outcome = any_outcome();
        outcome.may_trap = true;
        (outcome.old, outcome.new) = (held, to);
        outcome.old_bytes = bytes(held, capacity, nops);
        outcome.new_bytes = bytes(to, capacity, nops);
        let may = outcome.old_bytes.bytes()[1..] == outcome.new_bytes.bytes()[1..];
        assert_eq!(admit(&outcome, nops).is_ok(), may, "{old:02x?} to {new:02x?}");
    }
}

#[test]
fn the_errors_say_what_to_do() {
    let (old, new) = (
        InsnBuffer::copy_of(&[0xe8, 1, 2, 3, 4, 0x90]).unwrap(),
        InsnBuffer::copy_of(&[0x66, 0x0f, 0x1f, 0x44, 0, 0]).unwrap(),
    );
    let (site, name) = (0x1000, "op");
    assert_eq!(
        Error::ThreadInside { site, name, boundary: 5, old, new }.to_string(),
        "site 0x1000 (op): a thread may go on at byte 5 of e8 01 02 03 04 90, which \
         66 0f 1f 44 00 00 has not: use the rendezvous"
    );
    for error in [Error::NotEmulated { site, name }, Error::Breakpoint { site, name }] {
        let text = error.to_string();
        assert!(text.starts_with("site 0x1000 (op) ") && text.ends_with(": use the rendezvous"));
    }
    assert_eq!(Error::Busy.to_string(), "another writer is at work on these sites");
}
