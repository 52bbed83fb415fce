//! Everything the commands need of one linked file, read once: its patchlets,
//! its records, its ops tables, and which op each record is of.

use std::collections::HashMap;

use super::error::Error;
use super::finding::Findings;
use super::image::Image;
use super::native_set;
use super::patchlets::{self, Patchlet};
use super::records::{self, Record, Records};
use super::tables::{Table, Tables};
use crate::insn::{ComposeError, InsnBuffer, Kind, Nops, Replacement, Width};
use crate::ops::Choice;

/// No function is at this address: one that is not known.
const NOWHERE: u64 = 1;

/// The same, for the no-op and the identity function, which may be meant though
/// their addresses are not known.
const SOME_NOP: u64 = 2;
const SOME_IDENT: u64 = 3;

/// One op, as far as records go through its slot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Op {
    /// Address of its slot.
    pub slot: u64,
    /// Index in its table, according to the records.
    pub index: u16,
    /// Position of its table.
    pub table: Option<usize>,
    /// What the slot holds at first: the native function. None if that cannot be
    /// told.
    pub native: Option<u64>,
    /// Position of its patchlet, the one whose native function it has.
    pub patchlet: Option<usize>,
}

/// What a site holds at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// The indirect call or jump that the assembler put there.
    Indirect,
    /// What bare metal gets: patched ahead of boot.
    Native,
    /// Something else.
    Foreign,
}

impl State {
    /// As the tool prints it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Indirect => "indirect",
            Self::Native => "native",
            Self::Foreign => "foreign",
        }
    }
}

/// One linked file.
#[derive(Debug)]
pub struct Model<'d> {
    pub(super) image: Image<'d>,
    pub(super) patchlets: Vec<Patchlet<'d>>,
    pub(super) records: Records,
    pub(super) tables: Tables<'d>,
    /// By slot and index.
    pub(super) ops: Vec<Op>,
    /// Address of a native function → position in `patchlets`.
    natives: HashMap<u64, usize>,
    pub(super) nop: u64,
    pub(super) ident: u64,
    ident_patchlet: &'d [u8],
    trap: &'d [u8],
    /// What reading it brought up.
    pub(super) findings: Findings,
}

impl<'d> Model<'d> {
    /// Of a linked file.
    ///
    /// # Errors
    /// If it is an object.
    pub fn new(image: Image<'d>) -> Result<Self, Error> {
        let mut findings = Findings::default();
        let patchlets = patchlets::find(&image, &mut findings);
        let records = records::read(&image, &mut findings)?;
        let mut natives = HashMap::new();
        for (at, patchlet) in patchlets.iter().enumerate() {
            if let Some(native) = patchlet.native {
                natives.entry(native).or_insert(at);
            }
        }
        let tables = Tables::find(&image, &records.list, &natives);
        let mut model = Self {
            image,
            patchlets,
            records,
            tables,
            ops: vec![],
            natives,
            nop: SOME_NOP,
            ident: SOME_IDENT,
            ident_patchlet: &[],
            trap: &[],
            findings,
        };
        model.find_functions();
        model.find_ops();
        Ok(model)
    }

