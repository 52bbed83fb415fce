//! Page tables in a dump: where a virtual address lies in physical memory, and whether a CPU may
//! execute it (Intel SDM vol. 3A, "Paging").

use std::collections::HashSet;

use super::memory::{ControlRegisters, Memory};
use crate::insn::Width;
use crate::inspect::elf::little_endian;

/// The page tables of one address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageTables {
    root: u64,
    form: PagingForm,
}

/// A form of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PagingForm {
    /// 32-bit: two levels of 1024 entries of 4 bytes, without a bit that forbids execution.
    TwoLevels,
    /// PAE: 4 entries, then two levels of 512 entries of 8 bytes.
    Pae,
    /// 4-level and 5-level paging: levels of 512 entries of 8 bytes.
    Long { levels: u32 },
}

impl PagingForm {
    /// Returns the number of levels, how many bits of an address each uses, and the size of an
    /// entry in bytes.
    const fn shape(self) -> (u32, u32, u64) {
        match self {
            Self::TwoLevels => (2, 10, 4),
            Self::Pae => (3, 9, 8),
            Self::Long { levels } => (levels, 9, 8),
        }
    }
}

/// The place of a virtual address in physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The physical address.
    pub physical: u64,
    /// Whether a CPU may execute it. The page tables can forbid it; that EFER.NXE is set is taken
    /// for granted.
    pub executable: bool,
}

/// CR4.PAE and CR4.LA57 (Intel SDM vol. 3A, "Control Registers").
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;

impl PageTables {
    /// Returns the page tables that the registers of a CPU name.
    pub(crate) fn new(width: Width, registers: ControlRegisters) -> Self {
        let ControlRegisters { cr3, cr4 } = registers;
        let form = match width {
            Width::Bits64 => PagingForm::Long { levels: if cr4 & LA57 == 0 { 4 } else { 5 } },
            Width::Bits32 if cr4 & PAE == 0 => PagingForm::TwoLevels,
            Width::Bits32 => PagingForm::Pae,
        };
        let low = if form == PagingForm::Pae { 0x1f } else { 0xfff };
        Self { root: cr3 & 0x000f_ffff_ffff_ffff & !low, form }
    }

    /// Returns the tables a page below. A kernel that isolates its page tables has a second root
    /// with little of the kernel in it directly above the first, and a dump can show a CPU that
    /// uses the second.
    pub(crate) const fn sibling(self) -> Self {
        Self { root: self.root & !0x1000, form: self.form }
    }

    /// Returns whether an entry of these tables can forbid execution.
    pub(crate) fn can_forbid(self) -> bool {
        self.form != PagingForm::TwoLevels
    }

    /// Returns where a virtual address lies, or `None` if it is not mapped or a table is not in
    /// the dump.
    pub(crate) fn page(self, memory: &Memory<'_>, address: u64) -> Option<Page> {
        let (levels, index_bits, entry_size) = self.form.shape();
        let mut table = self.root;
        let mut executable = true;
        for level in (0..levels).rev() {
            let shift = 12 + level * index_bits;
            let index = (address >> shift) & ((1 << index_bits) - 1);
            let entry = table.checked_add(index * entry_size)?;
            let entry = little_endian(memory.physical(entry, usize::try_from(entry_size).ok()?)?);
            if entry & 1 == 0 {
                return None;
            }
            if entry_size == 8 && entry >> 63 == 1 {
                executable = false;
            }
            let frame = entry & 0x000f_ffff_ffff_f000;
            // Bit 7 of an entry of a level in between is PS: it maps a large page.
            let large = level > 0 && entry & 0x80 != 0 && level < 3;
            if level == 0 || large {
                let offset = address & ((1 << shift) - 1);
                return Some(Page { physical: (frame & !((1 << shift) - 1)) | offset, executable });
            }
            table = frame;
        }
        None
    }

    /// Returns the ranges of virtual addresses that the kernel can execute and programs cannot use:
    /// the first address of each, and its size. Each table is read once for each level at which it
    /// is used: kernels map their tables into themselves, and the time is limited by the size of
    /// the dump.
    pub(crate) fn executable(self, memory: &Memory<'_>) -> Vec<(u64, u64)> {
        let (levels, ..) = self.form.shape();
        let root = PagingTable {
            address: self.root,
            level: levels.saturating_sub(1),
            start: 0,
            user: true,
        };
        let mut walk = Walk { form: self.form, seen: HashSet::new(), ranges: vec![] };
        // Tables that wait. An own list, so that a damaged dump cannot make the stack deep.
        let mut tables = vec![root];
        while walk.ranges.len() < MOST_RANGES
            && let Some(table) = tables.pop()
        {
            walk.table(memory, table, &mut tables);
        }
        walk.ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = vec![];
        for (start, size) in walk.ranges {
            match merged.last_mut() {
                Some((first, len)) if first.checked_add(*len) == Some(start) => {
                    *len = len.saturating_add(size);
                }
                _ => merged.push((start, size)),
            }
        }
        merged
    }
}

/// The most ranges that are kept, so that a damaged dump cannot ask for much memory.
const MOST_RANGES: usize = 1 << 20;

/// A table of some level, and the first virtual address that it maps.
#[derive(Clone, Copy, Debug)]
struct PagingTable {
    address: u64,
    level: u32,
    start: u64,
    /// Whether programs may use what it maps, as far as the levels above say.
    user: bool,
}

/// A walk through all tables.
struct Walk {
    form: PagingForm,
    /// The tables that were read, each with its level.
    seen: HashSet<(u64, u32)>,
    ranges: Vec<(u64, u64)>,
}

impl Walk {
    /// Reads one table, and adds those below it to `tables`.
    fn table(&mut self, memory: &Memory<'_>, table: PagingTable, tables: &mut Vec<PagingTable>) {
        let (levels, index_bits, entry_size) = self.form.shape();
        let is_root = table.level + 1 == levels;
        let count: u64 = match self.form {
            // The root of PAE has four entries.
            PagingForm::Pae if is_root => 4,
            _ => 1 << index_bits,
        };
        let bytes = usize::try_from(count * entry_size).unwrap_or(0);
        if !self.seen.insert((table.address, table.level)) {
            return;
        }
        let Some(bytes) = memory.physical(table.address, bytes) else { return };
        let shift = 12 + table.level * index_bits;
        for (index, entry) in (0_u64..).zip(bytes.chunks_exact(entry_size as usize)) {
            let entry = little_endian(entry);
            let forbidden = entry_size == 8 && entry >> 63 == 1;
            if entry & 1 == 0 || forbidden {
                continue;
            }
            let mut start = table.start | (index << shift);
            if matches!(self.form, PagingForm::Long { .. }) && is_root && index >= count / 2 {
                // The upper half: the highest bit is repeated in all above it.
                start |= u64::MAX << (shift + index_bits);
            }
            // The root of PAE has no bit for programs.
            let has_user_bit = !(self.form == PagingForm::Pae && is_root);
            let user = table.user && (!has_user_bit || entry & 4 != 0);
            let is_large = table.level > 0 && entry & 0x80 != 0 && table.level < 3;
            if table.level == 0 || is_large {
                if !user {
                    self.ranges.push((start, 1 << shift));
                }
                continue;
            }
            let frame = entry & 0x000f_ffff_ffff_f000;
            tables.push(PagingTable { address: frame, level: table.level - 1, start, user });
        }
    }
}
