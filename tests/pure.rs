//! Tests the parts of the core that need no assembled object, over plain arrays. They run on the
//! host and under Miri (`make miri`), which has neither `asm!` nor the labels.
#![allow(unsafe_code)]

#[path = "support/frame.rs"]
mod frame;

use std::mem::size_of_val;

use frame::Frame;
use patchlet::live::{Handled, INT3, Live};
use patchlet::ops::__private::{Register, Slot};
use patchlet::ops::{Abi, Op, OpSource, Table, Target};
use patchlet::text::Part;
use patchlet::{ComposeError, InsnBuffer, Kind, Nops, Replacement, SiteSet, Sites, Width};

/// A program of three sites: text, slots and records side by side, as a linker
/// lays them out, with room behind the last record.
#[repr(C, align(16))]
struct Program {
    text: [u8; 32],
    slots: [usize; 2],
    records: [[u8; 12]; 4],
}

impl Program {
    /// Sites at these offsets of `text`, recorded in this order.
    fn new(sites: [usize; 3]) -> Box<Self> {
        let mut program = Box::new(Self { text: [0; 32], slots: [0; 2], records: [[0; 12]; 4] });
        let text = program.text.as_ptr().addr();
        for (index, offset) in sites.into_iter().enumerate() {
            let slot = program.slots.as_ptr().addr() + index % 2 * size_of::<usize>();
            let relative = |to: usize, at: usize| (to.wrapping_sub(at) as i32).to_le_bytes();
            let record = &mut program.records[index];
            let at = record.as_ptr().addr();
            record[..4].copy_from_slice(&relative(text + offset, at));
            record[4..8].copy_from_slice(&relative(slot, at + 4));
            record[8..].copy_from_slice(&[7, 1, 6 + index as u8, index as u8]);
        }
        program
    }

    fn sites(&self, len: usize) -> Sites<'_> {
        assert!(len <= size_of_val(&self.records));
        // SAFETY: aligned to 4, as the struct is and what is before the records
        // ends; inside of them; nothing writes while this is borrowed.
        unsafe { Sites::between(self.records.as_ptr().cast(), len) }
    }

    fn address(&self, offset: usize) -> usize {
        self.text.as_ptr().expose_provenance() + offset
    }
}

#[test]
fn a_record_says_what_was_written() {
    let program = Program::new([3, 10, 20]);
    let sites = program.sites(36);
    assert_eq!((sites.size(), sites.records().len()), (36, 3));
    for (index, (record, offset)) in sites.records().zip([3, 10, 20]).enumerate() {
        assert_eq!(record.site(), program.address(offset));
        assert_eq!(record.subject(), (&raw const program.slots[index % 2]).addr());
        assert_eq!(usize::from(record.capacity()), 6 + index);
        assert_eq!(record.number(), 0x107);
        assert_eq!(record.kind(), [Ok(Kind::Call), Ok(Kind::Jump), Err(2)][index]);
        let (site, subject) = (record.site(), record.subject());
        let kind = ["Ok(Call)", "Ok(Jump)", "Err(2)"][index];
        assert_eq!(
            format!("{record:?}"),
            format!(
                "Record {{ site: {site:#x}, subject: {subject:#x}, number: 263, capacity: {}, kind: {kind} }}",
                6 + index
            )
        );
    }
}

#[test]
fn a_table_may_end_inside_a_record() {
    let program = Program::new([3, 10, 20]);
    for len in [0, 1, 11, 12, 13, 35, 36, 47, 48] {
        let sites = program.sites(len);
        assert_eq!((sites.size(), sites.records().len()), (len, len / 12));
    }
}

#[test]
fn every_site_is_found_and_nothing_else_in_any_order() {
    for order in [[3, 10, 20], [20, 10, 3], [10, 20, 3], [20, 3, 10]] {
        let program = Program::new(order);
        for offset in 0..32 {
            let found = program.sites(36).find(program.address(offset)).map(|record| record.site());
            let expected = order.contains(&offset).then_some(program.address(offset));
            assert_eq!(found, expected, "at {offset} of {order:?}");
        }
    }
}

