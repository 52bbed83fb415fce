//! The page tables. Nothing is both writable and executable at the same address:
//!
//! | address | what | rights |
//! |---|---|---|
//! | as linked | each region of the image | `kernel.ld` |
//! | + [`DIRECT_MAP_OFFSET`] | the whole image again | read, write |
//! | + [`DIRECT_MAP_OFFSET`] | the page in which other CPUs start | read, write |
//! | [`LOCAL_APIC`] | the CPU's local APIC | read, write, uncached |
//!
//! All mappings are in pages of 4 KiB. All other addresses are unmapped. 4-level and PAE paging
//! have the same entries and differ in the number of levels and in the root (SDM vol. 3A sections
//! 4.4, "PAE Paging", and 4.5, "4-Level Paging").

use core::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{arch, cpu, image, smp};

pub use arch::DIRECT_MAP_OFFSET;

/// The address of the local APIC (SDM vol. 3A section 10.4.1, "The Local APIC Block Diagram").
pub const LOCAL_APIC: usize = 0xfee0_0000;

pub const PAGE_SIZE: usize = 4096;

// SDM vol. 3A table 4-20, "Format of a Page-Table Entry that Maps a 4-KByte Page".
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 3 | 1 << 4; // PWT, PCD
const NO_EXECUTE: u64 = 1 << 63;

/// The rights of the pages of a module, at their own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    None,
    ReadOnly,
    ReadWrite,
    ReadExecute,
}

impl Rights {
    const fn bits(self) -> u64 {
        match self {
            Self::None => 0,
            Self::ReadOnly => READ_ONLY,
            Self::ReadWrite => READ_WRITE,
            Self::ReadExecute => READ_EXECUTE,
        }
    }
}

const READ_ONLY: u64 = PRESENT | NO_EXECUTE;
const READ_WRITE: u64 = PRESENT | WRITE | NO_EXECUTE;
const READ_EXECUTE: u64 = PRESENT;

/// The bits of entries above the last level. They allow every access, so that the entry of the last
/// level decides (section 4.6, "Access Rights").
const TABLE: u64 = PRESENT | WRITE | USER;

const MSR_EFER: u32 = 0xc000_0080;
const EFER_NXE: u64 = 1 << 11;
const CR0_WP: usize = 1 << 16;
const CR0_PG: usize = 1 << 31;
const CR4_PAE: usize = 1 << 5;

const ENTRIES: usize = 512;

#[repr(C, align(4096))]
struct Table([u64; ENTRIES]);

/// The number of page tables: the root, and a table of each lower level for each of three regions
/// of the address space; and one more of the last level, which maps 2 MiB, for each of the two
/// mappings of the image. The root is the first.
const TABLES: usize = 1 + 3 * (arch::PAGE_LEVELS - 1) + 2;

/// The page tables. They are in the identity-mapped image, so their addresses are physical, too.
static mut PAGE_TABLES: [Table; TABLES] = [const { Table([0; ENTRIES]) }; TABLES];

/// Returns the address at which a byte of the image or of [`smp::TRAMPOLINE`] can be written.
pub fn alias(address: usize) -> *mut u8 {
    address.wrapping_add(DIRECT_MAP_OFFSET) as *mut u8
}

/// Fills the page tables.
///
/// # Safety
/// - called once, by one CPU, before any CPU uses them.
pub unsafe fn build() {
    let tables = &raw mut PAGE_TABLES;
    // SAFETY: no other reference to them is made, and no CPU uses them yet.
    let mut mapper = Mapper { tables: unsafe { &mut *tables }, used: 1 };

    mapper.map(image::text(), 0, READ_EXECUTE);
    mapper.map(image::user_text(), 0, READ_EXECUTE | USER);
    mapper.map(image::scratch(), 0, READ_EXECUTE);
    mapper.map(image::modules(), 0, Rights::None.bits());
    mapper.map(image::rodata(), 0, READ_ONLY);
    mapper.map(image::data(), 0, READ_WRITE);
    mapper.map(image::whole(), DIRECT_MAP_OFFSET, READ_WRITE);
    mapper.map(smp::TRAMPOLINE, DIRECT_MAP_OFFSET, READ_WRITE);
    mapper.map(LOCAL_APIC..LOCAL_APIC + PAGE_SIZE, 0, READ_WRITE | UNCACHED);
}

