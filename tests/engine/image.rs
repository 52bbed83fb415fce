//! A program in an arena: text with sites, the table of their records, and the
//! slots of an ops table. What `asm!`, the linker and `ops!` make of a kernel, a
//! test writes here byte by byte, and can write wrongly.

use std::ops::Range;

use patchlet::live::Live;
use patchlet::ops::__private::Slot;
use patchlet::ops::{Abi, Op, OpSource, OpState, Table, Target};
use patchlet::site::Record;
use patchlet::text::Part;
use patchlet::{Kind, Patchlet, Platform, SecondMapping, SiteSet, Sites, Width, Writable};

use crate::arena::{Arena, SIZE};
use crate::model;

/// Offsets of what the platform calls text; there are bytes on both sides of it.
pub const TEXT: Range<usize> = 0x100..0x1f00;
/// Offset of the table of records.
const RECORDS: usize = 0x2000;
/// Offset of the slots, unless the table lies elsewhere.
const SLOTS: usize = 0x3000;
/// Size of a slot, in bytes.
pub const SLOT: usize = size_of::<usize>();

/// A record, by its values.
#[derive(Clone, Copy, Debug)]
pub struct Raw {
    pub site: usize,
    pub slot: usize,
    pub op: u16,
    pub capacity: u8,
    pub kind: u8,
}

/// A site; `at` is an offset into the arena.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub at: usize,
    pub capacity: u8,
    pub kind: Kind,
    pub op: usize,
}

/// A call with capacity 6.
pub const fn call(at: usize, op: usize) -> Site {
    Site { at, capacity: 6, kind: Kind::Call, op }
}

/// A jump with capacity 6.
pub const fn jump(at: usize, op: usize) -> Site {
    Site { at, capacity: 6, kind: Kind::Jump, op }
}

#[derive(Debug)]
pub struct Image {
    pub arena: Arena,
    pub table: &'static Table,
    /// What the sites were last patched for.
    pub source: &'static OpSource<'static>,
    /// Address of the first slot.
    slots: usize,
    /// Bytes of records.
    len: usize,
}

impl Image {
    /// With an ops table of its own, whose slots lie in the arena. Ops that are
    /// called without a patchlet have native functions near the arena.
    pub fn new(ops: &[Option<&[u8]>]) -> Self {
        let arena = Arena::low();
        let ops: Vec<Op> = ops
            .iter()
            .enumerate()
            .map(|(index, &patchlet)| {
                let native = target(arena.address(0x10_0000 + 0x10 * index));
                let name = Box::leak(format!("op{index}").into_boxed_str());
                Op::new("test", name, Abi::C, native, patchlet.map(leak_patchlet))
            })
            .collect();
        let ops = ops.leak();
        let slots = arena.pointer(SLOTS).cast::<Slot>();
        for (index, op) in ops.iter().enumerate() {
            // SAFETY: aligned, inside of the arena, and nobody knows of it yet.
            unsafe { slots.add(index).write(Slot::new(op.native())) };
        }
        // SAFETY: written just now; the arena stays for ever, and its bytes are
        // changed through atomics from here on.
        let slice = unsafe { std::slice::from_raw_parts(slots, ops.len()) };
        // SAFETY: nobody calls what these slots hold.
        let table = Box::leak(Box::new(unsafe { Table::new(ops, slice) }));
        Self::over(arena, table, slots.addr())
    }

    /// With an ops table that is somewhere already.
    pub fn over(arena: Arena, table: &'static Table, slots: usize) -> Self {
        // Something that is no instruction of a site.
        let filling: Vec<u8> = (0..TEXT.end).map(|at| 0xc0 | (at % 61) as u8).collect();
        arena.write(0, &filling);
        Self { arena, table, source: source(table), slots, len: 0 }
    }

    pub fn text(&self) -> Range<usize> {
        self.arena.address(TEXT.start)..self.arena.address(TEXT.end)
    }

    pub fn slot(&self, op: usize) -> usize {
        self.slots + SLOT * op
    }

    /// Number of bytes in the table of records.
    pub fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    /// Adds a record as it is.
    pub fn record(&mut self, raw: Raw) {
        let at = RECORDS + self.len;
        let here = self.arena.address(at);
        let relative = |address: usize, from: usize| {
            let distance = address.wrapping_sub(from).cast_signed();
            i32::try_from(distance).expect("within 2 GiB of the record").to_le_bytes()
        };
        let mut bytes = Vec::new();
        bytes.extend(relative(raw.site, here));
        bytes.extend(relative(raw.slot, here + 4));
        bytes.extend(raw.op.to_le_bytes());
        bytes.extend([raw.capacity, raw.kind]);
        assert!(at + bytes.len() <= SLOTS);
        self.arena.write(at, &bytes);
        self.len += bytes.len();
    }

    /// The record of a site that is as it should be.
    pub fn raw(&self, site: Site) -> Raw {
        Raw {
            site: self.arena.address(site.at),
            slot: self.slot(site.op),
            op: site.op as u16,
            capacity: site.capacity,
            kind: site.kind as u8,
        }
    }

