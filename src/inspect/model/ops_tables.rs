//! The ops tables of a linked file: where each begins, and how many slots it has. A table is found
//! by its symbol, by the records of its ops, and by the records of its sites: from the slot and
//! the index in such a record follows where the table begins.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use crate::inspect::elf::{Image, Symbol, SymbolKind};
use crate::inspect::formats::{OpRecord, PV_TABLE, SiteImage};

/// An ops table in a file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TableImage<'d> {
    /// Name of the table: its symbol. `None` if the file does not say it.
    pub name: Option<Cow<'d, str>>,
    /// Address of the first slot.
    pub address: u64,
    /// Number of slots. If neither a symbol nor the records of ops say it, only slots that are
    /// certain to belong to the table are counted.
    pub slots: u64,
}

impl TableImage<'_> {
    /// Returns the name of the table, or its address if the name is not known.
    #[must_use]
    pub fn words(&self) -> Cow<'_, str> {
        match &self.name {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("table at {:#x}", self.address)),
        }
    }
}

/// The ops tables of a file, sorted by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpsTables<'d> {
    pub list: Vec<TableImage<'d>>,
    /// Size of a slot, in bytes.
    pointer: u64,
}

impl<'d> OpsTables<'d> {
    /// Finds the tables that records are of, and the built-in one. `op_records`: what the file
    /// says of its ops. `natives`: the native functions that the file's patchlets have.
    pub fn find(
        image: &Image<'d>,
        records: &[SiteImage],
        op_records: &[OpRecord<'d>],
        natives: &HashMap<u64, usize>,
    ) -> Self {
        let pointer = image.width().pointer_size();
        // Maps the start of a table to the number of slots that records of its sites name. A
        // table begins as many slots before the slot of an op as the op's index says.
        let mut bases: BTreeMap<u64, u64> = BTreeMap::new();
        for record in records {
            if let Some(base) = record.slot.checked_sub(u64::from(record.op) * pointer) {
                let slots = bases.entry(base).or_default();
                *slots = (*slots).max(u64::from(record.op) + 1);
            }
        }
        let mut found: BTreeMap<u64, TableImage<'d>> = BTreeMap::new();
        if let Some(symbol) = image.symbols().find(PV_TABLE) {
            found.insert(symbol.address, by_symbol(image, symbol, pointer));
        }
        // The records of ops name their tables even in a stripped file. They are more exact
        // than the symbol of a table: it also covers the pointer to the name behind the slots,
        // and the symbols of the ops lie at the same addresses.
        let mut recorded: BTreeMap<u64, TableImage<'d>> = BTreeMap::new();
        for op in op_records {
            let Some(base) = op.slot.checked_sub(u64::from(op.index) * pointer) else { continue };
            let named = TableImage { name: Some(op.table.into()), address: base, slots: 0 };
            let table = recorded.entry(base).or_insert(named);
            table.slots = table.slots.max(u64::from(op.index) + 1);
        }
        found.append(&mut recorded);
        for (&base, &slots) in &bases {
            let table = match covering(image, base) {
                Some(symbol) => by_symbol(image, symbol, pointer),
                None if is_data(image, base) => TableImage { name: None, address: base, slots },
                None => continue,
            };
            found.entry(table.address).or_insert(table);
        }
        let mut tables = Self { list: found.into_values().collect(), pointer };
        tables.extend_unnamed(image, natives);
        tables
    }

    /// Extends tables without a name by slots that no record names: as long as the next word
    /// holds the address of a patchlet's native function, and up to the next table.
    fn extend_unnamed(&mut self, image: &Image<'_>, natives: &HashMap<u64, usize>) {
        let starts: Vec<u64> = self.list.iter().map(|table| table.address).collect();
        for (at, table) in
            self.list.iter_mut().enumerate().filter(|(_, table)| table.name.is_none())
        {
            let limit = starts.get(at + 1).copied().unwrap_or(u64::MAX);
            loop {
                let end = table.address.saturating_add(table.slots * self.pointer);
                let native =
                    image.pointer_at(end).is_some_and(|value| natives.contains_key(&value));
                if end >= limit || !native {
                    break;
                }
                table.slots += 1;
            }
        }
    }

    /// Returns the position of the table that contains an address, and the offset in it in bytes.
    pub fn containing(&self, address: u64) -> Option<(usize, u64)> {
        let at = self.list.partition_point(|table| table.address <= address).checked_sub(1)?;
        let table = self.list.get(at)?;
        let offset = address - table.address;
        (offset / self.pointer < table.slots).then_some((at, offset))
    }

    /// Returns the position of the table and the index of the slot that is at exactly this
    /// address.
    pub fn slot(&self, address: u64) -> Option<(usize, u64)> {
        let (table, offset) = self.containing(address)?;
        offset.is_multiple_of(self.pointer).then_some((table, offset / self.pointer))
    }
}

/// Returns whether a table can be at an address: whether a data section of the file has it.
fn is_data(image: &Image<'_>, address: u64) -> bool {
    let section = image.section_at(address);
    section.is_some_and(|section| !section.is_executable() && !section.data.is_empty())
}

/// Returns the data symbol that covers an address.
fn covering<'i>(image: &'i Image<'_>, address: u64) -> Option<&'i Symbol> {
    /// The largest number of symbols before the address that are looked at. It limits the time
    /// for a file with many symbols in one table.
    const NEAR: usize = 16;
    let inside = |symbol: &&Symbol| {
        symbol.kind == SymbolKind::Object && address - symbol.address < symbol.size
    };
    image.symbols().before(address).take(NEAR).find(inside)
}

/// Returns the table that a data symbol stands for.
fn by_symbol<'d>(image: &Image<'d>, symbol: &Symbol, pointer: u64) -> TableImage<'d> {
    let section_end = image.section_at(symbol.address).map_or(symbol.address, |found| found.end());
    let size = symbol.size.min(section_end - symbol.address);
    TableImage {
        name: Some(image.symbols().readable(symbol)),
        address: symbol.address,
        slots: size / pointer,
    }
}
