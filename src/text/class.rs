//! Classes of sites. Those with the same slot, capacity and kind get the same
//! bytes, but for a displacement; so the bytes are composed once for the class, and
//! for each site only the displacement is put in.

use super::report::Count;
use crate::insn::{self, InsnBuffer, Width};
use crate::ops::Op;
use crate::site::{Kind, Record};

/// The first word of what a site can hold, with a hole for a displacement or without
/// one. What is behind it has none, and few sites are so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Zero in the hole.
    head: u64,
    /// The hole.
    hole: u64,
    /// The function that the bytes stand for, or the slot: what a displacement leads
    /// to.
    pub(crate) to: usize,
    /// Where the instruction ends whose last four bytes the displacement is.
    end: u8,
}

/// Where a direct call or jump ends.
pub(crate) const DIRECT: Option<u8> = Some(5);
/// Where an indirect one ends, which in 32-bit code has an absolute address.
pub(crate) const INDIRECT: Option<u8> =
    if cfg!(target_pointer_width = "64") { Some(6) } else { None };

/// Bytes of a displacement.
const DISPLACEMENT: u8 = 4;

impl Form {
    /// Of the bytes that one site of the class gets, and where the instruction with
    /// the displacement ends, if there is one.
    pub(crate) fn new(bytes: &InsnBuffer, to: usize, end: Option<u8>) -> Self {
        let hole = end.map_or(0, |end| u64::from(u32::MAX) << shift(end));
        Self { head: bytes.head() & !hole, hole, to, end: end.unwrap_or(DISPLACEMENT) }
    }

    /// The first word of the site at this address; `None` if the displacement does
    /// not reach so far.
    ///
    /// Without a branch on whether there is one: which of the ops is next in text, no
    /// CPU can predict.
    #[inline(always)]
    pub(crate) fn head_at(&self, address: usize) -> Option<u64> {
        let (from, len, to) = (address as u64, u64::from(self.end), self.to as u64);
        let reached = insn::relative(Width::NATIVE, from, len, to).is_some();
        let filled = insn::distance(from, len, to) << shift(self.end) & self.hole;
        (reached | (self.hole == 0)).then_some(self.head | filled)
    }
}

const fn shift(end: u8) -> u32 {
    8 * (end - DISPLACEMENT) as u32
}

/// What is the same for all sites of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) op: &'static Op,
    pub(crate) slot: usize,
    /// [`Record::shape`] of each of its records.
    pub(crate) shape: u32,
    pub(crate) kind: Kind,
    pub(crate) capacity: u8,
    /// What its sites get, and where that is counted.
    pub(crate) new: Form,
    pub(crate) count: Count,
    /// What they held before they were ever patched.
    pub(crate) indirect: Form,
    /// What they were patched for last; the indirect call or jump, if they were not.
    pub(crate) applied: Form,
}

impl Class {
    /// Whether this record's site is of this class.
    #[inline(always)]
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        self.shape == record.shape() && self.slot == record.slot()
    }
}

/// The classes met last, one for each remainder of the slot's number: in most kernels
/// a few ops have nearly all of the sites. The jumps are sixteen places further.
#[derive(Debug)]
pub(crate) struct Classes([Option<Class>; Self::COUNT]);

impl Classes {
    const COUNT: usize = 32;

    pub(crate) const fn new() -> Self {
        Self([None; Self::COUNT])
    }

    /// The place of this record's class; whose class is there, is to be seen.
    #[inline(always)]
    pub(crate) fn entry(&mut self, record: &Record) -> &mut Option<Class> {
        let slot = record.slot() / size_of::<usize>();
        // A remainder by a power of two: there is no check of the index.
        &mut self.0[(slot + (record.shape() >> 20) as usize) % Self::COUNT]
    }
}
