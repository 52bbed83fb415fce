//! Sites: the record that assembly writes beside each one, the macro that emits
//! a site from Rust, and the table of all records. Never chooses a replacement.
//!
//! Unsafe code here makes a slice of what lies between the two bounds that the
//! linker gives to the section `patchlet_sites`. The layout of a record is
//! asserted below; whether its values make sense is checked record by record, in
//! `src/text/checked_site.rs` and by the front end.
#![allow(unsafe_code)]

use core::fmt;
#[cfg(patchlet_assembled)]
use core::hint::black_box;
use core::mem::{align_of, offset_of, size_of};
use core::slice;

use crate::insn::Kind;

/// One record, as assembly writes it and as it stays: read-only, and without an
/// absolute address, so that a static PIE takes it as well.
#[repr(C)]
pub struct Record {
    /// Address of the site, relative to the address of this field.
    site: i32,
    /// Address of the subject, which is the slot of the op, relative to the address of this
    /// field.
    subject: i32,
    /// Number of the subject, which is the index of the op in its table (16 bits), bytes the site
    /// has room for (8) and [`Kind`] as a number (8): one number, to compare records by.
    shape: u32,
}

// The layout is written twice more: in `site_asm!` below and in asm/site.h.
// A record without repr(C) once worked until the compiler reordered it.
const _: () = {
    assert!(size_of::<Record>() == 12 && align_of::<Record>() == 4);
    assert!(offset_of!(Record, site) == 0 && offset_of!(Record, subject) == 4);
    assert!(offset_of!(Record, shape) == 8 && cfg!(target_endian = "little"));
};

impl Record {
    /// Size of a record, in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Returns the address of the first byte of the site.
    #[must_use]
    pub fn site(&self) -> usize {
        (&raw const self.site).addr().wrapping_add_signed(self.site as isize)
    }

    /// Returns the address of the subject: the slot that the unpatched site goes through.
    #[must_use]
    pub fn subject(&self) -> usize {
        (&raw const self.subject).addr().wrapping_add_signed(self.subject as isize)
    }

    /// Returns the number of the subject, as written: the index of the op in its table.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.shape as u16
    }

    /// Returns the capacity in bytes, as written.
    #[must_use]
    pub const fn capacity(&self) -> u8 {
        (self.shape >> 16) as u8
    }

    /// Returns the address behind the site.
    pub(crate) fn end(&self) -> usize {
        self.site().wrapping_add(usize::from(self.capacity()))
    }

    /// Returns number, capacity and kind in one, to compare records by.
    #[inline(always)]
    pub(crate) const fn shape(&self) -> u32 {
        self.shape
    }

    /// Returns the kind as a number, as written.
    pub(crate) const fn kind_number(&self) -> u8 {
        (self.shape >> 24) as u8
    }

    /// Returns whether the site is a call or a jump.
    ///
    /// # Errors
    /// The number that is no kind.
    pub const fn kind(&self) -> Result<Kind, u8> {
        match self.kind_number() {
            0 => Ok(Kind::Call),
            1 => Ok(Kind::Jump),
            other => Err(other),
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("site", &format_args!("{:#x}", self.site()))
            .field("subject", &format_args!("{:#x}", self.subject()))
            .field("number", &self.number())
            .field("capacity", &self.capacity())
            .field("kind", &self.kind())
            .finish()
    }
}

/// A table of records: that of the linked binary, or another, of a loaded module or
/// of a test.
#[derive(Clone, Copy, Debug)]
pub struct Sites<'a> {
    records: &'a [Record],
    /// In bytes; more than the records have only if something is wrong.
    size: usize,
}

impl<'a> Sites<'a> {
    /// Every site of the program: what the linker collected from all crates and
    /// `.S` files into the section `patchlet_sites`.
    #[cfg(patchlet_assembled)]
    #[must_use]
    #[inline(never)]
    pub fn linked() -> Sites<'static> {
        unsafe extern "C" {
            static __start_patchlet_sites: [u8; 0];
            static __stop_patchlet_sites: [u8; 0];
        }
        // The labels are zero-sized, so a pointer to one may not reach the bytes
        // behind it; the address may.
        // One relocation for each bound in the whole program, hence no inlining and
        // `black_box`: `-z start-stop-gc` of GNU ld leaves out the first reference to
        // such a symbol only, and by a second one it keeps the function of some site.
        let start = black_box(&raw const __start_patchlet_sites).expose_provenance();
        let stop = black_box(&raw const __stop_patchlet_sites).addr();
        let len = stop.wrapping_sub(start);
        // SAFETY: the two symbols are the bounds of one output section (made by
        // the linker itself or by patchlet.ld), which is read-only and mapped
        // for as long as the program runs. Every piece of it is aligned to 4.
        unsafe { Sites::between(core::ptr::with_exposed_provenance(start), len) }
    }

    /// The table that lies in `len` bytes from `start`.
    ///
    /// # Safety
    /// - `start` is aligned to 4 and `len` bytes there are readable for `'a`;
    /// - nothing writes to them during `'a`.
    #[must_use]
    pub const unsafe fn between(start: *const u8, len: usize) -> Self {
        // SAFETY: aligned and readable by the contract above; a record is plain
        // integers, so any bytes are one.
        let records = unsafe { slice::from_raw_parts(start.cast(), len / Record::SIZE) };
        Self { records, size: len }
    }

    /// The whole records, in the order of the table.
    #[must_use]
    pub const fn records(&self) -> &'a [Record] {
        self.records
    }

    /// The record of the site whose first byte is at this address. Quick if the
    /// linker sorted the records by their sites, as linkers do; right in any case. For
    /// an address that is none it looks at every record.
    #[must_use]
    pub fn find(&self, address: usize) -> Option<&'a Record> {
        let sorted = self.records.binary_search_by_key(&address, Record::site);
        match sorted {
            Ok(index) => self.records.get(index),
            Err(_) => self.records.iter().find(|record| record.site() == address),
        }
    }

    /// Whether the last record is whole.
    pub(crate) const fn is_whole(&self) -> bool {
        self.records.len() * Record::SIZE == self.size
    }

    /// The size of the table, in bytes; a multiple of [`Record::SIZE`] if it is
    /// whole.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

