//! Classes of sites. Those with the same slot, capacity and kind get the same
//! bytes, but for a displacement; so the bytes are composed once for the class, and
//! for each site only the displacement is put in.

use super::report::{Aim, Count};
use crate::error::ComposeError;
use crate::insn::{Code, InsnBuffer, Nops, Width};
use crate::ops::{INDIRECT, Row};
use crate::site::{Kind, Record};

/// What is the same for all sites of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) row: Row,
    /// [`Record::shape`] of each of its records.
    pub(crate) shape: u32,
    pub(crate) kind: Kind,
    pub(crate) capacity: u8,
    pub(crate) nops: Nops,
    /// The function that its sites get the replacement for, or [`INDIRECT`].
    pub(crate) target: usize,
    /// Where they are counted.
    pub(crate) count: Count,
    /// What they get.
    pub(crate) new: Form,
    /// What they held before they were ever patched, and what they were patched for
    /// last.
    pub(crate) usual: [Form; 2],
}

impl Class {
    /// Whether this record's site is of this class.
    #[inline(always)]
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        self.shape == record.shape() && self.row.slot() == record.slot()
    }

    /// Whether sites have more bytes than their first six.
    #[inline(always)]
    pub(crate) const fn is_long(&self) -> bool {
        self.capacity as usize > InsnBuffer::MIN
    }

    /// What its sites hold after they were patched for a slot that held `target`;
    /// before they were, for [`INDIRECT`].
    #[inline(never)]
    pub(crate) fn code(&self, target: usize) -> Code<'static> {
        if target == INDIRECT {
            return Code::Indirect(self.kind, self.row.slot() as u64);
        }
        Code::Replaced(self.row.op.choice().replacement(target as u64, self.kind))
    }

    /// Puts the bytes of that into `buffer`, as [`InsnBuffer::set`] does.
    #[inline(never)]
    pub(crate) fn compose(
        &self,
        target: usize,
        address: usize,
        buffer: &mut InsnBuffer,
    ) -> Result<u8, ComposeError> {
        *buffer = InsnBuffer::nothing();
        let code = self.code(target);
        buffer.set(Width::NATIVE, self.nops, address as u64, self.capacity, &code)
    }

    /// All bytes of the site at `address` with that; none, if it cannot have it.
    #[inline(never)]
    pub(crate) fn made(&self, target: usize, address: usize) -> InsnBuffer {
        let mut bytes = InsnBuffer::nothing();
        let _ = self.compose(target, address, &mut bytes);
        bytes
    }

    /// The form of that, composed for the site at `address`.
    #[inline(never)]
    pub(crate) fn form(&self, target: usize, address: usize) -> Form {
        let mut bytes = InsnBuffer::nothing();
        let Ok(end) = self.compose(target, address, &mut bytes) else { return Form::NONE };
        let to = if target == INDIRECT { self.row.slot() } else { target };
        Form::new(bytes.head(), to, end)
    }
}

/// The first six bytes of what a site can hold, with a hole for a displacement or
/// without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// What the displacement leads to, less the length of its instruction.
    base: usize,
    /// As a number, with zeros in the hole: the first four bytes, and two.
    low: u32,
    high: u16,
    /// How many bits of them are in front of the hole.
    shift: u8,
    /// All ones if there is one, and 0 if there is none.
    mask: i8,
}

impl Form {
    /// Not one.
    pub(crate) const NONE: Self = Self { base: 0, low: 0, high: 0, shift: u8::MAX, mask: 0 };

    /// `end` is that of the instruction whose last four bytes are the displacement.
    fn new(mut head: u64, to: usize, end: u8) -> Self {
        let (mut base, mut shift, mut mask) = (0, 0, 0);
        if let Some(start) = end.checked_sub(4) {
            (base, shift, mask) = (to.wrapping_sub(end.into()), 8 * start, -1);
            head &= !(u64::from(u32::MAX) << shift);
        }
        Self { base, low: head as u32, high: (head >> 32) as u16, shift, mask }
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.shift == Self::NONE.shift
    }

    /// The first six bytes of the site at this address, as a number; `None` if the
    /// displacement does not reach so far.
    ///
    /// Without a branch on whether there is one: which of the ops is next in text, no
    /// CPU can predict.
    #[inline(always)]
    pub(crate) fn head_at(&self, address: usize) -> Option<u64> {
        let distance = self.base.wrapping_sub(address).cast_signed() & isize::from(self.mask);
        let displacement = distance as i32;
        let head = u64::from(self.low) | u64::from(self.high) << 32;
        // In 32-bit code everything is in reach modulo 2³².
        (displacement as isize == distance)
            .then_some(head | u64::from(displacement.cast_unsigned()) << self.shift)
    }
}

/// The classes met last, on the way to this aim: in most kernels a few ops have nearly
/// all of the sites.
#[derive(Debug)]
pub(crate) struct Classes {
    aim: Aim,
    met: [Option<Class>; Self::COUNT],
}

impl Classes {
    const COUNT: usize = 16;

    pub(crate) const fn new(aim: Aim) -> Self {
        Self { aim, met: [const { None }; Self::COUNT] }
    }

    pub(crate) const fn aim(&self) -> Aim {
        self.aim
    }

    /// The aim, and the place of this record's class; whose class is there, is to be
    /// seen.
    #[inline(always)]
    pub(crate) fn entry(&mut self, record: &Record) -> (Aim, &mut Option<Class>) {
        let slot = record.slot() / size_of::<usize>();
        // Sixteen slots side by side have places of their own, those of another table
        // others; sites of other capacities, and jumps, are some places further.
        let further = usize::from(record.capacity()) + (record.shape() >> 24 << 3) as usize;
        // A remainder by a power of two: there is no check of the index.
        (self.aim, &mut self.met[(slot ^ slot >> 4).wrapping_add(further) % Self::COUNT])
    }
}
