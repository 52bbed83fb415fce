//! The patcher: checks everything, then writes, then reads back.
//!
//! Unsafe code here reads sites and writes through the platform's alias. What makes
//! that sound is the contract of [`Platform`] and one check before each access: the
//! whole site lies in the text range that the platform named.
#![allow(unsafe_code)]

use core::ops::Range;

use super::one_cpu::OneCpu;
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Aim, Goal, Outcome, Report};
use crate::choose::Replacement;
use crate::error::Error;
use crate::insn::{InsnBuffer, Width};
use crate::ops::{Op, Table, Target};
use crate::site::{Kind, Record, Sites};

/// One site, after its record was checked.
pub(crate) struct Place<'a> {
    pub(crate) address: usize,
    slot: usize,
    table: &'a Table,
    /// Index of the op in the table.
    index: usize,
    pub(crate) op: &'static Op,
    kind: Kind,
    pub(crate) capacity: u8,
}

impl Place<'_> {
    /// What the site gets for a slot that holds `target`.
    fn replacement(&self, target: usize) -> Replacement<'static> {
        self.op.choice().replacement(target as u64, self.kind)
    }
}

/// The patcher: a table of sites, the ops tables they go through, and the
/// platform.
///
/// ```no_run
/// use patchlet::{OneCpu, Patcher, SecondMapping, Sites, pv};
/// # let (text, offset) = (0..1, 0);
///
/// // SAFETY: the kernel's text and its place in the direct map.
/// let platform = unsafe { SecondMapping::new(text, offset) };
/// let mut patcher = Patcher::new(Sites::linked(), [&pv::TABLE], platform);
/// // SAFETY: boot: one CPU, in ring 0, and the NMI handler has no site.
/// let report = unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) }?;
/// assert_eq!(report.indirect, 0);
/// # Ok::<(), patchlet::Error>(())
/// ```
#[derive(Debug)]
pub struct Patcher<'a, P, const TABLES: usize> {
    sites: Sites<'a>,
    tables: [&'a Table; TABLES],
    platform: P,
}

