//! Synthetic text: sites that are scattered as in a kernel, over memory that is mapped twice, with
//! a table of their records and an ops table.
//!
//! A record reaches its site by a relative 32-bit offset, and so does a site its slot and its
//! target. So all of text must be within 2 GiB of the records and slots. These are in the middle of
//! text, which can therefore be 4 GiB long.

use std::hint::black_box;
use std::ops::Range;
use std::ptr;

use patchlet::ops::__private::Slot;
use patchlet::ops::{Abi, Op, OpSource, OpState, Table, Target};
use patchlet::text::Part;
use patchlet::{
    InsnBuffer, Kind, Nops, Patcher, Patchlet, SecondMapping, Serializer, SiteSet, Sites, Width,
};

const PAGE: usize = 4096;
/// The size of a large page, in bytes. Kernels map their text by such pages.
const LARGE_PAGE: usize = 2 << 20;

/// Patchlets with the lengths of those in the native set. An empty one stands for an op without a
/// patchlet, which is called directly.
const PATCHLETS: [&[u8]; 12] = [
    &[0xfa],
    &[0xfb],
    &[0x9c, 0x58],
    &[0x57, 0x9d],
    &[0x0f, 0x20, 0xd0],
    &[0x0f, 0x20, 0xd8],
    &[0x0f, 0x22, 0xdf],
    &[0x48, 0x89, 0xf8],
    &[0xc6, 0x07, 0x00],
    &[0x31, 0xc0],
    &[],
    &[],
];

/// The op whose slot holds the no-op function.
const NO_OP: usize = 11;
/// Of so many sites, one is a jump.
const JUMPS: u64 = 64;

pub struct Text {
    pub count: usize,
    pub spacing: Range<usize>,
    /// The address range of text, with the records and slots in the middle of it.
    pub range: Range<usize>,
    /// The distance from an address of text to its alias.
    pub offset: usize,
    half: usize,
    records: *const u8,
    pub table: &'static Table,
    file: i32,
}

/// A generator of pseudo-random numbers, the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}

fn map(at: usize, len: usize, access: i32, flags: i32, file: i32) -> *mut u8 {
    // SAFETY: the call maps new memory or, with MAP_FIXED, replaces memory that this module has
    // mapped and not yet used.
    let got = unsafe {
        libc::mmap(ptr::without_provenance_mut(at), len, access, flags, file, 0).cast::<u8>()
    };
    assert_ne!(got.cast(), libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    let _ = got.expose_provenance();
    got
}

/// Reserves addresses for `len` bytes. Returns the first, on the boundary of a large page.
fn room(len: usize) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    map(0, len + LARGE_PAGE, libc::PROT_NONE, flags, -1).addr().next_multiple_of(LARGE_PAGE)
}

/// The order of the records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Sorted by the addresses of their sites, as linkers sort them.
    Sorted,
    /// In random order.
    Shuffled,
}

impl Text {
    /// Makes text with `count` sites, one per `spacing` bytes.
    pub fn new(count: usize, spacing: Range<usize>, order: Order) -> Self {
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        // The sum of random spacings exceeds its mean by at most six standard deviations.
        let more = (spacing.end as f64 * 3.0 * (count as f64).sqrt()) as usize;
        let half = (count.div_ceil(2) * (spacing.start + spacing.end) / 2 + more)
            .next_multiple_of(LARGE_PAGE);
        // In the middle are a page of slots and, behind it, the records.
        let middle = (PAGE + count * 12).next_multiple_of(LARGE_PAGE);
        let len = 2 * half + middle;
        // SAFETY: the call makes a new file and accesses no memory of this program but its name.
        let file = unsafe {
            let file = libc::memfd_create(c"synthetic text".as_ptr(), libc::MFD_CLOEXEC);
            assert!(file >= 0 && libc::ftruncate(file, len as libc::off_t) == 0);
            file
        };
        let shared = libc::MAP_SHARED | libc::MAP_FIXED;
        let base = room(len);
        map(base, len, libc::PROT_READ | libc::PROT_EXEC, shared, file);
        let alias = map(room(len), len, rw, shared, file);
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let slots = map(base + half, middle, rw, private, -1);
        let records = slots.wrapping_add(PAGE);
        let table = table(slots.cast(), slots.addr());
        let mut text = Self {
            count,
            spacing,
            range: base..base + len,
            offset: alias.addr().wrapping_sub(base),
            half,
            records,
            table,
            file,
        };
        text.scatter(half, middle, slots.addr(), records, order);
        text
    }