/// The operand that names a slot; an implementation detail of `site_asm!`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __slot_operand {
    () => {
        "{patchlet_slots}+{patchlet_offset}(%rip)"
    };
}

/// The operand that names a slot; an implementation detail of `site_asm!`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __slot_operand {
    () => {
        "{patchlet_slots}+{patchlet_offset}"
    };
}

/// Emits one site: an `asm!` whose text is the indirect call or jump and its
/// record, and whose operands are those given (AT&T syntax, if they name any
/// register in text).
///
/// [`ops!`](crate::ops!) writes one of these for each op. Use it by hand for an
/// op whose arguments do not fit the signatures that `ops!` knows.
///
/// # Safety
/// - `slots` is the path of the `SLOTS` of an ops table (not of its `TABLE`), and
///   `index` the op's `Id` as a `usize`;
/// - the operands tell the compiler everything that the op's ABI allows any of
///   its replacements to read and change, now and later.
#[macro_export]
macro_rules! site_asm {
    (call, $slots:path, $index:expr, capacity = $capacity:expr $(, $($operand:tt)*)?) => {
        $crate::site_asm!(@ "call", 0, $slots, $index, $capacity, $($($operand)*)?)
    };
    (jmp, $slots:path, $index:expr, capacity = $capacity:expr $(, $($operand:tt)*)?) => {
        $crate::site_asm!(@ "jmp", 1, $slots, $index, $capacity, $($($operand)*)?)
    };
    (@ $opcode:literal, $kind:literal, $slots:path, $index:expr, $capacity:expr, $($operand:tt)*) => {
        ::core::arch::asm!(
            // A record is tied to the section of its site by SHF_LINK_ORDER, so
            // that it goes when the function goes and every inlined copy has its
            // own. Hidden: in a shared object the slots are reached at a fixed distance,
            // which they have only if no other object can replace them, and each object
            // has a table of sites of its own. The relocation, which relocates nothing, ties them the other way
            // round: `ld -r` makes one section of all records, tied to the section of
            // any one site, and without the relocation all would go with that one.
            // The flag wants the name of a symbol, a new one each time the
            // compiler emits this text; \@ starts anew in each `asm!`, so count,
            // and let .altmacro turn the count into a name.
            ".ifndef .Lpatchlet_count",
            ".set .Lpatchlet_count, 0",
            ".endif",
            ".set .Lpatchlet_count, .Lpatchlet_count + 1",
            ".hidden {patchlet_slots}, __start_patchlet_sites, __stop_patchlet_sites",
            ".macro patchlet_site number",
            ".Lpatchlet_site_\\number:",
            ::core::concat!($opcode, " *", $crate::__slot_operand!()),
            ".skip {patchlet_capacity} - 6, 0x90",
            ".reloc .Lpatchlet_site_\\number, BFD_RELOC_NONE, .Lpatchlet_record_\\number",
            ".pushsection patchlet_sites, \"ao\", @progbits, .Lpatchlet_site_\\number",
            ".balign 4",
            ".Lpatchlet_record_\\number:",
            ".long .Lpatchlet_site_\\number - .",
            ".long {patchlet_slots}+{patchlet_offset} - .",
            ".short {patchlet_index}",
            ::core::concat!(".byte {patchlet_capacity}, ", $kind),
            ".popsection",
            ".endm",
            ".altmacro",
            "patchlet_site %.Lpatchlet_count",
            ".noaltmacro",
            ".purgem patchlet_site",
            patchlet_slots = sym $slots,
            patchlet_index = const $index,
            patchlet_offset = const $index * ::core::mem::size_of::<usize>(),
            patchlet_capacity = const {
                const CAPACITY: usize = $capacity;
                assert!(CAPACITY >= 6 && CAPACITY <= 32, "a patch site has 6 to 32 bytes");
                CAPACITY
            },
            $($operand)*
            options(att_syntax),
        )
    };
}