/// Makes this CPU use the page tables and obey them, in ring 0 too.
///
/// # Safety
/// - [`build`] was called;
/// - code, stack and everything in use lie in the image.
pub unsafe fn activate() {
    // SAFETY: every CPU model of QEMU that has PAE paging has EFER.
    let efer = unsafe {
        cpu::write_msr(MSR_EFER, cpu::read_msr(MSR_EFER) | EFER_NXE);
        cpu::read_msr(MSR_EFER)
    };
    // Some CPU models ignore the bit silently. On these, the first entry with NX would cause faults
    // without end.
    assert!(efer & EFER_NXE != 0, "this CPU has no NX");

    // SAFETY: the tables map the image where it was linked, and code, data and stack are in it. PAE
    // is set before PG, as SDM vol. 3A section 4.1.2, "Paging-Mode Enabling", requires.
    unsafe {
        cpu::write_cr4(cpu::read_cr4() | CR4_PAE);
        cpu::write_cr3((&raw const PAGE_TABLES).addr());
        cpu::write_cr0(cpu::read_cr0() | CR0_PG | CR0_WP);
    }
}

/// Gives rights to pages of the region for modules. A CPU may go on by rights that were taken away
/// until it has executed [`forget_translations`]. It may use new ones at once: it keeps nothing of
/// pages that it has no right to (SDM vol. 3A section 4.10.2.3, "Details of TLB Use").
///
/// # Safety
/// - no code, and no reference, needs a right of these pages that is taken away.
pub unsafe fn protect(pages: Range<usize>, rights: Rights) {
    let modules = image::modules();
    assert!(modules.start <= pages.start && pages.end <= modules.end, "{pages:#x?}");
    for page in pages.step_by(PAGE_SIZE) {
        last_entry(page).set(page as u64 | rights.bits());
    }
}

/// An entry of a page table that CPUs may read at any time. In two halves, the low one first: a CPU
/// of 32 bit need not be able to store 64 bits at once.
#[repr(transparent)]
struct Entry([AtomicU32; 2]);

impl Entry {
    fn get(&self) -> u64 {
        let [low, high] = &self.0;
        u64::from(high.load(Ordering::Relaxed)) << 32 | u64::from(low.load(Ordering::Relaxed))
    }

    /// Replaces the entry. While its halves do not belong together, the page is not present.
    fn set(&self, entry: u64) {
        let [low, high] = &self.0;
        low.store(0, Ordering::Release);
        high.store((entry >> 32) as u32, Ordering::Release);
        low.store(entry as u32, Ordering::Release);
    }
}

/// Returns the entry that maps the page at this address, which `build` has mapped.
fn last_entry(address: usize) -> &'static Entry {
    let mut table = (&raw const PAGE_TABLES).addr();
    for level in (0..arch::PAGE_LEVELS).rev() {
        let entry = (table as *const Entry).wrapping_add(index(address, level));
        // SAFETY: the root is there, and the entries of the others lead to tables that `build` has
        // filled. From then on they are changed by atomic stores only.
        let entry = unsafe { &*entry };
        if level == 0 {
            return entry;
        }
        table = entry.get() as usize & !(PAGE_SIZE - 1);
    }
    unreachable!("there is a last level")
}

/// Makes this CPU forget what it knows of the page tables (SDM vol. 3A section 4.10.4.1,
/// "Operations that Invalidate TLBs and Paging-Structure Caches"). No page is global.
pub fn forget_translations() {
    // SAFETY: the value is the one in use.
    unsafe { cpu::write_cr3(cpu::read_cr3()) };
}

struct Mapper<'a> {
    tables: &'a mut [Table; TABLES],
    used: usize,
}

impl Mapper<'_> {
    /// Maps each page of `physical` at its physical address + `offset`.
    fn map(&mut self, physical: Range<usize>, offset: usize, rights: u64) {
        for page in physical.step_by(PAGE_SIZE) {
            self.map_page(page.wrapping_add(offset), page, rights);
        }
    }

    fn map_page(&mut self, address: usize, physical: usize, rights: u64) {
        let mut table = 0;
        for level in (1..arch::PAGE_LEVELS).rev() {
            let entry = self.tables[table].0[index(address, level)];
            table = if entry & PRESENT == 0 {
                let new = self.used;
                self.used += 1;
                let kind = if table == 0 { arch::ROOT_ENTRY } else { TABLE };
                self.tables[table].0[index(address, level)] = self.physical(new) as u64 | kind;
                new
            } else {
                (entry as usize & !(PAGE_SIZE - 1)).wrapping_sub(self.physical(0)) / PAGE_SIZE
            };
        }
        self.tables[table].0[index(address, 0)] = physical as u64 | rights;
    }

    fn physical(&self, table: usize) -> usize {
        (&raw const self.tables[table]).addr()
    }
}

/// Returns the index of the entry for `address` in a table of this level. Tables of level 0 map
/// pages.
fn index(address: usize, level: usize) -> usize {
    (address >> (12 + 9 * level)) % ENTRIES
}