    /// Maps both views by large pages. Returns whether the system could do so for all of them.
    pub fn use_large_pages(&self) -> bool {
        /// The advice of Linux 6.1 and later to map by large pages at once, and not when
        /// `khugepaged` gets there.
        const MADV_COLLAPSE: i32 = 25;
        let views = [self.range.start, self.range.start.wrapping_add(self.offset)];
        views.map(|start| {
            let halves = [
                start..start + self.half,
                start + self.range.len() - self.half..start + self.range.len(),
            ];
            halves.map(|half| {
                let at = ptr::with_exposed_provenance_mut(half.start);
                // SAFETY: the advice changes no byte.
                unsafe { libc::madvise(at, half.len(), MADV_COLLAPSE) == 0 }
            })
        }) == [[true; 2]; 2]
    }

    fn scatter(
        &mut self,
        half: usize,
        middle: usize,
        slots: usize,
        records: *mut u8,
        order: Order,
    ) {
        let mut numbers = Numbers(1);
        let width = (self.spacing.end - self.spacing.start) as u64;
        // The position in the table of the record of each site.
        let mut places: Vec<usize> = (0..self.count).collect();
        if order == Order::Shuffled {
            let mut numbers = Numbers(2);
            for last in (1..self.count).rev() {
                places.swap(last, numbers.below(last as u64 + 1) as usize);
            }
        }
        let mut address = self.range.start;
        for (index, place) in places.into_iter().enumerate() {
            address += self.spacing.start + numbers.below(width) as usize;
            if index == self.count / 2 {
                address = address.max(self.range.start + half + middle);
            }
            let op = numbers.below(PATCHLETS.len() as u64) as usize;
            let kind = if numbers.below(JUMPS) == 0 { Kind::Jump } else { Kind::Call };
            let record = records.wrapping_add(12 * place);
            let slot = slots + size_of::<usize>() * op;
            let mut bytes = [0; 12];
            let relative = |to: usize, from: usize| (to.wrapping_sub(from) as u32).to_le_bytes();
            bytes[..4].copy_from_slice(&relative(address, record.addr()));
            bytes[4..8].copy_from_slice(&relative(slot, record.addr() + 4));
            bytes[8..10].copy_from_slice(&(op as u16).to_le_bytes());
            bytes[10..].copy_from_slice(&[6, kind as u8]);
            // SAFETY: the record is inside of the table, and no code reads the table yet.
            unsafe { record.cast::<[u8; 12]>().write(bytes) };
        }
        assert!(address + 6 < self.range.end);
        // SAFETY: no thread executes this text.
        unsafe { bare(self) };
    }

    pub fn sites<'a>(&self) -> Sites<'a> {
        // SAFETY: `scatter` has written the records, and no code writes to them again. They are
        // unmapped when the text is dropped, after the last use of the sites.
        unsafe { Sites::between(self.records, 12 * self.count) }
    }

    pub fn patcher(&self) -> Patcher<'static, SecondMapping> {
        // SAFETY: all of text is mapped twice, at a distance of `offset`.
        let platform = unsafe { SecondMapping::new(self.range.clone(), self.offset) };
        let states: Vec<OpState> = self.table.ops().iter().map(|_| OpState::new()).collect();
        // SAFETY: nobody else has these states.
        let source = unsafe { OpSource::new(vec![self.table].leak(), states.leak()) };
        // SAFETY: the front end has this part only.
        let parts = vec![unsafe { Part::new(self.sites(), Box::leak(Box::new(source))) }].leak();
        Patcher::new(Box::leak(Box::new(SiteSet::new(parts))), platform)
    }

    /// Removes all sites and their records from the caches.
    pub fn evict(&self) {
        #[cfg(target_arch = "x86")]
        use std::arch::x86::{_mm_clflush, _mm_mfence};
        #[cfg(target_arch = "x86_64")]
        use std::arch::x86_64::{_mm_clflush, _mm_mfence};
        // SAFETY: flushing a cache line changes no value.
        unsafe {
            for record in self.sites().records() {
                let site: *const u8 = ptr::with_exposed_provenance(record.site());
                _mm_clflush(site);
                _mm_clflush(site.wrapping_add(5));
                _mm_clflush(ptr::from_ref(record).cast());
            }
            _mm_mfence();
        }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from the memory any more, except a table whose slots are in it,
        // and which is not used without this text.
        unsafe {
            let len = self.range.len();
            libc::munmap(ptr::with_exposed_provenance_mut(self.range.start), len);
            let alias = self.range.start.wrapping_add(self.offset);
            libc::munmap(ptr::with_exposed_provenance_mut(alias), len);
            libc::close(self.file);
        }
    }
}

