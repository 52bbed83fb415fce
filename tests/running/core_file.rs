//! The dump that QEMU makes: where in it physical memory lies.

use object::elf::{FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

/// A piece of physical memory in a dump.
pub struct Piece {
    pub physical: u64,
    pub size: u64,
    pub offset: u64,
}

/// Returns the pieces of physical memory that a dump has.
pub fn pieces(dump: &[u8]) -> Vec<Piece> {
    match dump[4] {
        1 => pieces_of::<FileHeader32<Endianness>>(dump),
        _ => pieces_of::<FileHeader64<Endianness>>(dump),
    }
}

fn pieces_of<H: FileHeader<Endian = Endianness>>(dump: &[u8]) -> Vec<Piece> {
    let header = H::parse(dump).expect("an ELF core");
    let endian = header.endian().expect("an ELF core");
    let segments = header.program_headers(endian, dump).expect("segments");
    let loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    let pieces = loaded.map(|segment| Piece {
        physical: segment.p_paddr(endian).into(),
        size: segment.p_filesz(endian).into(),
        offset: segment.p_offset(endian).into(),
    });
    pieces.collect()
}

/// Returns where in a dump the byte at a physical address is.
pub fn offset(pieces: &[Piece], physical: u64) -> usize {
    let found = pieces.iter().find_map(|piece| {
        let at = physical.checked_sub(piece.physical).filter(|&at| at < piece.size)?;
        usize::try_from(piece.offset + at).ok()
    });
    found.expect("the dump has all memory")
}

/// Returns the memory from a physical address on, without any header.
pub fn plain(dump: &[u8], physical: u64, size: u64) -> Vec<u8> {
    let at = offset(&pieces(dump), physical) as u64;
    dump.read_bytes_at(at, size).expect("the dump has all memory").to_vec()
}