    /// The bytes of a site before it is patched.
    pub fn unpatched(&self, site: Site) -> Vec<u8> {
        self.unpatched_through(site, self.slot(site.op))
    }

    /// The bytes of a site before it is patched, through the slot at this address.
    pub fn unpatched_through(&self, site: Site, slot: usize) -> Vec<u8> {
        let address = self.arena.address(site.at) as u64;
        model::indirect(Width::NATIVE, site.kind, address, site.capacity, slot as u64).unwrap()
    }

    /// Adds a site, in text and in the table.
    pub fn site(&mut self, site: Site) {
        self.arena.write(site.at, &self.unpatched(site));
        self.record(self.raw(site));
    }

    pub fn sites(&self) -> Sites<'static> {
        // SAFETY: aligned, in the arena, which is never unmapped; and a test that adds records
        // does not look at the old table any more.
        unsafe { Sites::between(self.arena.pointer(RECORDS), self.len) }
    }

    pub fn set(&self, op: usize, target: Target) {
        // SAFETY: nothing ever calls through this slot.
        assert!(unsafe { self.table.set(op, target) });
    }

    /// The site set of all records so far. Each has the same state, but no memory of what was
    /// checked.
    pub fn site_set(&self) -> &'static SiteSet<'static> {
        self.site_set_of(self.sites())
    }

    /// A site set of these records.
    pub fn site_set_of(&self, sites: Sites<'static>) -> &'static SiteSet<'static> {
        leak_set(sites, self.source)
    }

    /// The shared state of the set alone.
    #[allow(dead_code, reason = "for live_model, which has this file, too")]
    pub fn live(&self) -> &'static Live<'static> {
        leak_live(self.site_set())
    }

    pub fn patcher<P: Platform>(&self, platform: P) -> patchlet::Patcher<'static, P> {
        patchlet::Patcher::new(self.site_set(), platform)
    }

    pub fn writable(&self) -> Writable {
        // SAFETY: the arena, unless a test protects its text.
        unsafe { Writable::new(self.text()) }
    }

    pub fn second_mapping(&self) -> SecondMapping {
        // SAFETY: the arena is mapped twice.
        unsafe { SecondMapping::new(self.text(), self.arena.alias_offset()) }
    }

    /// The bytes of the arena.
    pub fn bytes(&self) -> Vec<u8> {
        self.arena.bytes()
    }

    /// The bytes at an offset.
    pub fn at(&self, offset: usize, len: usize) -> Vec<u8> {
        self.bytes()[offset..offset + len].to_vec()
    }

    /// The bytes at an offset, and no other ones.
    #[allow(dead_code, reason = "for the tests of the engine alone")]
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        // SAFETY: in the arena, and readable, or the test dies.
        (0..len).map(|at| unsafe { self.arena.pointer(offset + at).read_volatile() }).collect()
    }

    /// Where an op's slot is in the arena, if it is.
    pub fn slot_offset(&self, op: usize) -> Option<usize> {
        let offset = self.slot(op).wrapping_sub(self.arena.address(0));
        (offset < SIZE).then_some(offset)
    }
}

const _: () = assert!(Record::SIZE == 12);

/// A front end of one table, whose sites were never patched.
pub fn source(table: &'static Table) -> &'static OpSource<'static> {
    source_of(&[table])
}

/// A front end of these tables, whose sites were never patched.
pub fn source_of(tables: &[&'static Table]) -> &'static OpSource<'static> {
    let ops = tables.iter().flat_map(|table| table.ops());
    let states: Vec<OpState> = ops.map(|_| OpState::new()).collect();
    // SAFETY: nobody else has these states.
    Box::leak(Box::new(unsafe { OpSource::new(tables.to_vec().leak(), states.leak()) }))
}

/// A site set of one part.
pub fn leak_set(
    sites: Sites<'static>,
    source: &'static OpSource<'static>,
) -> &'static SiteSet<'static> {
    // SAFETY: callers give a front end to one part.
    let parts = Box::leak(Box::new([unsafe { Part::new(sites, source) }]));
    Box::leak(Box::new(SiteSet::new(parts)))
}

/// The shared state of one set.
#[allow(dead_code, reason = "as above")]
pub fn leak_live(set: &'static SiteSet<'static>) -> &'static Live<'static> {
    let sets: &'static [&'static SiteSet<'static>] = Box::leak(Box::new([set]));
    Box::leak(Box::new(Live::new(sets)))
}

/// A function at this address, which nobody calls.
pub fn target(address: usize) -> Target {
    Target::function(std::ptr::without_provenance(address))
}

/// A patchlet of these bytes.
pub fn leak_patchlet(bytes: &[u8]) -> &'static Patchlet {
    extern "C" fn nobody_calls_it() {}
    let bytes: &'static [u8] = bytes.to_vec().leak();
    let _ = bytes.as_ptr().expose_provenance();
    let (start, end) = (bytes.first_chunk(), bytes.last_chunk());
    // SAFETY: what two labels of PATCHLET are: start and end of bytes that stay.
    let patchlet =
        unsafe { Patchlet::from_labels("invented", start.unwrap(), end.unwrap(), nobody_calls_it) };
    Box::leak(Box::new(patchlet))
}
