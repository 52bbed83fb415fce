//! What a record says, in words.

use super::kernel::LinuxKernel;
use super::rules::{DIRECT_CALL, INVERTED, TAIL, feature_of};
use super::tables::{KernelTable, TableKind, TableRecord};
use crate::disassemble::{LONGEST_INSTRUCTION, branch_target, decoder};
use crate::insn::Width;

/// The flag beside the key of a static call in code that is freed after boot.
const INIT: u8 = 2;

impl LinuxKernel<'_> {
    /// Returns an address as a name, or as a number if there is no name before it.
    fn named(&self, address: u64) -> String {
        match self.names.place(address) {
            name if name.is_empty() => format!("{address:#x}"),
            name => name,
        }
    }

    /// Returns what decides the bytes of a record's site.
    pub(super) fn depends(&self, table: &KernelTable, record: &TableRecord) -> String {
        match table.kind {
            TableKind::Alternatives => {
                let (number, is_absent) = feature_of(record);
                let not = if is_absent { "!" } else { "" };
                let direct = if record.flags & DIRECT_CALL == 0 { "" } else { ", direct call" };
                format!("{not}{}{direct}", self.feature_names.words_for(number))
            }
            TableKind::Paravirt => match self.slot_of_record(record) {
                Some(slot) => self.named(slot),
                None => format!("type {}", record.number),
            },
            TableKind::JumpLabels => {
                let state = if record.key_flags & INVERTED == 0 { "on" } else { "off" };
                format!("{} {state}", self.named(record.key))
            }
            TableKind::StaticCalls => {
                let tail = if record.key_flags & TAIL == 0 { "" } else { ", tail" };
                let init = if record.key_flags & INIT == 0 { "" } else { ", init" };
                format!("{}{tail}{init}", self.named(record.key))
            }
            TableKind::SmpLocks => "number of CPUs".to_owned(),
            TableKind::Retpolines | TableKind::Returns | TableKind::Calls => {
                "mitigations".to_owned()
            }
            TableKind::Endbr => String::new(),
            TableKind::Cfi => "control-flow integrity".to_owned(),
            TableKind::Ftrace => "tracing".to_owned(),
            TableKind::RuntimePointers | TableKind::RuntimeShifts | TableKind::RuntimeMasks => {
                let prefixes = ["runtime_ptr_", "runtime_shift_", "runtime_mask_"];
                let name = prefixes.iter().find_map(|prefix| table.name.strip_prefix(prefix));
                name.unwrap_or(&table.name).to_owned()
            }
        }
    }

    /// Returns where a record leads: the target of a jump, the function of a call, the replacement.
    pub(super) fn leads_to(&self, table: &KernelTable, record: &TableRecord) -> String {
        match table.kind {
            TableKind::Alternatives if record.other_length == 0 => "no replacement".to_owned(),
            TableKind::Alternatives => {
                format!("replacement {:#x}, {} bytes", record.other, record.other_length)
            }
            TableKind::JumpLabels => self.named(record.other),
            TableKind::StaticCalls
            | TableKind::Retpolines
            | TableKind::Returns
            | TableKind::Calls
            | TableKind::Ftrace => {
                let code = self.code(record.site, LONGEST_INSTRUCTION);
                if code.is_empty() {
                    return String::new();
                }
                let instruction = decoder(self.image.width(), record.site, code).decode();
                branch_target(&instruction).map_or_else(String::new, |target| self.named(target))
            }
            _ => String::new(),
        }
    }

    /// Returns what decides the bytes of a site, by all its records.
    pub(super) fn depends_of(&self, tables: &[KernelTable]) -> String {
        let mut all: Vec<String> = Vec::new();
        for table in tables {
            all.extend(table.records.iter().map(|record| self.depends(table, record)));
        }
        all.retain(|words| !words.is_empty());
        all.dedup();
        all.join("; ")
    }

    /// Returns the slot of `pv_ops` that the file's instruction at a site calls or jumps through.
    pub(super) fn slot_of(&self, site: u64) -> Option<u64> {
        let code = self.code(site, 7);
        let is_64_bit = self.image.width() == Width::Bits64;
        let (at, field) = match *code {
            [0xff, 0x15 | 0x25, a, b, c, d, ..] => (6, [a, b, c, d]),
            // An address of 32 bit that is extended by its sign (Intel SDM vol. 2A, "64-Bit Mode
            // SIB Byte").
            [0xff, 0x14 | 0x24, 0x25, a, b, c, d] if is_64_bit => {
                let address = i32::from_le_bytes([a, b, c, d]);
                return Some(i64::from(address).cast_unsigned());
            }
            _ => return None,
        };
        let field = u32::from_le_bytes(field);
        Some(match self.image.width() {
            Width::Bits64 => self.image.relative(site.wrapping_add(at), field),
            Width::Bits32 => u64::from(field),
        })
    }

    /// Returns the slot of `pv_ops` that a record of a paravirt call is for: the one in the
    /// instruction, else the one that its type counts.
    pub(super) fn slot_of_record(&self, record: &TableRecord) -> Option<u64> {
        let by_type = || {
            let slots = self.names.address("pv_ops")?;
            slots.checked_add(u64::from(record.number) * self.image.width().pointer_size())
        };
        self.slot_of(record.site).or_else(by_type)
    }
}
