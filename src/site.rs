//! Sites: the record that assembly writes beside each one, the macro that emits
//! a site from Rust, and the table of all records. Never chooses a replacement.
//!
//! Unsafe code here makes a table of the bytes between the two symbols with which the
//! linker bounds the section `patchlet_sites`, and goes from record to record in it. The layout of
//! a record is asserted below, and it consists of integers, so that any bytes are a valid record.
//! The values in it are checked record by record, in
//! `src/text/checked_site.rs` and by the front end.
#![allow(unsafe_code)]

use core::fmt;
#[cfg(patchlet_assembled)]
use core::hint::black_box;
use core::marker::PhantomData;
use core::mem::{align_of, offset_of, size_of};
use core::slice;

use crate::insn::Kind;

/// The record of one site. Assembly writes it and nothing changes it later. Its
/// addresses are relative, because an absolute one would need a relocation at load
/// time in a position-independent program, and the section is read-only.
#[repr(C)]
pub struct Record {
    /// Address of the site, relative to the address of this field.
    site: i32,
    /// Address of the subject, which is the slot of the op, relative to the address of this
    /// field.
    subject: i32,
    /// Three values in one word, so that two records are compared by one comparison: bits
    /// 0 to 15 are the number of the subject (the index of the op in its table), bits 16 to 23
    /// the capacity of the site in bytes, bits 24 to 31 its [`Kind`] (0 is a call, 1 a jump).
    shape: u32,
}

// The layout is written twice more: in `site_asm!` below and in asm/site.h.
// `repr(C)` is necessary: without it the compiler may reorder the fields, and once did.
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

    /// Returns the number of the subject as the record has it, unchecked: the index of the
    /// op in its table.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.shape as u16
    }

    /// Returns the capacity in bytes as the record has it, unchecked; 6 to 32 in a valid
    /// record.
    #[must_use]
    pub const fn capacity(&self) -> u8 {
        (self.shape >> 16) as u8
    }

    /// Returns the address of the first byte behind the site.
    pub(crate) fn end(&self) -> usize {
        self.site().wrapping_add(usize::from(self.capacity()))
    }

    /// Returns number, capacity and kind as one word, by which two records can be compared.
    #[inline(always)]
    pub(crate) const fn shape(&self) -> u32 {
        self.shape
    }

    /// Returns whether this record and another one say the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.site() == other.site()
            && self.subject() == other.subject()
            && self.shape == other.shape
    }

    /// Returns the number of the kind as the record has it, unchecked.
    pub(crate) const fn kind_number(&self) -> u8 {
        (self.shape >> 24) as u8
    }

    /// Returns whether the site is a call or a jump.
    ///
    /// # Errors
    /// Returns the number in the record if it stands for no kind.
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

/// A table of records: the table of the linked binary, of a loaded module or of a test.
///
/// The records of a table have one size: 12 bytes, or 16 where each has a [`target`](Self::target)
/// behind it.
#[derive(Clone, Copy)]
pub struct Sites<'a> {
    bytes: &'a [u8],
    /// The number of complete records.
    len: usize,
    /// The number of bytes from one record to the next.
    stride: usize,
}

/// The size of a record with a target, in bytes.
const WITH_TARGET: usize = Record::SIZE + size_of::<i32>();