/// Stores the six bytes of the indirect call or jump at each site, and reads only the record. This
/// is (a), the least that the hardware needs.
///
/// # Safety
/// - no thread executes this text.
#[inline(never)]
pub unsafe fn bare(text: &Text) {
    for record in text.sites().records() {
        let (site, slot) = (record.site(), record.subject());
        let operand = if cfg!(target_pointer_width = "64") {
            slot.wrapping_sub(site + 6) as u32
        } else {
            slot as u32
        };
        let modrm = if record.kind() == Ok(Kind::Jump) { 0x25ff } else { 0x15ff };
        let alias: *mut u8 = ptr::with_exposed_provenance_mut(site.wrapping_add(text.offset));
        // SAFETY: the address is the alias of a site, which has six bytes.
        unsafe {
            alias.cast::<u32>().write_unaligned(operand << 16 | modrm);
            alias.add(4).cast::<u16>().write_unaligned((operand >> 16) as u16);
        }
    }
}

/// Makes the loads and stores of `apply` in its order, without its decisions and without
/// prefetching: reads each site, reads and writes its alias, and reads the site back.
///
/// # Safety
/// - no thread executes this text.
#[inline(never)]
pub unsafe fn accesses(text: &Text) {
    #[repr(C, packed)]
    struct Six(u32, u16);
    let at = |site: usize| ptr::with_exposed_provenance_mut::<Six>(site);
    let alias = |site: usize| at(site.wrapping_add(text.offset));
    let records: Vec<_> = text.sites().records().collect();
    for record in &records {
        // SAFETY: the address is that of a site or, below, of its alias.
        black_box(unsafe { at(record.site()).read_volatile().0 });
    }
    // In blocks of 16, as `apply` does: a load through the other mapping waits for the store to the
    // same bytes, so stores and loads are kept apart.
    for block in records.chunks(16) {
        for record in block {
            let alias = alias(record.site());
            // SAFETY: see above.
            unsafe { alias.write_volatile(alias.read_volatile()) };
        }
        for record in block {
            // SAFETY: see above.
            black_box(unsafe { at(record.site()).read_volatile().0 });
        }
    }
}

/// Patches one site after the other, (b): each is checked, composed, written, serialized and read
/// back.
///
/// # Safety
/// - no thread executes this text.
#[inline(never)]
pub unsafe fn one_at_a_time(text: &Text) {
    for record in text.sites().records() {
        let index = text.table.index_of_slot(record.subject()).expect("an op's slot");
        let target = text.table.get(index).expect("an op");
        let kind = record.kind().expect("a kind");
        let replacement = text.table.replacement(index, target, kind).expect("an op");
        let (site, capacity) = (record.site(), record.capacity());
        let bytes =
            InsnBuffer::compose(Width::NATIVE, Nops::Long, site as u64, capacity, &replacement)
                .expect("it fits");
        let alias: *mut u8 = ptr::with_exposed_provenance_mut(site.wrapping_add(text.offset));
        let here: *const u8 = ptr::with_exposed_provenance(site);
        // SAFETY: the addresses are those of a site and its alias, of six bytes.
        unsafe {
            ptr::copy_nonoverlapping(bytes.bytes().as_ptr(), alias, 6);
            Serializer::default().serialize();
            assert_eq!(*bytes.bytes(), here.cast::<[u8; 6]>().read_volatile());
        }
    }
}

/// Makes an ops table with its slots at this address. Its native functions are addresses behind the
/// slots, which no code calls.
fn table(at: *mut Slot, slots: usize) -> &'static Table {
    let ops: Vec<Op> = PATCHLETS
        .iter()
        .enumerate()
        .map(|(index, &bytes)| {
            let native = Target::function(ptr::without_provenance(slots + 0x800 + 0x10 * index));
            let patchlet = (!bytes.is_empty()).then(|| leak_patchlet(bytes));
            Op::new("bench", "op", Abi::CalleeSave, native, patchlet)
        })
        .collect();
    for (index, op) in ops.iter().enumerate() {
        // SAFETY: the slot is inside of the page and aligned, and no reference to it exists yet.
        unsafe { at.add(index).write(Slot::new(op.native())) };
    }
    // SAFETY: all slots are written above. They are used only as long as the text exists.
    let slots = unsafe { std::slice::from_raw_parts(at, ops.len()) };
    // SAFETY: no code calls through these slots.
    let table: &Table = Box::leak(Box::new(unsafe { Table::new(ops.leak(), slots) }));
    // SAFETY: no code calls through this slot.
    assert!(unsafe { table.set(NO_OP, Target::NOP) });
    table
}

fn leak_patchlet(bytes: &'static [u8]) -> &'static Patchlet {
    extern "C" fn nobody_calls_it() {}
    let _ = bytes.as_ptr().expose_provenance();
    let (start, end) = (bytes.first_chunk(), bytes.last_chunk());
    let (Some(start), Some(end)) = (start, end) else { unreachable!("no bytes are left") };
    // SAFETY: like two labels of PATCHLET, these are start and end of bytes that are never freed.
    let patchlet = unsafe { Patchlet::from_labels("bench", start, end, nobody_calls_it) };
    Box::leak(Box::new(patchlet))
}
