//! The way through the table of sites: each record checked, each site with the
//! bytes it holds and the bytes it gets.
//!
//! Unsafe code here reads a site, which was just found to lie in the text range that
//! the platform named.
#![allow(unsafe_code)]

use core::ops::Range;

use super::class::{Class, Classes, Form, Maker};
use super::fault::{Fault, Why};
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Count, Outcome};
use crate::insn::InsnBuffer;
use crate::ops::{Op, Table};
use crate::site::Record;

/// So many sites ahead, text is asked for. Enough for memory to answer, and few
/// enough to be still in the first cache.
const AHEAD: usize = 16;

/// One site, after its record was checked: where it is, what it is and what it holds.
#[derive(Debug)]
pub(crate) struct Spot<'c> {
    /// Position of its record in the table.
    pub(crate) index: usize,
    pub(crate) record: &'c Record,
    pub(crate) address: usize,
    pub(crate) class: &'c Class,
    /// The first eight bytes of what it holds, in this view, and of what it gets.
    pub(crate) present: u64,
    pub(crate) new: u64,
    /// It holds what it gets, all of it.
    pub(crate) done: bool,
}

impl Spot<'_> {
    /// Whether it holds what sites of its class have at first, or what they were
    /// patched for last; of long sites that is not known.
    #[inline(always)]
    pub(super) fn is_usual(&self) -> bool {
        let holds = |form: &Form| form.head_at(self.address) == Some(self.present);
        let Class { indirect, applied, .. } = self.class;
        (holds(indirect) || holds(applied)) && !self.class.is_long()
    }
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

/// What is done with each site. Called through a pointer, so that there is one way
/// through the table, not one for each thing that is done on it.
pub(crate) type Act<'f> = dyn FnMut(&Spot<'_>) -> Result<(), Why> + 'f;