impl<'a> Sites<'a> {
    /// Returns the table of every site of an op in the program: the records that the linker
    /// collected from all crates and `.S` files into the section `patchlet_sites`.
    #[cfg(patchlet_assembled)]
    #[must_use]
    #[inline(never)]
    pub fn linked() -> Sites<'static> {
        unsafe extern "C" {
            static __start_patchlet_sites: [u8; 0];
            static __stop_patchlet_sites: [u8; 0];
        }
        // The symbols are zero-sized, so a pointer to one has provenance over no byte.
        // Exposing the provenance and making the pointer anew from the address gives
        // a pointer that may read the table.
        //
        // The whole program must have one relocation for each symbol: with
        // `-z start-stop-gc`, GNU ld ignores the first reference to a `__start_` or
        // `__stop_` symbol, but a second reference keeps the section, and with it the
        // function of some site that nobody calls. Hence `inline(never)`, and `black_box`
        // so that the compiler does not load an address twice.
        let start = black_box(&raw const __start_patchlet_sites).expose_provenance();
        let stop = black_box(&raw const __stop_patchlet_sites).addr();
        let len = stop.wrapping_sub(start);
        // SAFETY: the linker itself or patchlet.ld defines the two symbols as the bounds of
        // one output section. That section is read-only and mapped for as long as
        // the program runs, and each input section is aligned to 4 (`.balign 4` below).
        unsafe { Sites::between(core::ptr::with_exposed_provenance(start), len) }
    }

    /// Returns the table in the `len` bytes from `start`, whose records have no targets.
    ///
    /// # Safety
    /// - `start` is aligned to 4 and not null, and `len` bytes from it are readable for `'a`;
    /// - nothing writes to these bytes during `'a`.
    #[must_use]
    pub const unsafe fn between(start: *const u8, len: usize) -> Self {
        // SAFETY: the caller says of these bytes what `of_stride` asks; a record has 12 of them.
        unsafe { Self::of_stride(start, len, Record::SIZE) }
    }

    /// Returns the table in the `len` bytes from `start`, whose records have targets: 16 bytes
    /// each, the last four of them the address of the target, relative to these four.
    ///
    /// # Safety
    /// - as for [`between`](Self::between).
    #[must_use]
    pub const unsafe fn with_targets_between(start: *const u8, len: usize) -> Self {
        // SAFETY: the caller says of these bytes what `of_stride` asks; a record has 16 of them.
        unsafe { Self::of_stride(start, len, WITH_TARGET) }
    }

    /// Returns the table in the `len` bytes from `start`, with so many bytes from one record to the
    /// next.
    ///
    /// # Safety
    /// - as for [`between`](Self::between).
    const unsafe fn of_stride(start: *const u8, len: usize, stride: usize) -> Self {
        // SAFETY: the caller answers for length and lifetime.
        let bytes = unsafe { slice::from_raw_parts(start, len) };
        Self { bytes, len: len / stride, stride }
    }

    /// Returns the complete records, in the order of the table.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        Records {
            next: self.bytes.as_ptr().cast(),
            len: self.len,
            stride: self.stride,
            table: PhantomData,
        }
    }

    /// Returns the table of the records at these positions, which count from 0; without those that
    /// this table does not have.
    #[must_use]
    pub fn part(&self, positions: core::ops::Range<usize>) -> Self {
        let end = positions.end.min(self.len);
        let start = positions.start.min(end);
        let bytes = self.bytes.get(start * self.stride..end * self.stride).unwrap_or_default();
        Self { bytes, len: end - start, stride: self.stride }
    }

    /// Returns the position of a record of this table, from 0; of a record that is not of this
    /// table, a number of no meaning.
    pub(crate) fn position(&self, record: &Record) -> usize {
        self.offset_of(record).checked_div(self.stride).unwrap_or(0)
    }

    /// Returns the offset of a record from the first one, in bytes.
    fn offset_of(&self, record: &Record) -> usize {
        core::ptr::from_ref(record).addr().wrapping_sub(self.bytes.as_ptr().addr())
    }

    /// Returns the address of the target of a record of this table: for a branch, where it jumps.
    /// `None` if the records have no targets, or if the record is not of this table.
    #[must_use]
    pub fn target(&self, record: &Record) -> Option<usize> {
        let offset = self.offset_of(record);
        let is_of_table = offset.is_multiple_of(WITH_TARGET) && offset / WITH_TARGET < self.len;
        if !self.has_targets() || !is_of_table {
            return None;
        }
        let field: &[u8; size_of::<i32>()] =
            self.bytes.get(offset + Record::SIZE..)?.first_chunk()?;
        let distance = i32::from_le_bytes(*field);
        Some(field.as_ptr().addr().wrapping_add_signed(distance as isize))
    }

    /// Returns whether each record of this table has a target.
    pub(crate) const fn has_targets(&self) -> bool {
        self.stride == WITH_TARGET
    }

    /// Returns the record of the site whose first byte is at `address`, or `None` if no
    /// site starts there.
    ///
    /// Takes a binary search if the records are sorted by their sites, as linkers leave
    /// them (`SHF_LINK_ORDER`). If the search fails, every record is compared, so that the
    /// answer does not depend on the order.
    #[must_use]
    pub fn find(&self, address: usize) -> Option<&'a Record> {
        self.find_in_order(address).or_else(|| self.find_anywhere(address))
    }

    /// Returns the record of the site at `address` if it is found by a binary search. In a table
    /// that is sorted it is, if there is one.
    pub(crate) fn find_in_order(&self, address: usize) -> Option<&'a Record> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = self.records().nth(middle)?;
            match record.site().cmp(&address) {
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Equal => return Some(record),
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Returns the record of the site at `address`, after comparing every record.
    #[cold]
    pub(crate) fn find_anywhere(&self, address: usize) -> Option<&'a Record> {
        self.records().find(|record| record.site() == address)
    }

    /// Returns whether the records are sorted by their sites.
    pub(crate) fn is_sorted(&self) -> bool {
        self.records().is_sorted_by_key(Record::site)
    }

    /// Returns whether the table ends with a complete record.
    pub(crate) const fn is_whole(&self) -> bool {
        self.len * self.stride == self.bytes.len()
    }

    /// Returns the size of a record of this table, in bytes.
    pub(crate) const fn record_size(&self) -> usize {
        self.stride
    }

    /// Returns the size of the table in bytes. It is a multiple of the size of a record unless
    /// the table ends in the middle of one.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Sites<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.records()).finish()
    }
}

