//! A site whose record was checked, the bytes it gets and the bytes it holds.
//!
//! Unsafe code here reads a site, which was just found to lie in the text range that
//! the platform named, or its alias.
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::{Class, Classes, Maker};
use super::fault::unfit;
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Outcome};
use crate::error::Error;
use crate::insn::{InsnBuffer, Width};
use crate::ops::INDIRECT;
use crate::site::Record;

/// So many sites ahead, text is asked for. Enough for memory to answer, and few
/// enough to be still in the first cache.
const AHEAD: usize = 16;

/// One site, after its record was checked: where it is, and what it gets.
#[derive(Debug)]
pub(crate) struct Spot<'c> {
    pub(crate) address: usize,
    pub(crate) class: &'c Class,
    /// The first six bytes of what it gets, as a number.
    pub(super) new: u64,
}

impl Spot<'_> {
    /// The address behind it.
    pub(super) fn end(&self) -> usize {
        self.address + usize::from(self.class.maker.capacity)
    }

    /// All its bytes standing for this function or for [`INDIRECT`]; none, if it
    /// cannot.
    pub(crate) fn made(&self, target: usize) -> InsnBuffer {
        self.class.maker.made(target, self.address)
    }

    /// All that it gets.
    pub(crate) fn made_new(&self) -> InsnBuffer {
        self.made(self.class.maker.target)
    }

    /// What it holds if it begins with these six bytes; `None` if they do not tell, for it
    /// is long, or they are neither new nor what is usual in its class.
    #[inline(always)]
    fn told_by(&self, six: u64) -> Option<Holds> {
        if self.class.maker.is_long() {
            None
        } else if six == self.new {
            Some(Holds::New)
        } else if self.class.old.head_at(Width::NATIVE, self.address as u64) == Some(six) {
            Some(Holds::Known)
        } else {
            None
        }
    }
}

/// What a site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holds {
    /// What it gets.
    New,
    /// Something else that is known.
    Known,
    /// Nothing known.
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
    /// The site of the record at `index`; `None`, and an error, if something is wrong with
    /// it.
    ///
    /// Not inlined, or looked at elsewhere than where it was put: callers would copy more
    /// than was written at once, and for that the CPU waits.
    #[inline(never)]
    pub(crate) fn spot<'c>(
        &self,
        index: usize,
        classes: &'c mut Classes,
        error: &mut Error,
    ) -> Option<Spot<'c>> {
        // There is one, for everybody who asks.
        let record = self.sites().records().get(index)?;
        let (aim, entry) = classes.entry(record);
        if !entry.as_ref().is_some_and(|class| class.is_of(record)) {
            self.class(index, record, aim, entry, error);
        }
        let class = entry.as_ref()?;
        let address = record.site();
        if !inside(&self.platform().text(), address, class.maker.capacity) {
            self.outside(index, record, error);
            return None;
        }
        let Some(new) = class.new.head_at(Width::NATIVE, address as u64) else {
            unfit(class, address, error);
            return None;
        };
        Some(Spot { address, class, new })
    }

    /// Puts the class of the record's site into its place, the record being checked
    /// against the tables; or nothing, and an error, if something is wrong with it.
    #[cold]
    fn class(
        &self,
        index: usize,
        record: &Record,
        aim: Aim,
        entry: &mut Option<Class>,
        error: &mut Error,
    ) {
        *entry = None;
        let (site, slot, op) = (record.site(), record.slot(), record.op());
        let capacity = record.capacity();
        let kind = if (InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(capacity)) {
            record.kind().map_err(|value| ("kind", value))
        } else {
            Err(("capacity", capacity))
        };
        let kind = match kind {
            Ok(kind) => kind,
            Err((field, value)) => {
                *error = Error::BadRecord { index, field, value };
                return;
            }
        };
        let Some(row) = self.tables().iter().find_map(|table| table.row(op.into(), slot)) else {
            *error = Error::UnknownOp { index, site, slot, op };
            return;
        };
        let target = match aim {
            Aim::Indirect => INDIRECT,
            Aim::Slots => row.held(),
            Aim::Kept => row.kept(),
        };
        let maker = Maker { row, target, kind, capacity, nops: self.platform().nops() };
        entry.insert(Class::new(maker, record.shape())).compose(site);
    }

    /// Asks for the text of a site some places behind this index.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: usize, view: View) {
        if let Some(record) = self.sites().records().get(index + AHEAD) {
            memory::prefetch(self.at(record.site(), view));
        }
    }

    /// What the site holds. Seen by way of the alias, [`Holds::Other`] if that shows
    /// something else than the site.
    ///
    /// There is one alias that is believed: one which shows what sites of the class
    /// usually hold, for there it would be to read the site in vain nearly always.
    #[inline(always)]
    pub(crate) fn holds(&self, spot: &Spot<'_>, view: View) -> Holds {
        let six = self.six(spot, view);
        match spot.told_by(six) {
            None => self.look(spot, view),
            Some(Holds::New) if view == View::Alias && self.six(spot, View::Site) != six => {
                Holds::Other
            }
            Some(holds) => holds,
        }
    }

    /// That, by all bytes of the site.
    #[cold]
    #[inline(never)]
    pub(super) fn look(&self, spot: &Spot<'_>, view: View) -> Holds {
        let present = self.present(spot, View::Site);
        if self.present(spot, view) != present {
            return Holds::Other;
        }
        let maker = &spot.class.maker;
        for target in maker.known() {
            if maker.made(target, spot.address) == present {
                return if target == maker.target { Holds::New } else { Holds::Known };
            }
        }
        Holds::Other
    }

    /// The first six bytes of the site, as a number.
    #[inline(always)]
    fn six(&self, spot: &Spot<'_>, view: View) -> u64 {
        // SAFETY: the site is inside text (`spot`), which the platform says is readable,
        // and its alias as well, when `View::Alias` may be asked for; it has 6 bytes at
        // the least.
        unsafe { memory::read_six(self.at(spot.address, view)) }
    }

    /// All bytes that the site holds.
    #[inline(never)]
    pub(crate) fn present(&self, spot: &Spot<'_>, view: View) -> InsnBuffer {
        let here = self.at(spot.address, view);
        // SAFETY: the site is inside text (`spot`), the platform answers for its alias,
        // and its capacity is 6 to 32.
        unsafe { memory::read(here, spot.class.maker.capacity) }
    }

    #[inline(always)]
    fn at(&self, address: usize, view: View) -> *const u8 {
        match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform().alias(address).cast_const(),
        }
    }

    /// What the site is made of and made into; `None` if it holds nothing known.
    pub(crate) fn outcome(&self, spot: &Spot<'_>) -> Option<Outcome> {
        let maker = &spot.class.maker;
        let old = self.present(spot, View::Site);
        let held = maker.known().into_iter().find(|target| spot.made(*target) == old)?;
        Some(Outcome {
            address: spot.address,
            op: maker.row.op,
            kind: maker.kind,
            replacement: maker.replacement(maker.target),
            held: maker.replacement(held),
            old,
            new: spot.made_new(),
        })
    }

    /// What happens to one site by this aim; `None` if there is no such record, or
    /// something is wrong with it.
    pub(super) fn outcome_of(&self, index: usize, aim: Aim) -> Option<Outcome> {
        self.outcome(&self.spot(index, &mut Classes::new(aim), &mut Error::Busy)?)
    }
}

/// Whether a site is inside text.
#[inline(always)]
fn inside(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    let room = text.end.checked_sub(address);
    address >= text.start && room.is_some_and(|room| room >= usize::from(capacity))
}
