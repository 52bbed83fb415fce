//! Alternatives: instructions for CPUs that have or lack a feature.

use super::Rules;
use super::code::{add_to, branch, sign_extended};
use super::habits::Filling;
use crate::disassemble::decoder;
use crate::inspect::linux::tables::{TableKind, TableRecord};
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The flag of an alternative for CPUs without the feature.
const NOT: u16 = 1;
/// The flag of an alternative that makes a direct call of one through `pv_ops`.
pub(in crate::inspect::linux) const DIRECT_CALL: u16 = 2;
/// The flag for CPUs without the feature, where records have no flags.
const NOT_IN_NUMBER: u16 = 1 << 15;

/// Returns the feature of a record, and whether it is for CPUs without it.
pub(in crate::inspect::linux) const fn feature_of(record: &TableRecord) -> (u16, bool) {
    match record.number & NOT_IN_NUMBER {
        0 => (record.number, record.flags & NOT != 0),
        _ => (record.number & !NOT_IN_NUMBER, true),
    }
}

/// Returns the records of each site, which stand in a row. Each has the length of the longest.
pub(in crate::inspect::linux) fn groups(
    records: &[&TableRecord],
) -> impl Iterator<Item = Vec<TableRecord>> {
    records.chunk_by(|a, b| a.site == b.site).map(|group| {
        let length = group.iter().map(|record| record.length).max().unwrap_or(0);
        group.iter().map(|&&record| TableRecord { length, ..record }).collect()
    })
}

impl Rules<'_, '_> {
    /// Writes alternatives, in the order of the table: a later record overwrites an earlier one.
    pub(super) fn alternatives(&self, text: &mut Text<'_>) {
        let records: Vec<&TableRecord> = self.records(TableKind::Alternatives).collect();
        for group in groups(&records) {
            for record in &group {
                let (number, absent) = feature_of(record);
                let depends = Depends::Feature(number, absent);
                let cause = Cause::Record(TableKind::Alternatives, depends);
                self.answer_by(&[number], text, record.site, u64::from(record.length), cause);
            }
            self.alternatives_of_site(text, &group);
        }
    }

    /// Writes the alternatives of one site. Without the feature of a record nothing is written, and
    /// every difference is unexplained.
    pub(in crate::inspect::linux) fn alternatives_of_site(
        &self,
        text: &mut Text<'_>,
        group: &[TableRecord],
    ) {
        for record in group {
            let (number, absent) = feature_of(record);
            match self.has(number) {
                Some(has) if has == absent => self.not_replaced(text, record),
                Some(_) => self.replace(text, record),
                None => {}
            }
        }
    }

    /// Writes a site whose replacement does not apply: its NOPs become longer ones.
    fn not_replaced(&self, text: &mut Text<'_>, record: &TableRecord) {
        let length = usize::from(record.length);
        let Some(bytes) = text.expected(record.site, length) else { return };
        let mut bytes = bytes.to_vec();
        match self.habits.filling {
            Filling::Padding => {
                let padding = usize::from(record.padding);
                // The bytes that are looked at are those at the start, so only a site of nothing
                // but padding is changed.
                let only_nops =
                    bytes.get(..padding).is_some_and(|start| start.iter().all(|&b| b == 0x90));
                if padding > 1
                    && only_nops
                    && let Some(end) = bytes.get_mut(length - padding..)
                {
                    self.habits.nops.fill(end, 8);
                }
            }
            Filling::Runs | Filling::Instructions => self.optimize(record.site, &mut bytes),
        }
        text.write(record.site, &bytes);
    }

    /// Writes the replacement of a site.
    fn replace(&self, text: &mut Text<'_>, record: &TableRecord) {
        let (length, used) = (usize::from(record.length), usize::from(record.other_length));
        let Some(replacement) = text.expected(record.other, used) else { return };
        let mut bytes = replacement.to_vec();
        let moved = record.other.wrapping_sub(record.site);
        match self.habits.filling {
            Filling::Padding | Filling::Runs => {
                match bytes.first() {
                    Some(0xe8) if used == 5 => add_to(&mut bytes, 1, 4, moved),
                    Some(0xe9) if used == 5 => self.jump_from(record.site, moved, &mut bytes),
                    _ => {}
                }
                if self.habits.filling == Filling::Padding {
                    bytes.resize(length, 0x90);
                    if let Some(rest) = bytes.get_mut(used..) {
                        self.habits.nops.fill(rest, 8);
                    }
                } else {
                    bytes.resize(length, 0x90);
                    self.optimize(record.site, &mut bytes);
                }
            }
            Filling::Instructions => {
                if record.flags & DIRECT_CALL != 0 {
                    match self.direct_call(text, record) {
                        Some(call) => bytes = call,
                        None => return,
                    }
                }
                bytes.resize(length, 0x90);
                self.relocate(record, &mut bytes);
                self.optimize(record.site, &mut bytes);
            }
        }
        text.write(record.site, &bytes);
    }

