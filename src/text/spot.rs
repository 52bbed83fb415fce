//! A site as it is found: its record checked, with the bytes it holds and the bytes
//! it gets.
//!
//! Unsafe code here reads a site, which was just found to lie in the text range that
//! the platform named.
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::{Class, Classes, Form};
use super::fault::Why;
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Count, Outcome};
use crate::insn::InsnBuffer;
use crate::ops::INDIRECT;
use crate::site::Record;

/// So many sites ahead, text is asked for. Enough for memory to answer, and few
/// enough to be still in the first cache.
const AHEAD: usize = 16;

/// One site, after its record was checked: where it is, what it is and what it holds.
#[derive(Debug)]
pub(crate) struct Spot<'c> {
    pub(crate) address: usize,
    pub(crate) class: &'c Class,
    /// The first six bytes of what it gets, as a number.
    pub(crate) new: u64,
    /// What it holds, in this view.
    pub(crate) holds: Holds,
}

impl Spot<'_> {
    pub(crate) fn is_done(&self) -> bool {
        self.holds == Holds::New
    }

    /// All its bytes standing for this function or for [`INDIRECT`]; none, if it
    /// cannot.
    pub(crate) fn made(&self, target: usize) -> InsnBuffer {
        self.class.made(target, self.address)
    }
}

/// What a site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// What it gets, all of it.
    New,
    /// What its class has at first, or was patched for last.
    Usual,
    /// Something else; or it is long, and it is not known yet.
    Other,
}

/// Where a site is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// At its own address.
    Site,
    /// At its alias; between `unlock` and `lock` only. For sites that are written right
    /// after: to read a line at one address and to write it at another is to wait for
    /// the first cache twice.
    Alias,
}

impl<P: Platform, const TABLES: usize> Patcher<'_, P, TABLES> {
    /// The site of the record at `index`.
    #[inline(never)]
    pub(crate) fn spot<'c>(
        &self,
        index: usize,
        view: View,
        classes: &'c mut Classes,
    ) -> Result<Spot<'c>, Why> {
        let at = |address: usize| match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform().alias(address).cast_const(),
        };
        let records = self.sites().records();
        let Some(record) = records.get(index) else { return Err(Why::Truncated) };
        if let Some(record) = records.get(index + AHEAD) {
            memory::prefetch(at(record.site()));
        }
        let (aim, entry) = classes.entry(record);
        if !entry.as_ref().is_some_and(|class| class.is_of(record)) {
            self.class(record, aim, entry)?;
        }
        let Some(class) = entry else { return Err(Why::Truncated) };
        let address = record.site();
        if !inside(&self.platform().text(), address, class.capacity) {
            return Err(Why::Outside);
        }
        // SAFETY: the site is inside text, which the platform says is readable,
        // and its alias as well, between `unlock` and `lock` (`View::Alias`); it
        // has 6 bytes at the least.
        let present = unsafe { memory::read_six(at(address)) };
        let Some(new) = class.new.head_at(address) else { return Err(Why::Compose) };
        let holds = if class.is_long() {
            // SAFETY: as above, and its capacity is 32 at the most.
            let shown = unsafe { memory::read(at(address), class.capacity) };
            if shown == class.made(class.target, address) { Holds::New } else { Holds::Other }
        } else if present == new {
            Holds::New
        } else if class.usual.iter().any(|form| form.head_at(address) == Some(present)) {
            Holds::Usual
        } else {
            Holds::Other
        };
        Ok(Spot { address, class, new, holds })
    }

    /// The class of the record's site, in its place.
    #[cold]
    #[inline(never)]
    fn class(&self, record: &Record, aim: Aim, entry: &mut Option<Class>) -> Result<(), Why> {
        self.classify(record, aim, entry)?;
        let Some(class) = entry else { return Err(Why::UnknownOp) };
        let address = record.site();
        class.count = Count::of(class.code(class.target).replacement().as_ref());
        class.new = class.form(class.target, address);
        class.usual = [INDIRECT, class.row.applied()].map(|target| class.form(target, address));
        let [indirect, applied] = &mut class.usual;
        if applied.is_none() {
            // Another patcher's sites were, which have more room.
            *applied = *indirect;
        }
        if indirect.is_none() || class.new.is_none() {
            *entry = None;
            return Err(Why::Compose);
        }
        Ok(())
    }

    /// The class of the record's site, but for the forms.
    #[inline(never)]
    pub(super) fn classify(
        &self,
        record: &Record,
        aim: Aim,
        entry: &mut Option<Class>,
    ) -> Result<(), Why> {
        *entry = None;
        let capacity = record.capacity();
        if !(InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(capacity)) {
            return Err(Why::Capacity);
        }
        let Ok(kind) = record.kind() else { return Err(Why::Kind) };
        if !inside(&self.platform().text(), record.site(), capacity) {
            return Err(Why::Outside);
        }
        let (number, slot) = (usize::from(record.op()), record.slot());
        let Some(row) = self.tables().iter().find_map(|table| table.row(number, slot)) else {
            return Err(Why::UnknownOp);
        };
        let target = match aim {
            Aim::Indirect => INDIRECT,
            Aim::Slots => row.held(),
            Aim::Kept => row.kept(),
        };
        *entry = Some(Class {
            row,
            shape: record.shape(),
            kind,
            capacity,
            nops: self.platform().nops(),
            target,
            count: Count::Indirect,
            new: Form::NONE,
            usual: [Form::NONE; 2],
        });
        Ok(())
    }

    /// All bytes that the site holds.
    pub(crate) fn present(&self, spot: &Spot<'_>) -> InsnBuffer {
        let here = core::ptr::with_exposed_provenance(spot.address);
        // SAFETY: the site is inside text (`spot`), and its capacity is 6 to 32.
        unsafe { memory::read(here, spot.class.capacity) }
    }

    /// What a site can stand for.
    ///
    /// Known ones only: what was patched in last or is to be there anyway, what the
    /// assembler put there, what the same crate puts in ahead of boot (native), and
    /// what the op was patched for before that, for sites that another patcher
    /// answers for. Any other bytes are somebody else's.
    pub(crate) fn known(&self, spot: &Spot<'_>) -> [usize; 5] {
        let &Class { row, target, .. } = spot.class;
        [row.applied(), INDIRECT, row.op.native().address(), row.before(), target]
    }

    /// Which of them a site stands for; `None` if it is none of them.
    #[cold]
    #[inline(never)]
    pub(crate) fn held(&self, spot: &Spot<'_>) -> Option<usize> {
        let present = self.present(spot);
        self.known(spot).into_iter().find(|target| spot.made(*target) == present)
    }

    /// What the site is made of and made into; `None` if it holds nothing known.
    pub(crate) fn outcome(&self, spot: &Spot<'_>) -> Option<Outcome> {
        let (class, address) = (spot.class, spot.address);
        let held = class.code(self.held(spot)?).replacement();
        Some(Outcome {
            address,
            op: class.row.op,
            kind: class.kind,
            replacement: class.code(class.target).replacement(),
            held,
            old: self.present(spot),
            new: spot.made(class.target),
        })
    }

    /// What happens to one site by this aim; `None` if there is no such record, or
    /// something is wrong with it.
    pub(super) fn outcome_of(&self, index: usize, aim: Aim) -> Option<Outcome> {
        self.outcome(&self.spot(index, View::Site, &mut Classes::new(aim)).ok()?)
    }
}

/// Whether a site is inside text.
#[inline(always)]
pub(super) fn inside(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    address >= text.start
        && address.checked_add(usize::from(capacity)).is_some_and(|end| end <= text.end)
}