#[test]
fn without_a_batch_an_int3_is_somebody_elses_and_a_finished_site_is_executed() {
    let mut program = Program::new([3, 10, 20]);
    program.text[10] = INT3;
    // SAFETY: the only front end, of the only part.
    let source = unsafe { OpSource::new(&[], &[]) };
    // SAFETY: as above.
    let parts = [unsafe { Part::new(program.sites(36), &source) }];
    let set = SiteSet::new(&parts);
    let sets = [&set];
    let live = Live::new(&sets);
    let trap = |offset| {
        let mut frame = Frame { ip: program.address(offset) + 1, stack: Vec::new() };
        let handled = live.handle(&mut frame);
        assert!(frame.stack.is_empty());
        (handled, frame.ip - program.address(offset))
    };
    // An INT3 that a debugger put into a site; a site that has its instruction; no site.
    assert_eq!(trap(10), (Handled::No, 1));
    assert_eq!(trap(3), (Handled::Yes, 0));
    assert_eq!(trap(4), (Handled::No, 1));
}

fn native() {}
fn other() {}

static OPS: [Op; 2] = [
    Op::new("tlb", "flush", Abi::C, Target::function(native as *const ()), None),
    Op::new("time", "now", Abi::CalleeSave, Target::function(native as *const ()), None),
];
static SLOTS: [Slot; 2] = [const { Slot::new(Target::NULL) }; 2];

#[test]
fn a_table_keeps_what_was_put_into_its_slots() {
    // SAFETY: nobody calls what these slots hold.
    static TABLE: Table = unsafe { Table::new(&OPS, &SLOTS) };
    // Each address is taken once, because Miri gives a function another address each time.
    let (native, other) = (OPS[0].native(), Target::function(other as *const ()));
    assert_eq!(TABLE.get(1), Some(Target::NULL));
    // SAFETY: no code calls the functions in these slots.
    unsafe {
        assert!(TABLE.set(1, other));
        assert!(!TABLE.set(2, other));
    }
    assert_eq!([0, 1, 2].map(|op| TABLE.get(op)), [Some(Target::NULL), Some(other), None]);
    TABLE.reset();
    assert_eq!([0, 1].map(|op| TABLE.get(op)), [Some(native), Some(OPS[1].native())]);

    let start = SLOTS.as_ptr().addr();
    for offset in 0..3 * size_of::<usize>() {
        let expected = [(0, 0), (size_of::<usize>(), 1)].iter().find(|slot| slot.0 == offset);
        assert_eq!(TABLE.index_of_slot(start + offset), expected.map(|slot| slot.1));
    }
    assert_eq!(TABLE.index_of_slot(start - size_of::<usize>()), None);
}

#[test]
fn an_op_has_a_group_and_a_name() {
    let [flush, now] = &OPS;
    assert_eq!((flush.group(), flush.name(), flush.abi()), ("tlb", "flush", Abi::C));
    assert_eq!(now.to_string(), "time.now");
}

#[test]
fn a_result_is_the_part_of_the_register_that_c_defines() {
    assert_eq!(usize::from_register(usize::MAX), usize::MAX);
    assert!(bool::from_register(0x101));
    assert!(!bool::from_register(0x100));
    #[cfg(target_pointer_width = "64")]
    assert_eq!(u64::from_register(usize::MAX), u64::MAX);
}

#[test]
fn a_slot_is_as_wide_as_a_pointer() {
    assert_eq!([Width::Bits32, Width::Bits64].map(Width::pointer_size), [4, 8]);
    assert_eq!(Width::NATIVE.pointer_size(), size_of::<usize>() as u64);
}

/// Composes a few sites. `tests/engine` compares thousands with a model.
#[test]
fn a_site_is_composed_in_place() {
    let compose = |replacement: &Replacement<'_>, capacity| {
        InsnBuffer::compose(Width::Bits64, Nops::Long, 0x1000, capacity, replacement)
            .map(|buffer| buffer.to_string())
    };
    assert_eq!(compose(&Replacement::Call(0x1000), 6).unwrap(), "e8 fb ff ff ff 90");
    assert_eq!(compose(&Replacement::Jump(0x1005), 5).unwrap(), "e9 00 00 00 00");
    assert_eq!(compose(&Replacement::Patchlet(&[0xfa]), 6).unwrap(), "fa 0f 1f 44 00 00");
    assert_eq!(compose(&Replacement::Nops, 12).unwrap(), "66 0f 1f 84 00 00 00 00 00 0f 1f 00");
    let out = 0x8000_1005;
    assert_eq!(compose(&Replacement::Call(out), 6), Err(ComposeError::OutOfReach { target: out }));
    assert_eq!(
        compose(&Replacement::Patchlet(&[0; 33]), 32),
        Err(ComposeError::TooLong { len: 33, capacity: 32 })
    );
    for capacity in [0, 33] {
        assert_eq!(compose(&Replacement::Nops, capacity), Err(ComposeError::Capacity { capacity }));
    }
}