    /// The file.
    #[must_use]
    pub const fn image(&self) -> &Image<'d> {
        &self.image
    }

    /// Its patchlets, by address.
    #[must_use]
    pub fn patchlets(&self) -> &[Patchlet<'d>] {
        &self.patchlets
    }

    /// Its records, in the order of their table.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records.list
    }

    /// Its ops tables, by address.
    #[must_use]
    pub fn tables(&self) -> &[Table<'d>] {
        &self.tables.list
    }

    /// The op a record is of.
    #[must_use]
    pub fn op(&self, record: &Record) -> Option<&Op> {
        let wanted = (record.slot, record.op);
        let at = self.ops.binary_search_by_key(&wanted, |op| (op.slot, op.index)).ok()?;
        self.ops.get(at)
    }

    /// The name of an op: that of its patchlet or native function; for want of one
    /// `table[index]`.
    #[must_use]
    pub fn op_name(&self, op: &Op) -> String {
        self.name_of_slot(op.slot, op.index)
    }

    /// The no-op function and the identity function.
    fn find_functions(&mut self) {
        let symbol = |name| self.image.symbols().find(name).map(|symbol| symbol.address);
        let nop = symbol("patchlet_nop");
        let ident = match self.image.width() {
            Width::Bits64 => self
                .patchlets
                .iter()
                .find(|patchlet| patchlet.name == "ident_64")
                .and_then(|patchlet| patchlet.native),
            Width::Bits32 => symbol("patchlet_ident").or_else(|| self.builtin_ident()),
        };
        self.nop = nop.unwrap_or(SOME_NOP);
        self.ident = ident.unwrap_or(SOME_IDENT);
        let named = |name: &str| {
            let found = self.patchlets.iter().find(|patchlet| patchlet.name == name);
            found.map_or_else(
                || native_set::bytes_of(self.image.width(), name),
                |patchlet| patchlet.bytes,
            )
        };
        // On 32 bit there is none: argument and result are the same register.
        (self.ident_patchlet, self.trap) = (named("ident_64"), named("ud2"));
    }

    /// What the slot of `ident` in the built-in table holds. Where its symbol is
    /// stripped, the table is known by the slots before that one.
    fn builtin_ident(&self) -> Option<u64> {
        let pointer = self.image.width().pointer_size();
        let starts = |table: &&Table<'_>| {
            native_set::TABLE_STARTS.iter().zip(0..).all(|(&name, index)| {
                let slot = table.address.checked_add(index * pointer);
                slot.and_then(|slot| self.patchlet_behind(slot)).is_some_and(|at| {
                    self.patchlets.get(at).is_some_and(|patchlet| patchlet.name == name)
                })
            })
        };
        let table = self.tables.list.iter().find(starts)?;
        let slot = native_set::TABLE_STARTS.len() as u64 * pointer;
        self.image.pointer_at(table.address.checked_add(slot)?)
    }

    /// The patchlet whose native function a slot holds at first.
    fn patchlet_behind(&self, slot: u64) -> Option<usize> {
        self.natives.get(&self.image.pointer_at(slot)?).copied()
    }

    fn find_ops(&mut self) {
        let mut slots: Vec<(u64, u16)> =
            self.records.list.iter().map(|record| (record.slot, record.op)).collect();
        slots.sort_unstable();
        slots.dedup();
        self.ops = slots.into_iter().map(|(slot, index)| self.op_of(slot, index)).collect();
    }

    fn op_of(&self, slot: u64, index: u16) -> Op {
        Op {
            slot,
            index,
            table: self.tables.containing(slot).map(|(table, _)| table),
            native: self.image.pointer_at(slot),
            patchlet: self.patchlet_behind(slot),
        }
    }

    /// The name of the op whose slot is at this address.
    pub(super) fn name_of_slot(&self, slot: u64, index: u16) -> String {
        let symbols = self.image.symbols();
        let native = self.image.pointer_at(slot).filter(|&native| native != 0);
        if native == Some(self.ident) {
            return "ident".to_owned();
        }
        if let Some(patchlet) = self.patchlet_behind(slot).and_then(|at| self.patchlets.get(at)) {
            return patchlet.name.to_owned();
        }
        let function = native.and_then(|native| {
            let mut names = symbols.at(native).iter().map(|symbol| symbols.readable(symbol));
            names.next()
        });
        if let Some(name) = function {
            return name.strip_prefix("patchlet_native_").unwrap_or(&name).to_owned();
        }
        match self.tables.containing(slot).and_then(|(table, _)| self.tables.list.get(table)) {
            Some(table) => format!("{}[{index}]", table.words()),
            None => format!("{slot:#x}[{index}]"),
        }
    }

    /// What an op's replacement is chosen by.
    #[must_use]
    pub fn choice(&self, op: &Op) -> Choice<'d> {
        Choice {
            native: op.native.unwrap_or(NOWHERE),
            patchlet: op.patchlet.and_then(|at| self.patchlets.get(at)).map_or(&[], |p| p.bytes),
            nop: self.nop,
            ident: self.ident,
            ident_patchlet: self.ident_patchlet,
            trap: self.trap,
        }
    }

    /// The bytes of a site, if it lies in a section of the file.
    #[must_use]
    pub fn present(&self, record: &Record) -> Option<InsnBuffer> {
        InsnBuffer::copy_of(self.image.bytes_at(record.site, u64::from(record.capacity))?)
    }

    /// The site as the assembler left it.
    ///
    /// # Errors
    /// If there can be no such site.
    pub fn indirect(&self, record: &Record, kind: Kind) -> Result<InsnBuffer, ComposeError> {
        self.composed(record, &Replacement::Indirect(kind, record.slot))
    }

    /// The site with this replacement, with the NOPs every CPU of its width has
    /// but the oldest.
    ///
    /// # Errors
    /// If it does not go into the site.
    pub fn composed(
        &self,
        record: &Record,
        replacement: &Replacement<'_>,
    ) -> Result<InsnBuffer, ComposeError> {
        let width = self.image.width();
        InsnBuffer::compose(width, Nops::Long, record.site, record.capacity, replacement)
    }

    /// What bare metal gets: the op's native function in its slot.
    ///
    /// # Errors
    /// If it does not go into the site.
    pub fn native(&self, record: &Record, kind: Kind) -> Result<InsnBuffer, ComposeError> {
        let replacement = self.op(record).map_or(Replacement::Nops, |op| {
            self.choice(op).replacement(op.native.unwrap_or(0), kind)
        });
        self.composed(record, &replacement)
    }

    /// What a site holds at present.
    #[must_use]
    pub fn state(&self, record: &Record) -> State {
        let (Some(present), Some(kind)) = (self.present(record), record.kind()) else {
            return State::Foreign;
        };
        if self.indirect(record, kind) == Ok(present) {
            State::Indirect
        } else if self.native(record, kind) == Ok(present) {
            State::Native
        } else {
            State::Foreign
        }
    }

    /// `main+0x12`; the section and the offset there, if no function is known.
    #[must_use]
    pub fn function(&self, address: u64) -> String {
        let Some(section) = self.image.section_at(address) else { return "nowhere".to_owned() };
        match self.image.symbols().function(section.index, address) {
            Some((symbol, 0)) => self.image.symbols().readable(symbol).into_owned(),
            Some((symbol, offset)) => {
                format!("{}+{offset:#x}", self.image.symbols().readable(symbol))
            }
            None => format!("{}+{:#x}", section.name, address - section.address),
        }
    }
}
