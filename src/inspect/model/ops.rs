//! The ops of a model: which one a record belongs to, and what they are called.

use std::borrow::Cow;

use super::file::{Model, OpImage};
use super::ops_tables::TableImage;
use crate::inspect::error::FileError;
use crate::inspect::formats::{OpRecord, PatchletImage, SiteImage, VariantImage};

impl<'d> Model<'d> {
    /// Returns the op that a record belongs to.
    #[must_use]
    pub fn op(&self, record: &SiteImage) -> Option<&OpImage> {
        let wanted = (record.slot, record.op);
        let at = self.ops.binary_search_by_key(&wanted, |op| (op.slot, op.index)).ok()?;
        self.ops.get(at)
    }

    /// Returns the name of an op, `irq.save_fl`. In a file that does not say it, this is the name
    /// of its patchlet or native function; for want of one `table[index]`.
    #[must_use]
    pub fn op_name(&self, op: &OpImage) -> String {
        self.name_of_slot(op.slot, op.index)
    }

    /// Returns whether an op is meant by these words: its name with or without the group and
    /// with or without `table.` before it, or `table[index]`.
    pub(crate) fn is_meant(&self, op: &OpImage, words: &str) -> bool {
        let in_table = words.strip_prefix(&*self.table_words(op));
        if in_table.is_some_and(|rest| rest == format!("[{}]", op.index)) {
            return true;
        }
        let wanted = in_table.and_then(|rest| rest.strip_prefix('.')).unwrap_or(words);
        // Only a name from the file's records has a group; the dot in the name of a function does
        // not end one.
        let record = self.op_record(op.slot);
        let without_group = record.and_then(|record| record.name.split_once('.'));
        self.op_name(op) == wanted || without_group.is_some_and(|(_, name)| name == wanted)
    }

    /// Returns the name of an op's table; nothing if it has none.
    pub(crate) fn table_words(&self, op: &OpImage) -> Cow<'_, str> {
        let table = op.table.and_then(|at| self.tables.list.get(at));
        table.map_or_else(Cow::default, TableImage::words)
    }

    /// Returns the name of the first op that has this patchlet natively, or else of one that has it
    /// as a variant; that of the patchlet, if the file does not say of which op it is.
    pub(crate) fn op_name_of_patchlet(&self, patchlet: &PatchletImage<'d>) -> &'d str {
        let is_native =
            |slot| patchlet.native.is_some() && self.image.pointer_at(slot) == patchlet.native;
        let is_variant = |variant: &&VariantImage<'_>| patchlet.native == Some(variant.function);
        let natively = self.op_records.iter().find(|record| is_native(record.slot));
        let record = natively.or_else(|| {
            let variant = self.variants.iter().find(is_variant)?;
            self.op_record(variant.slot)
        });
        record.map_or(patchlet.name, |record| record.name)
    }

    /// Returns what the file says of the op whose slot is at this address.
    pub(crate) fn op_record(&self, slot: u64) -> Option<&OpRecord<'d>> {
        let at = self.op_records.binary_search_by_key(&slot, |record| record.slot).ok()?;
        self.op_records.get(at)
    }

    /// Returns the error of a name that no op has whose sites are in the file.
    pub(crate) fn no_such_op(&self, words: &str) -> FileError {
        /// More than anybody reads.
        const MANY: usize = 100;
        let mut names: Vec<String> =
            self.ops.iter().take(MANY).map(|op| self.op_name(op)).collect();
        names.sort_unstable();
        names.dedup();
        FileError::new(format!("no site is of an op `{words}`; there are {}", names.join(", ")))
    }

    /// Returns the name of the op that a record belongs to, or `?` if there is none.
    pub(crate) fn op_name_of(&self, record: &SiteImage) -> String {
        self.op(record).map_or_else(|| "?".to_owned(), |op| self.op_name(op))
    }

    /// Returns the position of the patchlet whose native function a slot holds in the file.
    pub(super) fn patchlet_behind(&self, slot: u64) -> Option<usize> {
        self.natives.get(&self.image.pointer_at(slot)?).copied()
    }

    pub(super) fn find_ops(&mut self) {
        let mut slots: Vec<(u64, u16)> =
            self.records.list.iter().map(|record| (record.slot, record.op)).collect();
        slots.sort_unstable();
        slots.dedup();
        self.ops = slots.into_iter().map(|(slot, index)| self.op_of(slot, index)).collect();
    }

    /// Returns the op of this slot and index, whether it has a site in this file or not.
    pub(crate) fn op_of(&self, slot: u64, index: u16) -> OpImage {
        OpImage {
            slot,
            index,
            table: self.tables.containing(slot).map(|(table, _)| table),
            native: self.image.pointer_at(slot),
            patchlet: self.patchlet_behind(slot),
        }
    }

    /// Returns the name of the op of this slot and index.
    pub(crate) fn name_of_slot(&self, slot: u64, index: u16) -> String {
        if let Some(record) = self.op_record(slot) {
            return record.name.to_owned();
        }
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
}
