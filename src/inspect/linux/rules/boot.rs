//! What is written once, when the kernel starts: sealed ENDBRs, LOCK prefixes, constants.

use std::collections::BTreeMap;

use super::Rules;
use crate::inspect::linux::tables::{KernelTable, TableKind, TableRecord};
use crate::inspect::linux::text::{Cause, Depends, Text};

pub(super) const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

impl Rules<'_, '_> {
    /// Writes the ENDBR of functions that nothing calls indirectly.
    pub(super) fn endbr(&self, text: &mut Text<'_>) {
        let cfi = self.cfi_state();
        for record in self.records(TableKind::Endbr) {
            text.answer(record.site, 4, Cause::Record(TableKind::Endbr, Depends::Boot));
            if text.expected(record.site, 4) == Some(&ENDBR64) {
                text.write(record.site, &self.habits.sealed_endbr);
            }
            if let Some(cfi) = cfi {
                self.seal_preamble(text, record.site, cfi);
            }
        }
    }

    /// Writes LOCK prefixes: with one CPU they are DS prefixes.
    pub(super) fn smp_locks(&self, text: &mut Text<'_>) {
        let variable = self.names.address("uniproc_patched");
        let known = variable.and_then(|variable| self.state.located.bytes(variable, 1));
        let cause = Cause::Record(TableKind::SmpLocks, Depends::Cpus);
        let alone = known.map_or_else(
            || {
                // All are of one kind, so what most of them are decides.
                let bytes = self.records(TableKind::SmpLocks);
                let bytes = bytes.filter_map(|record| self.state.located.bytes(record.site, 1));
                let (alone, all) = bytes.fold((0, 0), |(alone, all), byte| {
                    (alone + usize::from(byte == [0x3e]), all + 1)
                });
                alone * 2 > all
            },
            |is| is != [0],
        );
        for record in self.records(TableKind::SmpLocks) {
            match known {
                Some(_) => text.answer(record.site, 1, cause),
                None => text.answer_undecided(record.site, 1, cause),
            }
            if alone && text.expected(record.site, 1) == Some(&[0xf0]) {
                text.write(record.site, &[0x3e]);
            }
        }
    }

    /// Writes constants that are known when the kernel has started: the section's name has the
    /// name of the variable.
    pub(super) fn runtime_constants(&self, text: &mut Text<'_>) {
        for table in self.tables {
            let (prefix, len) = match table.kind {
                TableKind::RuntimePointers => ("runtime_ptr_", 8),
                TableKind::RuntimeShifts => ("runtime_shift_", 1),
                TableKind::RuntimeMasks => ("runtime_mask_", 4),
                _ => continue,
            };
            let name = table.name.strip_prefix(prefix).unwrap_or_default();
            let variable = self.names.address(name);
            // Without the variable, all sites must at least agree.
            let value = match variable {
                Some(variable) => self.state.located.bytes(variable, len),
                None => self.value_of_most(table, len, text),
            };
            let Some(value) = value else { continue };
            for record in &table.records {
                match variable {
                    Some(variable) => {
                        let cause = Cause::Record(table.kind, Depends::Variable(variable));
                        text.answer(record.site, len as u64, cause);
                    }
                    None => {
                        let cause = Cause::Record(table.kind, Depends::RunTime);
                        text.answer_undecided(record.site, len as u64, cause);
                    }
                }
                text.write(record.site, value);
            }
        }
    }

    /// Returns the bytes that most sites of a table have in the dump, of those in text that was not
    /// given back.
    fn value_of_most(&self, table: &KernelTable, len: usize, text: &Text<'_>) -> Option<&[u8]> {
        let mut values = BTreeMap::new();
        for &TableRecord { site, .. } in &table.records {
            let located = self.state.located;
            if located.is_executable(site).unwrap_or_else(|| text.is_kept(site))
                && let Some(value) = located.bytes(site, len)
            {
                *values.entry(value).or_insert(0_usize) += 1;
            }
        }
        values.into_iter().max_by_key(|&(_, count)| count).map(|(value, _)| value)
    }
}