    /// Returns the direct call that a call through `pv_ops` becomes, as it would be at the place of
    /// the replacement; nothing for the function that does nothing.
    fn direct_call(&self, text: &Text<'_>, record: &TableRecord) -> Option<Vec<u8>> {
        let slot = self.slot_of_call(text, record.site)?;
        let function = match self.state.target(slot)? {
            0 => self.names.address("BUG_func")?,
            function => function,
        };
        if self.names.is_one_of(function, &["nop_func"]) {
            return Some(vec![]);
        }
        Some(branch(0xe8, record.other, function).to_vec())
    }

    /// Writes a jump for its new place, as short as can be: older kernels find that a jump forward
    /// can be short, but not one backward.
    fn jump_from(&self, site: u64, moved: u64, bytes: &mut [u8]) {
        let Some(&[a, b, c, d]) = bytes.get(1..5) else { return };
        let distance = i32::from_le_bytes([a, b, c, d]);
        // From the start of the site to the target.
        let distance = i64::from(distance).wrapping_add(5).wrapping_add(moved.cast_signed());
        if (0..=129).contains(&distance) {
            let short = [0xeb, (distance - 2) as u8];
            let Some((start, rest)) = bytes.split_at_mut_checked(2) else { return };
            start.copy_from_slice(&short);
            if let Some(rest) = rest.get_mut(..3) {
                self.habits.nops.fill(rest, 8);
            }
        } else {
            let long = branch(0xe9, site, site.wrapping_add_signed(distance));
            for (to, from) in bytes.iter_mut().zip(long) {
                *to = from;
            }
        }
    }

    /// Relocates every branch and every operand that is relative to the instruction pointer, but
    /// those that lead into the replacement itself; and makes long jumps short where they can be.
    fn relocate(&self, record: &TableRecord, bytes: &mut [u8]) {
        let moved = record.other.wrapping_sub(record.site);
        let inside = |target: u64| target <= u64::from(record.other_length);
        let original = bytes.to_vec();
        // Decoded at address 0, so that targets count from the start of the replacement.
        let mut decoder = decoder(self.width(), 0, &original);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return;
            }
            let offsets = decoder.get_constant_offsets(&instruction);
            let start = instruction.ip() as usize;
            let (next, len) = (start + instruction.len(), instruction.len());
            let is_branch = instruction.is_jcc_short_or_near()
                || instruction.is_jmp_short_or_near()
                || instruction.is_call_near();
            if is_branch && offsets.has_immediate() {
                let (at, size) = (start + offsets.immediate_offset(), offsets.immediate_size());
                let field = original.get(at..at + size).unwrap_or_default();
                let distance = sign_extended(field);
                if !inside((next as u64).wrapping_add_signed(distance)) {
                    add_to(bytes, at, size, moved);
                }
                if original.get(start) == Some(&0xe9) {
                    let short = distance.wrapping_add(moved.cast_signed()).wrapping_add(3);
                    if let (Ok(short), Some(jump)) =
                        (i8::try_from(short), bytes.get_mut(start..start + len))
                    {
                        jump.fill(0xcc);
                        for (to, from) in jump.iter_mut().zip([0xeb, short.cast_unsigned()]) {
                            *to = from;
                        }
                    }
                }
            }
            if instruction.is_ip_rel_memory_operand() && offsets.has_displacement() {
                let (at, size) =
                    (start + offsets.displacement_offset(), offsets.displacement_size());
                let distance = sign_extended(original.get(at..at + size).unwrap_or_default());
                if !inside((next as u64).wrapping_add_signed(distance)) {
                    add_to(bytes, at, size, moved);
                }
            }
        }
    }
}