/// The records of a table, in its order: what [`Sites::records`] returns.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    /// The next one, if there is one.
    next: *const Record,
    /// The number of those that are left.
    len: usize,
    /// The number of bytes from one to the next.
    stride: usize,
    table: PhantomData<&'a [Record]>,
}

impl<'a> Records<'a> {
    /// Returns the record `ahead` places behind the next one, if there is one.
    #[inline(always)]
    pub(crate) fn peek(&self, ahead: usize) -> Option<&'a Record> {
        if ahead >= self.len {
            return None;
        }
        let record = self.next.wrapping_byte_add(ahead * self.stride);
        // SAFETY: there are more than `ahead` records from the next one on, all of this stride; and
        // no record is at null, which the compiler need not check again.
        unsafe {
            core::hint::assert_unchecked(!record.is_null());
            Some(&*record)
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a Record;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a Record> {
        let record = self.peek(0)?;
        self.next = self.next.wrapping_byte_add(self.stride);
        self.len -= 1;
        Some(record)
    }

    fn nth(&mut self, n: usize) -> Option<&'a Record> {
        let n = n.min(self.len);
        self.next = self.next.wrapping_byte_add(n * self.stride);
        self.len -= n;
        self.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// Expands to the operand that names a slot, relative to RIP. Part of `site_asm!`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __slot_operand {
    () => {
        "{patchlet_slots}+{patchlet_offset}(%rip)"
    };
}

/// Expands to the operand that names a slot, an absolute address. Part of `site_asm!`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86")]
macro_rules! __slot_operand {
    () => {
        "{patchlet_slots}+{patchlet_offset}"
    };
}

/// Emits one site: an `asm!` block that holds the indirect call or jump and its record.
///
/// [`ops!`](crate::ops!) writes one site into the function of each op. Write a site by
/// hand where an op is to have another capacity, or operands that no signature has.
///
/// - `call` or `jmp`: the instruction of the site.
/// - `slots`: the path of the `SLOTS` of an ops table.
/// - `index`: the op's `Id` as a `usize`, a constant.
/// - `capacity`: the size of the site in bytes, a constant from 6 to 32. Bytes behind the
///   instruction, which has 6, are NOPs.
/// - The rest are operands as for [`asm!`](core::arch::asm). The block is in AT&T syntax.
///
/// # Safety
/// - `slots` is the path of the `SLOTS` of an ops table (not of its `TABLE`), and
///   `index` the op's `Id` as a `usize`;
/// - the operands tell the compiler everything that the op's ABI class allows any of
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
            // The record's section has SHF_LINK_ORDER (flag "o") to the section of its site:
            // the linker drops the record together with a function that it drops. Every
            // inlined copy of a site has a record of its own.
            //
            // `.reloc` with BFD_RELOC_NONE changes no byte. It makes the site's section refer
            // to the record's. `ld -r` merges the records of all sites into one section that
            // is tied to the section of some one site; without this reference, all records
            // would be dropped with that site.
            //
            // The symbols are hidden for shared objects: the site reaches the slots at a
            // distance that is fixed at link time, so no other object may preempt them, and
            // each object has a site table of its own.
            //
            // Flag "o" takes the name of a symbol, which must be new each time the compiler
            // emits this text. The assembler's counter `\@` starts anew in each `asm!` block,
            // so the text counts in .Lpatchlet_count, and .altmacro lets `%` turn the count
            // into a part of a name.
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
