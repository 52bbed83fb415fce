//! A site as it is found: its record checked, with the bytes it holds and the bytes
//! it gets.
//!
//! Unsafe code here reads a site, which was just found to lie in the text range that
//! the platform named, or its alias.
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::{Class, Classes, Form, Maker};
use super::fault::Why;
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Outcome};
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
    /// All its bytes standing for this function or for [`INDIRECT`]; none, if it
    /// cannot.
    pub(crate) fn made(&self, target: usize) -> InsnBuffer {
        self.class.maker.made(target, self.address)
    }

    /// All that it gets.
    pub(crate) fn made_new(&self) -> InsnBuffer {
        self.made(self.class.maker.target)
    }
}

/// What a site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// What it gets.
    New,
    /// Something else that is known.
    Known,
    /// In [`Spot::holds`]: it is to be seen, for it is long, or holds neither what it gets
    /// nor what is usual in its class. From [`Patcher::holds`]: nothing known.
    Other,
}

/// Where a site is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// At its own address.
    Site,
    /// At its alias; between `unlock` and `lock` only, but on a
    /// [`LivePlatform`](crate::live::LivePlatform). For sites that are written right
    /// after: to read a line at one address and to write it at another is to wait for
    /// the first cache twice.
    Alias,
}

impl<P: Platform, const TABLES: usize> Patcher<'_, P, TABLES> {
    /// The site of the record at `index`; `None`, and why, if something is wrong with it.
    ///
    /// Not a `Result`, and looked at where it is: callers would copy more than was written
    /// at once, and for that the CPU waits.
    #[inline(never)]
    pub(crate) fn spot<'c>(
        &self,
        index: usize,
        view: View,
        classes: &'c mut Classes,
        why: &mut Why,
    ) -> Option<Spot<'c>> {
        self.find(index, view, classes).map_err(|fault| *why = fault).ok()
    }

    #[inline(always)]
    fn find<'c>(
        &self,
        index: usize,
        view: View,
        classes: &'c mut Classes,
    ) -> Result<Spot<'c>, Why> {
        let records = self.sites().records();
        // There is one, for everybody who asks.
        let Some(record) = records.get(index) else { return Err(Why::Truncated) };
        if let Some(record) = records.get(index + AHEAD) {
            memory::prefetch(self.at(record.site(), view));
        }
        let (aim, entry) = classes.entry(record);
        if !entry.as_ref().is_some_and(|class| class.is_of(record)) {
            self.class(record, aim, entry)?;
        }
        let Some(class) = entry else { return Err(Why::Truncated) };
        let address = record.site();
        if !inside(&self.platform().text(), address, class.maker.capacity) {
            return Err(Why::Outside);
        }
        // SAFETY: the site is inside text, which the platform says is readable,
        // and its alias as well, when `View::Alias` may be asked for; it has 6 bytes at
        // the least.
        let present = unsafe { memory::read_six(self.at(address, view)) };
        let [new, indirect, applied] = &class.forms;
        let Some(new) = new.head_at(address) else { return Err(Why::Compose) };
        let shows = |form: &Form| form.head_at(address) == Some(present);
        let holds = if class.maker.is_long() {
            Holds::Other
        } else if present == new {
            Holds::New
        } else if shows(indirect) || shows(applied) {
            Holds::Known
        } else {
            Holds::Other
        };
        Ok(Spot { address, class, new, holds })
    }

    #[inline(always)]
    fn at(&self, address: usize, view: View) -> *const u8 {
        match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform().alias(address).cast_const(),
        }
    }

    /// Puts the class of the record's site into its place.
    #[cold]
    #[inline(never)]
    fn class(&self, record: &Record, aim: Aim, entry: &mut Option<Class>) -> Result<(), Why> {
        *entry = None;
        let mut maker = None;
        self.maker(record, aim, &mut maker)?;
        let Some(maker) = maker else { return Err(Why::UnknownOp) };
        if entry.insert(Class::new(maker, record.shape())).compose(record.site()) {
            return Ok(());
        }
        *entry = None;
        Err(Why::Compose)
    }

    /// What the record's site is made of, checked against the tables.
    #[inline(never)]
    pub(super) fn maker(
        &self,
        record: &Record,
        aim: Aim,
        maker: &mut Option<Maker>,
    ) -> Result<(), Why> {
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
        *maker = Some(Maker { row, target, kind, capacity, nops: self.platform().nops() });
        Ok(())
    }

    /// What the site holds, in this view. [`Holds::Other`] for an alias, too, if it shows
    /// neither what is usual in the class nor the very bytes of the site.
    #[inline(always)]
    pub(crate) fn holds(&self, spot: &Spot<'_>, view: View) -> Holds {
        if spot.holds == Holds::Other { self.look(spot, view) } else { spot.holds }
    }

    /// That, if its first six bytes did not tell.
    #[cold]
    #[inline(never)]
    fn look(&self, spot: &Spot<'_>, view: View) -> Holds {
        if self.present(spot, view) != self.present(spot, View::Site) {
            return Holds::Other;
        }
        match self.held(spot) {
            Some(target) if target == spot.class.maker.target => Holds::New,
            Some(_) => Holds::Known,
            None => Holds::Other,
        }
    }

    /// The function that a site stands for, or [`INDIRECT`]; `None` if it holds nothing
    /// known.
    #[inline(always)]
    pub(crate) fn held(&self, spot: &Spot<'_>) -> Option<usize> {
        let present = self.present(spot, View::Site);
        spot.class.maker.known().into_iter().find(|target| spot.made(*target) == present)
    }

    /// All bytes that the site holds.
    #[inline(never)]
    pub(crate) fn present(&self, spot: &Spot<'_>, view: View) -> InsnBuffer {
        let here = self.at(spot.address, view);
        // SAFETY: the site is inside text (`spot`), the platform answers for its alias,
        // and its capacity is 6 to 32.
        unsafe { memory::read(here, spot.class.maker.capacity) }
    }

    /// What the site is made of and made into; `None` if it holds nothing known.
    pub(crate) fn outcome(&self, spot: &Spot<'_>) -> Option<Outcome> {
        let maker = &spot.class.maker;
        Some(Outcome {
            address: spot.address,
            op: maker.row.op,
            kind: maker.kind,
            replacement: maker.code(maker.target).replacement(),
            held: maker.code(self.held(spot)?).replacement(),
            old: self.present(spot, View::Site),
            new: spot.made_new(),
        })
    }

    /// What happens to one site by this aim; `None` if there is no such record, or
    /// something is wrong with it.
    pub(super) fn outcome_of(&self, index: usize, aim: Aim) -> Option<Outcome> {
        self.outcome(&self.spot(index, View::Site, &mut Classes::new(aim), &mut Why::Truncated)?)
    }
}

/// Whether a site is inside text.
#[inline(always)]
pub(super) fn inside(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    address >= text.start
        && address.checked_add(usize::from(capacity)).is_some_and(|end| end <= text.end)
}