impl<'a, P: Platform, const TABLES: usize> Patcher<'a, P, TABLES> {
    /// Of all sites, the tables of all their ops, and the kernel's text.
    pub const fn new(sites: Sites<'a>, tables: [&'a Table; TABLES], platform: P) -> Self {
        Self { sites, tables, platform }
    }

    /// Checks everything and writes nothing: what [`apply`](Self::apply) or
    /// [`revert`](Self::revert) would do now.
    ///
    /// # Errors
    /// Every variant of [`Error`] but [`Error::Alias`] and [`Error::ReadBack`].
    pub fn plan(&self, goal: Goal) -> Result<Plan<'_, 'a, P, TABLES>, Error> {
        self.validate(goal.into(), |_| Ok(()))?;
        Ok(Plan { patcher: self, goal })
    }

    /// Patches every site for what its slot holds now. Everything is checked
    /// before the first byte is written. Applying again changes nothing, unless
    /// slots were set meanwhile.
    ///
    /// # Errors
    /// Every variant of [`Error`]. Text is then as it was before; see
    /// [`Error::ReadBack`] for the one exception.
    pub fn apply(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.write(Goal::Patched, cpu)
    }

    /// Gives every site its indirect call or jump back.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn revert(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.write(Goal::Indirect, cpu)
    }

    /// First pass: every record, every site, every replacement, and what `admit`
    /// has to say of the sites that change; no write. Returns how many do.
    pub(crate) fn validate(
        &self,
        aim: Aim,
        admit: impl Fn(&Outcome) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let mut changed = 0;
        if !self.sites.size().is_multiple_of(Record::SIZE) {
            return Err(Error::TruncatedTable { bytes: self.sites.size(), record: Record::SIZE });
        }
        let mut highest_end = 0;
        for (index, record) in self.sites.records().iter().enumerate() {
            let place = self.place(index, record)?;
            // Linkers sort the records by their sites, so this is the rule; and
            // where one does not, only those out of order cost more.
            if place.address < highest_end {
                self.no_overlap(index, &place)?;
            }
            highest_end = highest_end.max(place.address + usize::from(place.capacity));
            let outcome = self.outcome(&place, aim)?;
            if outcome.old != outcome.new {
                admit(&outcome)?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Second pass: write and read back, then serialize, once.
    fn write(&mut self, goal: Goal, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.validate(goal.into(), |_| Ok(()))?;
        self.write_validated(goal.into(), cpu)
    }

    /// The second pass alone.
    pub(crate) fn write_validated(&mut self, aim: Aim, _: &OneCpu<'_>) -> Result<Report, Error> {
        self.platform.unlock();
        let result = self.check_aliases().and_then(|()| self.write_all(aim));
        self.platform.lock();
        self.platform.serialize();
        if result.is_ok() {
            self.note(aim);
        }
        result
    }

    /// Keeps what the slots hold, for [`Aim::Kept`].
    pub(crate) fn keep(&self) {
        for table in self.tables {
            table.keep();
        }
    }

    /// Notes what all sites have now.
    pub(crate) fn note(&self, aim: Aim) {
        for table in self.tables {
            match aim {
                Aim::Kept => table.note_kept(),
                Aim::Slots | Aim::Indirect => table.note(aim == Aim::Slots),
            }
        }
    }

    pub(super) fn tables(&self) -> &[&'a Table] {
        &self.tables
    }

    pub(crate) fn platform(&self) -> &P {
        &self.platform
    }

    /// The sites, each after its record was checked.
    #[inline(always)] // As `place`.
    pub(crate) fn places(&self) -> impl Iterator<Item = Result<Place<'a>, Error>> {
        self.sites.records().iter().enumerate().map(|(index, record)| self.place(index, record))
    }

    /// Every alias shows what its site holds. Not a part of `validate`: before
    /// `unlock` the platform promises nothing of its aliases.
    pub(crate) fn check_aliases(&self) -> Result<(), Error> {
        for place in self.places() {
            let place = place?;
            let alias = self.platform.alias(place.address);
            if alias.addr() != place.address
                && self.read(alias, place.capacity) != self.read_site(&place)
            {
                return Err(Error::Alias {
                    site: place.address,
                    alias: alias.addr(),
                    op: place.op.name(),
                });
            }
        }
        Ok(())
    }

    fn write_all(&self, aim: Aim) -> Result<Report, Error> {
        let mut report = Report::default();
        for (index, record) in self.sites.records().iter().enumerate() {
            let place = self.place(index, record)?;
            let outcome = self.outcome(&place, aim)?;
            report.add(&outcome);
            if outcome.old == outcome.new {
                continue;
            }
            if let Err(error) = self.write_one(&place, &outcome.new) {
                // The platform broke its contract. Put back what can be.
                let _ = self.write_one(&place, &outcome.old);
                self.put_back(index);
                return Err(error);
            }
        }
        Ok(report)
    }

    /// Undoes the first `count` sites of a failed pass.
    fn put_back(&self, count: usize) {
        for (index, record) in self.sites.records().iter().take(count).enumerate() {
            let Ok(place) = self.place(index, record) else { continue };
            let before = match place.table.applied(place.index) {
                Some(target) => self.composed(&place, target),
                None => self.indirect(&place),
            };
            if let Ok(before) = before {
                let _ = self.write_one(&place, &before);
            }
        }
    }

    fn write_one(&self, place: &Place<'_>, bytes: &InsnBuffer) -> Result<(), Error> {
        self.write_part(place, bytes, 0..usize::from(place.capacity))
    }

    /// Writes these bytes of the site, one store each, and reads them back.
    pub(crate) fn write_part(
        &self,
        place: &Place<'_>,
        bytes: &InsnBuffer,
        part: Range<usize>,
    ) -> Result<(), Error> {
        let alias = self.platform.alias(place.address);
        let wanted = bytes.bytes().get(part.clone()).unwrap_or_default();
        for (at, &byte) in part.clone().zip(wanted) {
            // SAFETY: the site is inside text (`place`), `bytes` has a byte at
            // `at` and is as long as the site, and the platform answers for the
            // alias.
            unsafe { alias.add(at).write_volatile(byte) };
        }
        if self.has(place, bytes, part) {
            return Ok(());
        }
        let (site, op) = (place.address, place.op.name());
        Err(Error::ReadBack { site, op, wrote: *bytes, found: self.read_site(place) })
    }

    /// Whether this part of the site holds these bytes.
    pub(crate) fn has(&self, place: &Place<'_>, bytes: &InsnBuffer, part: Range<usize>) -> bool {
        let site: *const u8 = core::ptr::with_exposed_provenance(place.address);
        let wanted = bytes.bytes().get(part.clone()).unwrap_or_default();
        part.zip(wanted).all(|(at, byte)| {
            // SAFETY: the site is inside text (`place`), which the platform says
            // is readable, and `bytes` is as long as the site.
            unsafe { site.add(at).read_volatile() == *byte }
        })
    }

    /// What the record says, checked against the tables and the text range.
    #[inline(always)] // Else its result, 100 bytes, is copied twice for each site.
    fn place(&self, index: usize, record: &Record) -> Result<Place<'a>, Error> {
        let capacity = record.capacity();
        if !(InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(capacity)) {
            return Err(Error::BadRecord { index, field: "capacity", value: capacity });
        }
        let kind =
            record.kind().map_err(|value| Error::BadRecord { index, field: "kind", value })?;
        let address = record.site();
        let text = self.platform.text();
        let inside = address >= text.start
            && address.checked_add(usize::from(capacity)).is_some_and(|end| end <= text.end);
        if !inside {
            return Err(Error::OutsideText {
                index,
                site: address,
                start: text.start,
                end: text.end,
            });
        }
        let slot = record.slot();
        self.tables
            .iter()
            .find_map(|table| Some((*table, table.index_of_slot(slot)?)))
            .filter(|&(_, op)| op == usize::from(record.op()))
            .and_then(|(table, op)| {
                let index = op;
                let op = table.ops().get(index)?;
                Some(Place { address, slot, table, index, op, kind, capacity })
            })
            .ok_or(Error::UnknownOp { index, site: address, slot, op: record.op() })
    }

    /// A record out of order: compares it with every earlier one.
    fn no_overlap(&self, index: usize, place: &Place<'_>) -> Result<(), Error> {
        let end = place.address + usize::from(place.capacity);
        for earlier in self.sites.records().iter().take(index) {
            let other = earlier.site();
            if place.address < other + usize::from(earlier.capacity()) && other < end {
                return Err(Error::Overlap {
                    index,
                    site: place.address,
                    op: place.op.name(),
                    other,
                });
            }
        }
        Ok(())
    }

    /// Reads the site, checks what it holds, and composes what it gets.
    pub(crate) fn outcome(&self, place: &Place<'_>, aim: Aim) -> Result<Outcome, Error> {
        let old = self.read_site(place);
        let indirect = self.indirect(place)?;
        let (replacement, new) = match self.target(place, aim) {
            None => (None, indirect),
            Some(target) => (Some(place.replacement(target)), self.composed(place, target)?),
        };
        // Known forms only: what the assembler put there, what was patched in
        // last, what the same crate puts in ahead of boot (native), and what is to
        // be there anyway. Anything else is somebody else's.
        let holds = |target: &usize| self.composed(place, *target).is_ok_and(|bytes| bytes == old);
        let held = if old == indirect {
            None
        } else if let Some(target) = place.table.applied(place.index).filter(holds) {
            Some(place.replacement(target))
        } else if old == new {
            replacement
        } else if let Some(target) = Some(place.op.native().address()).filter(holds) {
            Some(place.replacement(target))
        } else {
            return Err(Error::OldBytes {
                site: place.address,
                op: place.op.name(),
                expected: indirect,
                found: old,
            });
        };
        Ok(Outcome {
            address: place.address,
            op: place.op,
            kind: place.kind,
            replacement,
            held,
            old,
            new,
        })
    }

    /// What the site's op does by this aim; `None` leaves it to the slot.
    fn target(&self, place: &Place<'_>, aim: Aim) -> Option<usize> {
        match aim {
            Aim::Indirect => None,
            Aim::Slots => Some(place.table.get(place.index).map_or(0, Target::address)),
            Aim::Kept => Some(place.table.kept(place.index).unwrap_or(0)),
        }
    }

    /// What the site gets by this aim, whatever it holds.
    pub(crate) fn new_bytes(&self, place: &Place<'_>, aim: Aim) -> Result<InsnBuffer, Error> {
        match self.target(place, aim) {
            None => self.indirect(place),
            Some(target) => self.composed(place, target),
        }
    }

    /// The replacement of that.
    pub(crate) fn new_replacement(
        &self,
        place: &Place<'_>,
        aim: Aim,
    ) -> Option<Replacement<'static>> {
        self.target(place, aim).map(|target| place.replacement(target))
    }

    /// What the site held before its first byte became `first`: the known form
    /// whose tail it still has.
    pub(crate) fn old_bytes(&self, place: &Place<'_>) -> Option<InsnBuffer> {
        let tail = self.read_site(place);
        let tail = tail.bytes().get(1..);
        let forms = [
            place.table.applied(place.index).and_then(|target| self.composed(place, target).ok()),
            self.indirect(place).ok(),
            self.composed(place, place.op.native().address()).ok(),
        ];
        forms.into_iter().flatten().find(|form| form.bytes().get(1..) == tail)
    }

    /// The site with the replacement for a slot that holds `target`.
    fn composed(&self, place: &Place<'_>, target: usize) -> Result<InsnBuffer, Error> {
        InsnBuffer::compose(
            Width::NATIVE,
            self.platform.nops(),
            place.address as u64,
            place.capacity,
            &place.replacement(target),
        )
        .map_err(|why| Error::Compose { site: place.address, op: place.op.name(), why })
    }

    /// The site as the assembler left it.
    fn indirect(&self, place: &Place<'_>) -> Result<InsnBuffer, Error> {
        InsnBuffer::indirect(
            Width::NATIVE,
            place.kind,
            place.address as u64,
            place.capacity,
            place.slot as u64,
        )
        .map_err(|why| Error::Compose { site: place.address, op: place.op.name(), why })
    }

    fn read_site(&self, place: &Place<'_>) -> InsnBuffer {
        self.read(core::ptr::with_exposed_provenance(place.address), place.capacity)
    }

    /// Reads a site, at its own address or at its alias.
    fn read(&self, from: *const u8, capacity: u8) -> InsnBuffer {
        let mut bytes = [0; InsnBuffer::MAX];
        let mut len = 0;
        for (at, byte) in bytes.iter_mut().enumerate().take(usize::from(capacity)) {
            // SAFETY: the callers pass the address or the alias of a site that
            // `place` found inside text, and its capacity; the platform answers
            // for both being readable. Volatile: the compiler knows nothing of
            // who writes here.
            *byte = unsafe { from.add(at).read_volatile() };
            len = at + 1;
        }
        // At most MAX bytes, so there is always a buffer.
        bytes.get(..len).and_then(InsnBuffer::copy_of).unwrap_or_else(InsnBuffer::nothing)
    }
}
