//! The way through the table of sites: each record checked, each site with the
//! bytes it gets.

use core::ops::Range;

use super::class::{Class, Classes, DIRECT, Form, INDIRECT};
use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Aim, Count, Outcome};
use crate::choose::Replacement;
use crate::error::{ComposeError, Error};
use crate::insn::{InsnBuffer, Width};
use crate::ops::{Op, Table, Target};
use crate::site::{Kind, Record};

/// So many sites ahead, text is asked for. Enough for memory to answer, and few
/// enough to be still in the first cache.
const AHEAD: usize = 16;

/// One site, after its record was checked.
#[derive(Debug)]
pub(crate) struct Spot<'c> {
    /// Position of its record in the table.
    pub(crate) index: usize,
    pub(crate) address: usize,
    pub(crate) class: &'c Class,
}

impl<'a, P: Platform, const TABLES: usize> Patcher<'a, P, TABLES> {
    /// Calls `act` with each site of this range of records, in order.
    #[inline(always)] // One copy for each `act`, or it is called through a pointer.
    pub(crate) fn walk(
        &self,
        aim: Aim,
        classes: &mut Classes,
        range: Range<usize>,
        mut act: impl FnMut(&Spot<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let records = self.sites().records();
        let text = self.platform().text();
        for index in range {
            let Some(record) = records.get(index) else { break };
            if let Some(record) = records.get(index + AHEAD) {
                memory::prefetch(record.site());
            }
            let entry = classes.entry(record);
            let class = match entry {
                Some(class) if class.is_of(record) => class,
                _ => entry.insert(self.class(index, record, aim)?),
            };
            let address = record.site();
            if !inside(&text, address, class.capacity) {
                return Err(self.outside(index, address));
            }
            if class.new.head_at(address).is_none() {
                return Err(out_of_reach(address, class.op, class.new.to));
            }
            act(&Spot { index, address, class })?;
        }
        Ok(())
    }

    /// What happens to one site by this aim; `None` if there is no such record.
    pub(super) fn outcome_of(&self, index: usize, aim: Aim) -> Result<Option<Outcome>, Error> {
        let mut outcome = None;
        self.walk(aim, &mut Classes::new(), index..index + 1, |spot| {
            outcome = Some(self.outcome(spot, aim)?);
            Ok(())
        })?;
        Ok(outcome)
    }

    /// What the record says, checked against the tables, and what all sites of its
    /// class get.
    #[cold]
    #[inline(never)]
    fn class(&self, index: usize, record: &Record, aim: Aim) -> Result<Class, Error> {
        let capacity = record.capacity();
        if !(InsnBuffer::MIN..=InsnBuffer::MAX).contains(&usize::from(capacity)) {
            return Err(Error::BadRecord { index, field: "capacity", value: capacity });
        }
        let kind =
            record.kind().map_err(|value| Error::BadRecord { index, field: "kind", value })?;
        let (address, slot) = (record.site(), record.slot());
        if !inside(&self.platform().text(), address, capacity) {
            return Err(self.outside(index, address));
        }
        let (table, number, op) = self
            .op(slot, usize::from(record.op()))
            .ok_or(Error::UnknownOp { index, site: address, slot, op: record.op() })?;
        let refused = |why| Error::Compose { site: address, op: op.name(), why };
        let bytes =
            InsnBuffer::indirect(Width::NATIVE, kind, address as u64, capacity, slot as u64)
                .map_err(refused)?;
        let indirect = Form::new(&bytes, slot, INDIRECT);
        let form = |target| self.form(op, kind, capacity, address, target);
        let target = match aim {
            Aim::Indirect => None,
            Aim::Slots => Some(table.get(number).map_or(0, Target::address)),
            Aim::Kept => Some(table.kept(number).unwrap_or(0)),
        };
        let new = target.map_or(Ok(indirect), form).map_err(refused)?;
        let replacement = target.map(|target| op.choice().replacement(target as u64, kind));
        let count = Count::of(replacement.as_ref());
        let applied = table.applied(number).and_then(|target| form(target).ok());
        let applied = applied.unwrap_or(indirect);
        let shape = record.shape();
        Ok(Class { op, slot, shape, kind, capacity, new, count, indirect, applied })
    }

    /// The op of this slot, if it has this index.
    pub(super) fn op(&self, slot: usize, index: usize) -> Option<(&'a Table, usize, &'static Op)> {
        let find = |table: &&'a Table| (table.index_of_slot(slot)? == index).then_some(*table);
        let table = self.tables().iter().find_map(find)?;
        Some((table, index, table.ops().get(index)?))
    }

    /// What sites of an op get for a slot that holds `target`, by the example of
    /// the one at `address`.
    #[inline(never)]
    fn form(
        &self,
        op: &Op,
        kind: Kind,
        capacity: u8,
        address: usize,
        target: usize,
    ) -> Result<Form, ComposeError> {
        let replacement = op.choice().replacement(target as u64, kind);
        let bytes = self.composed(address, capacity, &replacement)?;
        let direct = matches!(replacement, Replacement::Call(_) | Replacement::Jump(_));
        Ok(Form::new(&bytes, target, if direct { DIRECT } else { None }))
    }

    fn composed(
        &self,
        address: usize,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        let nops = self.platform().nops();
        InsnBuffer::compose(Width::NATIVE, nops, address as u64, capacity, replacement)
    }

    /// All bytes of the site in this form; none, if it cannot have it.
    #[inline(never)]
    pub(crate) fn bytes(&self, spot: &Spot<'_>, form: &Form) -> InsnBuffer {
        let &Spot { address, class: &Class { op, kind, capacity, slot, .. }, .. } = spot;
        if let Some(bytes) =
            form.head_at(address).and_then(|head| InsnBuffer::short(head, capacity))
        {
            return bytes;
        }
        let bytes = if form.to == slot {
            InsnBuffer::indirect(Width::NATIVE, kind, address as u64, capacity, slot as u64)
        } else {
            let replacement = op.choice().replacement(form.to as u64, kind);
            self.composed(address, capacity, &replacement)
        };
        bytes.unwrap_or(InsnBuffer::nothing())
    }

    /// What the site is made of and made into.
    #[inline(never)]
    pub(crate) fn outcome(&self, spot: &Spot<'_>, aim: Aim) -> Result<Outcome, Error> {
        let &Spot { address, class: &Class { op, kind, .. }, .. } = spot;
        let held = self.held(spot)?;
        let replaced_by = |target: usize| op.choice().replacement(target as u64, kind);
        Ok(Outcome {
            address,
            op,
            kind,
            replacement: (aim != Aim::Indirect).then(|| replaced_by(spot.class.new.to)),
            held: held.map(replaced_by),
            old: self.read(spot),
            new: self.bytes(spot, &spot.class.new),
        })
    }

    /// The function that the present bytes of a site stand for; `None` is the
    /// indirect call or jump.
    ///
    /// Known forms only: what the assembler put there, what was patched in last or
    /// is to be there anyway, and what the same crate puts in ahead of boot (native)
    /// or what the op was patched for before that, for sites that another patcher
    /// answers for. Anything else is somebody else's.
    #[cold]
    #[inline(never)]
    pub(super) fn held(&self, spot: &Spot<'_>) -> Result<Option<usize>, Error> {
        let &Spot { address, class, .. } = spot;
        let head = self.read_head(spot);
        let is = |form: &Form| self.holds(spot, head, form);
        if is(&class.indirect) {
            return Ok(None);
        }
        if let Some(form) = [class.applied, class.new].into_iter().find(is) {
            return Ok(Some(form.to));
        }
        let number = usize::from(class.shape as u16);
        let before = self.op(class.slot, number).and_then(|(table, ..)| table.before(number));
        for target in [Some(class.op.native().address()), before].into_iter().flatten() {
            let form = self.form(class.op, class.kind, class.capacity, address, target);
            if form.is_ok_and(|form| is(&form)) {
                return Ok(Some(target));
            }
        }
        Err(Error::OldBytes {
            site: address,
            op: class.op.name(),
            expected: self.bytes(spot, &class.indirect),
            found: self.read(spot),
        })
    }

    /// Whether a site holds its native form.
    ///
    /// # Errors
    /// It holds none that is known.
    #[cold]
    #[inline(never)]
    pub(super) fn holds_native(&self, spot: &Spot<'_>) -> Result<bool, Error> {
        Ok(self.held(spot)? == Some(spot.class.op.native().address()))
    }

    /// What the site held before, by what is noted of its op. If nothing is, it held
    /// its indirect call or jump; or its native form, where all such sites did.
    pub(super) fn noted(&self, spot: &Spot<'_>, ahead: bool) -> Form {
        let &Spot { address, class, .. } = spot;
        let never = class.applied.to == class.slot;
        let native = class.op.native().address();
        let native = self.form(class.op, class.kind, class.capacity, address, native);
        match native {
            Ok(native) if ahead && never => native,
            _ => class.applied,
        }
    }

    /// What the site held before its first byte was written: the known form whose
    /// tail it still has.
    pub(crate) fn old_of_tail(&self, spot: &Spot<'_>) -> Option<InsnBuffer> {
        let &Spot { address, class, .. } = spot;
        let native = class.op.native().address();
        let native = self.form(class.op, class.kind, class.capacity, address, native).ok();
        let forms = [Some(class.applied), Some(class.indirect), native];
        let mut forms = forms.into_iter().flatten().map(|form| self.bytes(spot, &form));
        let present = self.read(spot);
        forms.find(|form| form.bytes().get(1..) == present.bytes().get(1..))
    }

    #[cold]
    #[inline(never)]
    fn outside(&self, index: usize, site: usize) -> Error {
        let Range { start, end } = self.platform().text();
        Error::OutsideText { index, site, start, end }
    }
}

#[inline(always)]
fn inside(text: &Range<usize>, address: usize, capacity: u8) -> bool {
    address >= text.start
        && address.checked_add(usize::from(capacity)).is_some_and(|end| end <= text.end)
}

#[cold]
#[inline(never)]
fn out_of_reach(site: usize, op: &Op, target: usize) -> Error {
    let why = ComposeError::OutOfReach { target: target as u64 };
    Error::Compose { site, op: op.name(), why }
}
