//! Page tables in a dump: where a virtual address lies in physical memory, and whether a CPU may
//! execute it (Intel SDM vol. 3A, "Paging").

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
        let (levels, index_bits, entry_size) = match self.form {
            PagingForm::TwoLevels => (2, 10, 4),
            PagingForm::Pae => (3, 9, 8),
            PagingForm::Long { levels } => (levels, 9, 8),
        };
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
}
