//! `/proc/kcore`: the memory of the machine that runs, as an ELF core. The file is as large as the
//! address space and nearly empty, so that it cannot be mapped or read as a whole; what the kernel's
//! image has is copied out of it.
//!
//! Only the standard library is used here: the program that `make linux` runs in a virtual machine
//! is compiled with this file.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// The most that is copied of one segment, in bytes. An image of Linux has a tenth of it.
const MOST: u64 = 1 << 29;

/// Sizes and offsets of fields of one class of ELF (gABI, "ELF Header" and "Program Header").
struct CoreClass {
    header: usize,
    program_header: usize,
    /// Offset and size of e_phoff; of e_shoff, which follows it; and offset of e_phnum.
    phoff: (usize, usize),
    phnum: usize,
    /// Offsets of p_offset, p_vaddr and p_filesz.
    segment: [usize; 3],
    /// The first address at which an image can lie.
    first: u64,
    /// The largest segment in which it can lie. On 64 bit it has one of its own; another is for
    /// modules, and larger.
    largest: u64,
}

const CLASS_64: CoreClass = CoreClass {
    header: 64,
    program_header: 56,
    phoff: (32, 8),
    phnum: 56,
    segment: [8, 16, 32],
    first: 0xffff_ffff_8000_0000,
    largest: MOST,
};

const CLASS_32: CoreClass = CoreClass {
    header: 52,
    program_header: 32,
    phoff: (28, 4),
    phnum: 44,
    segment: [4, 8, 16],
    first: 0x4000_0000,
    largest: u64::MAX,
};

/// Writes an ELF core with only the segments in which the kernel's image lies.
///
/// # Errors
/// Returns an error of the reader or the writer, and one of its own if the file is no ELF core or
/// has no such segment.
pub fn copy(core: &mut (impl Read + Seek), to: &mut impl Write) -> io::Result<()> {
    let bad = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_owned());
    let mut header = vec![0; 52];
    core.read_exact(&mut header)?;
    let class = match header.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => CLASS_64,
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => CLASS_32,
        _ => return Err(bad("no ELF file")),
    };
    header.resize(class.header, 0);
    if let Some(rest) = header.get_mut(52..) {
        core.read_exact(rest)?;
    }
    let (at, size) = class.phoff;
    let (start, count) = (number(&header, at, size), number(&header, class.phnum, 2));
    core.seek(SeekFrom::Start(start))?;
    let mut table = vec![0; count as usize * class.program_header];
    core.read_exact(&mut table)?;
    let [offset_at, address_at, size_at] = class.segment;
    let mut segments: Vec<(Vec<u8>, u64, u64)> = Vec::new();
    for segment in table.chunks_exact(class.program_header) {
        let len = number(segment, size_at, size);
        let is_loaded = number(segment, 0, 4) == 1;
        let is_kernel = number(segment, address_at, size) >= class.first && len <= class.largest;
        if is_loaded && is_kernel && len > 0 {
            let offset = number(segment, offset_at, size);
            segments.push((segment.to_vec(), offset, len.min(MOST)));
        }
    }
    if segments.is_empty() {
        return Err(bad("a core without a segment in which a kernel's image can lie"));
    }
    put(&mut header, at, size, class.header as u64);
    // No sections.
    put(&mut header, at + size, size, 0);
    put(&mut header, class.phnum, 2, segments.len() as u64);
    put(&mut header, class.phnum + 4, 2, 0);
    to.write_all(&header)?;
    let mut place = (class.header + segments.len() * class.program_header) as u64;
    for (segment, _, len) in &mut segments {
        put(segment, offset_at, size, place);
        put(segment, size_at, size, *len);
        place += *len;
        to.write_all(segment)?;
    }
    for (_, offset, len) in segments {
        core.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut core.by_ref().take(len), to)?;
        // Memory can have been taken away meanwhile.
        io::copy(&mut io::repeat(0).take(len - copied), to)?;
    }
    to.flush()
}

/// Returns a little-endian number in bytes.
fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let field = bytes.get(at..at + size).unwrap_or_default();
    field.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Writes a little-endian number into bytes.
fn put(bytes: &mut [u8], at: usize, size: usize, number: u64) {
    if let Some(field) = bytes.get_mut(at..at + size) {
        field.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}
