//! Classes of sites. Those with the same slot, capacity and kind get the same
//! bytes, but for a displacement; so the first six bytes are composed once for the
//! class, and for each site only the displacement is put in. The few sites that have
//! more bytes are composed one by one.

use super::report::{Aim, Count};
use crate::error::ComposeError;
use crate::insn::{Code, InsnBuffer, Nops, Width};
use crate::ops::{INDIRECT, Row};
use crate::site::{Kind, Record};

/// What is the same for all sites of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) maker: Maker,
    /// [`Record::shape`] of each of its records.
    pub(crate) shape: u32,
    /// Where its sites are counted.
    pub(crate) count: Count,
    /// What they get; what they held before they were ever patched; what they were
    /// patched for last.
    pub(crate) forms: [Form; 3],
}

impl Class {
    pub(crate) const fn new(maker: Maker, shape: u32) -> Self {
        Self { maker, shape, count: Count::Indirect, forms: [Form::NONE; 3] }
    }

    /// Composes the forms, for the site at `address`. False if what it gets, or its
    /// indirect call or jump, cannot be composed.
    #[inline(always)]
    pub(crate) fn compose(&mut self, address: usize) -> bool {
        let maker = &self.maker;
        let targets = [maker.target, INDIRECT, maker.row.applied()];
        for (form, target) in self.forms.iter_mut().zip(targets) {
            *form = maker.form(target, address);
        }
        self.count = Count::of(maker.code(maker.target).replacement().as_ref());
        let [new, indirect, applied] = &mut self.forms;
        if applied.is_none() {
            // Sites of another patcher were, which have more room.
            *applied = *indirect;
        }
        !new.is_none() && !indirect.is_none()
    }

    /// Whether this record's site is of this class.
    #[inline(always)]
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        self.shape == record.shape() && self.maker.row.slot() == record.slot()
    }
}

/// What the bytes of a site are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker {
    pub(crate) row: Row,
    /// The function that the site gets the replacement for, or [`INDIRECT`].
    pub(crate) target: usize,
    pub(crate) kind: Kind,
    pub(crate) capacity: u8,
    pub(crate) nops: Nops,
}

impl Maker {
    /// Whether the site has more bytes than its first six.
    #[inline(always)]
    pub(crate) const fn is_long(&self) -> bool {
        self.capacity as usize > InsnBuffer::MIN
    }

    /// What the site holds after it was patched for a slot that held `target`; before it
    /// was, for [`INDIRECT`].
    #[inline(never)]
    pub(crate) fn code(&self, target: usize) -> Code<'static> {
        if target == INDIRECT {
            return Code::Indirect(self.kind, self.row.slot() as u64);
        }
        Code::Replaced(self.row.op.choice().replacement(target as u64, self.kind))
    }

    /// What the site can stand for, first what it is to stand for.
    ///
    /// Known ones only: what is to be there anyway or was patched in last, what the
    /// assembler put there, what the same crate puts in ahead of boot (native), and
    /// what the op was patched for before that, for sites that another patcher
    /// answers for. Any other bytes are somebody else's.
    pub(crate) fn known(&self) -> [usize; 5] {
        let Self { row, target, .. } = *self;
        [target, row.applied(), INDIRECT, row.op.native().address(), row.before()]
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
    fn form(&self, target: usize, address: usize) -> Form {
        let mut bytes = InsnBuffer::nothing();
        let Ok(end) = self.compose(target, address, &mut bytes) else { return Form::NONE };
        let to = if target == INDIRECT { self.row.slot() } else { target };
        Form::new(bytes.head(), to, end)
    }
}

/// The first six bytes of what a site can hold, as a number, with a hole for a
/// displacement or without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Zeros in the hole.
    head: u64,
    /// What the displacement leads to, less the length of its instruction.
    base: usize,
    /// All ones if there is one, and 0 if there is none.
    mask: i32,
    /// How many bits are in front of it.
    shift: u8,
}

impl Form {
    /// Not one: six bytes are never this much.
    const NONE: Self = Self { head: u64::MAX, base: 0, mask: 0, shift: 0 };

    /// `end` is that of the instruction whose last four bytes are the displacement, and 0
    /// if there is none.
    fn new(head: u64, to: usize, end: u8) -> Self {
        let none = Self { head, ..Self::NONE };
        let Some(start) = end.checked_sub(4) else { return none };
        let shift = 8 * start;
        let head = head & !(u64::from(u32::MAX) << shift);
        Self { head, base: to.wrapping_sub(end.into()), mask: -1, shift }
    }

    const fn is_none(&self) -> bool {
        self.head == Self::NONE.head
    }

    /// The first six bytes of the site at this address, as a number; `None` if the
    /// displacement does not reach so far.
    ///
    /// Without a branch on whether there is one: which of the ops is next in text, no
    /// CPU can predict.
    #[inline(always)]
    pub(crate) fn head_at(&self, address: usize) -> Option<u64> {
        let distance = self.base.wrapping_sub(address).cast_signed() & self.mask as isize;
        let displacement = distance as i32;
        let head = self.head | u64::from(displacement.cast_unsigned()) << self.shift;
        // In 32-bit code everything is in reach modulo 2³².
        (displacement as isize == distance).then_some(head)
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