impl<'a, P: Platform, const TABLES: usize> Patcher<'a, P, TABLES> {
    /// Calls `act` with each site of this range of records, in order.
    #[inline(never)]
    pub(crate) fn walk(
        &self,
        aim: Aim,
        view: View,
        classes: &mut Classes,
        range: Range<usize>,
        act: &mut Act<'_>,
    ) -> Result<(), Fault> {
        let records = self.sites().records();
        let text = self.platform().text();
        let at = |address: usize| match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform().alias(address).cast_const(),
        };
        // To be read back, a block is in the cache already, and the next one is about
        // to be read at its aliases.
        let ahead =
            if view == View::Alias { records } else { records.get(..range.end).unwrap_or(records) };
        for index in range {
            let fault = |why| Fault { index, why };
            let Some(record) = records.get(index) else { break };
            if let Some(record) = ahead.get(index + AHEAD) {
                memory::prefetch(at(record.site()));
            }
            let entry = classes.entry(record);
            if !entry.as_ref().is_some_and(|class| class.is_of(record)) {
                *entry = None;
                self.class(record, aim, entry).map_err(fault)?;
            }
            let Some(class) = entry else { break };
            let (address, capacity) = (record.site(), class.capacity);
            if !inside(&text, address, capacity) {
                return Err(fault(Why::Outside));
            }
            let new = class.new.head_at(address).ok_or(fault(Why::Compose))?;
            // SAFETY: the site is inside text, which the platform says is readable,
            // and its alias as well, between `unlock` and `lock` (`View::Alias`); its
            // capacity is 6 to 32.
            let present = unsafe { memory::read_head(at(address), capacity) };
            let done = present == new;
            let mut spot = Spot { index, record, address, class, present, new, done };
            if done && class.is_long() {
                spot.done = self.long_holds(&spot, &class.new);
            }
            act(&spot).map_err(fault)?;
        }
        Ok(())
    }

    /// What the record says, checked against the tables, and what all sites of its
    /// class get.
    #[cold]
    #[inline(never)]
    fn class(&self, record: &Record, aim: Aim, entry: &mut Option<Class>) -> Result<(), Why> {
        let capacity = record.capacity();
        if !(InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(capacity)) {
            return Err(Why::Capacity);
        }
        if record.kind().is_err() {
            return Err(Why::Kind);
        }
        if !inside(&self.platform().text(), record.site(), capacity) {
            return Err(Why::Outside);
        }
        let (maker, target, applied) = self.maker(record, aim).ok_or(Why::UnknownOp)?;
        let indirect = maker.form(None).ok_or(Why::Compose)?;
        *entry = Some(Class {
            op: maker.op,
            slot: maker.slot,
            shape: record.shape(),
            kind: maker.kind,
            capacity,
            count: Count::of(maker.replacement(target).as_ref()),
            new: maker.form(target).ok_or(Why::Compose)?,
            indirect,
            applied: maker.form(applied).unwrap_or(indirect),
        });
        Ok(())
    }

    /// What this record's site is made of; what its op does by this aim; and what it
    /// did when it was last applied. `None` if the record's op is not its slot's.
    pub(super) fn maker(
        &self,
        record: &Record,
        aim: Aim,
    ) -> Option<(Maker, Option<usize>, Option<usize>)> {
        let (slot, number) = (record.slot(), usize::from(record.op()));
        let (table, op) = self.op(slot, number)?;
        let target = match aim {
            Aim::Indirect => None,
            Aim::Slots => Some(table.get(number)?.address()),
            Aim::Kept => Some(table.kept(number)?),
        };
        let maker = Maker {
            op,
            slot,
            kind: record.kind().ok()?,
            capacity: record.capacity(),
            nops: self.platform().nops(),
            address: record.site(),
        };
        Some((maker, target, table.applied(number)))
    }

    /// The op of this slot, if it has this index.
    fn op(&self, slot: usize, index: usize) -> Option<(&'a Table, &'static Op)> {
        let find = |table: &&&'a Table| table.index_of_slot(slot) == Some(index);
        let table = self.tables().iter().find(find)?;
        Some((table, table.ops().get(index)?))
    }

    fn maker_of(&self, spot: &Spot<'_>) -> Maker {
        let &Spot { address, class: &Class { op, slot, kind, capacity, .. }, .. } = spot;
        Maker { op, slot, kind, capacity, nops: self.platform().nops(), address }
    }

    /// Whether a site that is longer than its first word holds these bytes.
    #[cold]
    #[inline(never)]
    fn long_holds(&self, spot: &Spot<'_>, form: &Form) -> bool {
        self.present(spot) == self.bytes(spot, form)
    }

    /// All bytes that the site holds.
    pub(crate) fn present(&self, spot: &Spot<'_>) -> InsnBuffer {
        self.read(spot.address, spot.class.capacity)
    }

    /// All bytes of the site in this form; none, if it cannot have it.
    #[inline(never)]
    pub(crate) fn bytes(&self, spot: &Spot<'_>, form: &Form) -> InsnBuffer {
        self.made(spot, spot.class.target(form)).unwrap_or(InsnBuffer::nothing())
    }

    /// The functions that a site can stand for; `None` is the indirect call or jump.
    ///
    /// Known ones only: what the assembler put there, what was patched in last or is
    /// to be there anyway, what the same crate puts in ahead of boot (native), and
    /// what the op was patched for before that, for sites that another patcher
    /// answers for. Any other bytes are somebody else's.
    pub(crate) fn known(&self, spot: &Spot<'_>) -> [Option<usize>; 5] {
        let class = spot.class;
        let number = usize::from(class.shape as u16);
        let before = self.op(class.slot, number).and_then(|(table, _)| table.before(number));
        [
            class.target(&class.applied),
            None,
            Some(class.op.native().address()),
            before,
            class.target(&class.new),
        ]
    }

    /// The site standing for this one; `None` if it cannot.
    #[inline(never)]
    pub(crate) fn made(&self, spot: &Spot<'_>, target: Option<usize>) -> Option<InsnBuffer> {
        let mut bytes = InsnBuffer::nothing();
        self.maker_of(spot).bytes(target, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Which of them a site stands for; `None` if it is none of them.
    #[cold]
    #[inline(never)]
    pub(crate) fn held(&self, spot: &Spot<'_>) -> Option<Option<usize>> {
        let present = self.present(spot);
        let holds = |target: &_| self.made(spot, *target) == Some(present);
        self.known(spot).into_iter().find(holds)
    }

    /// What the site is made of and made into; `None` if it holds nothing known.
    pub(crate) fn outcome(&self, spot: &Spot<'_>) -> Option<Outcome> {
        let &Spot { address, class, present, new, .. } = spot;
        let is = |form: &Form| !class.is_long() && form.head_at(address) == Some(present);
        let held = match [class.indirect, class.applied].into_iter().find(is) {
            Some(form) => class.target(&form),
            None => self.held(spot)?,
        };
        let (old, new) = if class.is_long() {
            (self.present(spot), self.bytes(spot, &class.new))
        } else {
            [present, new].map(|head| InsnBuffer::short(head, class.capacity)).into()
        };
        let maker = self.maker_of(spot);
        let replacement = maker.replacement(class.target(&class.new));
        let held = maker.replacement(held);
        Some(Outcome { address, op: class.op, kind: class.kind, replacement, held, old, new })
    }

    /// What happens to one site by this aim; `None` if there is no such record, or
    /// something is wrong with it.
    pub(super) fn outcome_of(&self, index: usize, aim: Aim) -> Option<Outcome> {
        let mut outcome = None;
        let _ = self.walk(aim, View::Site, &mut Classes::new(), index..index + 1, &mut |spot| {
            outcome = self.outcome(spot);
            Ok(())
        });
        outcome
    }
}

/// Whether a site is inside text.
#[inline(always)]
pub(super) fn inside(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    address >= text.start
        && address.checked_add(usize::from(capacity)).is_some_and(|end| end <= text.end)
}
