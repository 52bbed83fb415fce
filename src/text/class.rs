//! Classes of sites. Those with the same slot, capacity and kind get the same
//! bytes, but for a displacement; so the bytes are composed once for the class, and
//! for each site only the displacement is put in.

use super::report::Count;
use crate::choose::Replacement;
use crate::error::ComposeError;
use crate::insn::{self, InsnBuffer, Nops, Width};
use crate::ops::Op;
use crate::site::{Kind, Record};

/// The first eight bytes of what a site can hold, as one number, with a hole for a
/// displacement or without one. Bytes behind the first eight never are a part of one,
/// and few sites are so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Zero in the hole.
    head: u64,
    /// The function that the bytes stand for, or the slot: what a displacement leads
    /// to.
    pub(crate) to: usize,
    /// Ones where the displacement is; 0 if there is none.
    mask: u32,
    /// Where the instruction ends whose last four bytes it is.
    end: u8,
}

/// Bytes of a displacement.
const DISPLACEMENT: u8 = 4;

impl Form {
    /// Of the bytes that one site of the class gets, and where the instruction with
    /// the displacement ends, if there is one.
    fn new(bytes: &InsnBuffer, to: usize, end: Option<u8>) -> Self {
        let mask = if end.is_some() { u32::MAX } else { 0 };
        let end = end.unwrap_or(DISPLACEMENT);
        Self { head: bytes.head() & !(u64::from(mask) << shift(end)), to, mask, end }
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
        let displacement = insn::distance(from, len, to) & u64::from(self.mask);
        let head = self.head | displacement << shift(self.end);
        (reached | (self.mask == 0)).then_some(head)
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
    /// Where its sites are counted.
    pub(crate) count: Count,
    /// What its sites get.
    pub(crate) new: Form,
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

    /// Whether sites have more bytes than their first word.
    #[inline(always)]
    pub(crate) const fn is_long(&self) -> bool {
        self.capacity as usize > size_of::<u64>()
    }

    /// The function that a form stands for; `None` is the indirect call or jump.
    pub(crate) fn target(&self, form: &Form) -> Option<usize> {
        (form.to != self.slot).then_some(form.to)
    }
}

/// What all forms of a site are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub(crate) op: &'static Op,
    pub(crate) slot: usize,
    pub(crate) kind: Kind,
    pub(crate) capacity: u8,
    pub(crate) nops: Nops,
    /// Of the site.
    pub(crate) address: usize,
}

impl Maker {
    /// What the site gets for a slot that holds `target`; the indirect call or jump
    /// for `None`.
    #[inline(never)]
    pub(crate) fn replacement(&self, target: Option<usize>) -> Option<Replacement<'static>> {
        target.map(|target| self.op.choice().replacement(target as u64, self.kind))
    }

    /// Puts the bytes of that into `buffer`, and says where the instruction with a
    /// displacement ends.
    #[inline(never)]
    pub(crate) fn bytes(
        &self,
        target: Option<usize>,
        buffer: &mut InsnBuffer,
    ) -> Result<Option<u8>, ComposeError> {
        let &Self { slot, kind, capacity, nops, .. } = self;
        let (width, address) = (Width::NATIVE, self.address as u64);
        match self.replacement(target) {
            None => {
                buffer.set_indirect(width, kind, address, capacity, slot as u64)?;
                // In 32-bit code it has an absolute address.
                Ok(if width == Width::Bits64 { Some(6) } else { None })
            }
            Some(replacement) => {
                buffer.set(width, nops, address, capacity, &replacement)?;
                let direct = matches!(replacement, Replacement::Call(_) | Replacement::Jump(_));
                Ok(if direct { Some(5) } else { None })
            }
        }
    }

    /// That, for all sites of the class.
    #[inline(never)]
    pub(crate) fn form(&self, target: Option<usize>) -> Option<Form> {
        let mut bytes = InsnBuffer::nothing();
        let end = self.bytes(target, &mut bytes).ok()?;
        Some(Form::new(&bytes, target.unwrap_or(self.slot), end))
    }
}

/// The classes met last: in most kernels a few ops have nearly all of the sites.
#[derive(Debug)]
pub(crate) struct Classes([Option<Class>; Self::COUNT]);

impl Classes {
    const COUNT: usize = 16;

    pub(crate) const fn new() -> Self {
        Self([const { None }; Self::COUNT])
    }

    /// The place of this record's class; whose class is there, is to be seen.
    #[inline(always)]
    pub(crate) fn entry(&mut self, record: &Record) -> &mut Option<Class> {
        let slot = record.slot() / size_of::<usize>();
        // Sixteen slots side by side have places of their own, those of another table
        // others; jumps, and sites of other capacities, are some places further.
        let further = usize::from(record.capacity()) + (record.shape() >> 24 << 3) as usize;
        // A remainder by a power of two: there is no check of the index.
        &mut self.0[((slot ^ slot >> 4) + further) % Self::COUNT]
    }
}
