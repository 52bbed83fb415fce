//! Classes of sites. Those with the same slot, capacity and kind get the same
//! bytes, but for a displacement; so the first six bytes are composed once for the
//! class, and for each site only the displacement is put in. The few sites that have
//! more bytes are composed one by one.

use super::report::Aim;
use crate::choose::Replacement;
use crate::insn::{Code, Form, InsnBuffer, Nops, Width};
use crate::ops::{INDIRECT, Row};
use crate::site::{Kind, Record};

/// What is the same for all sites of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) maker: Maker,
    /// [`Record::shape`] of each of its records.
    shape: u32,
    /// What they get.
    pub(crate) new: Form,
    /// What most of those hold that do not hold it yet: what they were patched for last;
    /// or, if that is the same, the indirect call or jump, for they are new themselves.
    pub(super) old: Form,
}

impl Class {
    pub(super) const fn new(maker: Maker, shape: u32) -> Self {
        Self { maker, shape, new: Form::NONE, old: Form::NONE }
    }

    /// Composes the forms, by way of the site at `address`.
    pub(super) fn compose(&mut self, address: usize) {
        let maker = &self.maker;
        let applied = maker.row.applied();
        let old = if applied == maker.target { INDIRECT } else { applied };
        maker.compose(old, address, &mut self.old);
        maker.compose(maker.target, address, &mut self.new);
    }

    /// Whether this record's site is of this class.
    #[inline(always)]
    pub(super) fn is_of(&self, record: &Record) -> bool {
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
    pub(super) const fn is_long(&self) -> bool {
        self.capacity as usize > InsnBuffer::MIN
    }

    /// What the site has that was patched for a slot that held `target`; `None` for
    /// [`INDIRECT`].
    pub(super) fn replacement(&self, target: usize) -> Option<Replacement<'static>> {
        let choice = (target != INDIRECT).then(|| self.row.op.choice());
        choice.map(|choice| choice.replacement(target as u64, self.kind))
    }

    /// What the site can stand for.
    ///
    /// Known ones only: what is to be there anyway or was patched in last, what the
    /// assembler put there, what the same crate puts in ahead of boot (native), and
    /// what the op was patched for before that, for sites that another patcher
    /// answers for. Any other bytes are somebody else's.
    pub(crate) fn known(&self) -> [usize; 5] {
        let Self { row, target, .. } = *self;
        [target, row.applied(), INDIRECT, row.op.native().address(), row.before()]
    }

    /// All bytes of the site at `address` standing for this; none, if it cannot.
    #[inline(never)]
    pub(super) fn made(&self, target: usize, address: usize) -> InsnBuffer {
        let mut form = Form::ANY;
        self.compose(target, address, &mut form)
    }

    /// The same, and the [form](InsnBuffer::set) of it.
    #[inline(never)]
    fn compose(&self, target: usize, address: usize, form: &mut Form) -> InsnBuffer {
        let mut bytes = InsnBuffer::nothing();
        let code = match self.replacement(target) {
            None => Code::indirect(self.kind, self.row.slot() as u64),
            Some(replacement) => Code::of(&replacement),
        };
        bytes.set(Width::NATIVE, self.nops, address as u64, self.capacity, &code, form);
        bytes
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

    /// The aim, and the place of this record's class; whose class is there, is to be
    /// seen.
    #[inline(always)]
    pub(super) fn entry(&mut self, record: &Record) -> (Aim, &mut Option<Class>) {
        // Sixteen slots side by side have places of their own; their sites of other
        // capacities are some places further.
        let slot = record.slot() / size_of::<usize>();
        let place = slot.wrapping_add(record.capacity().into());
        // A remainder by a power of two: there is no check of the index.
        (self.aim, &mut self.met[place % Self::COUNT])
    }
}
