//! Changes random bytes of the text in a dump, and looks whether each is found.

use std::collections::BTreeMap;

use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf::FileHeader32};
use patchlet::inspect::{Explanation, LinuxKernel, Unpacked, Verdict, explain_linux, parse};

/// How many bytes are changed.
const FLIPS: usize = 10_000;

/// Changes bytes in a copy of the dump and explains it.
pub(crate) fn run(
    kernel: &LinuxKernel<'_>,
    unpacked: &Unpacked<'_>,
    dump: &[u8],
    before: &Explanation,
) -> Result<(), String> {
    let image = parse(unpacked.elf()).map_err(|error| error.to_string())?;
    let text = image.sections().iter().find(|section| section.name == ".text").ok_or("no .text")?;
    let distance = before.physical_distance.ok_or("not a dump of physical memory")?;
    let segments = match dump.get(4) {
        Some(1) => segments::<FileHeader32<Endianness>>(dump),
        _ => segments::<FileHeader64<Endianness>>(dump),
    }?;
    let offset = |address: u64| {
        let physical = address.wrapping_add(distance);
        segments.iter().find_map(|&(start, size, offset)| {
            let at = physical.checked_sub(start).filter(|&at| at < size)?;
            usize::try_from(offset + at).ok()
        })
    };
    let mut dump = dump.to_vec();
    // A fixed sequence (xorshift): a failure can be repeated.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut flipped = BTreeMap::new();
    while flipped.len() < FLIPS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let address = text.address + random % text.data.len() as u64;
        let at = offset(address).ok_or("text is not in the dump")?;
        let byte = dump.get_mut(at).ok_or("beyond the end of the dump")?;
        if flipped.contains_key(&address) {
            continue;
        }
        *byte ^= 1 << (random >> 40 & 7);
        flipped.insert(address, ());
    }
    let after = explain_linux(kernel, &dump, None, false).map_err(|error| error.to_string())?;
    let found = |address: u64, verdict: Verdict| {
        after.list.iter().any(|of| {
            let start = of.address_in_file;
            of.verdict == verdict && start <= address && address < start + of.seen.len() as u64
        })
    };
    let mut missed = vec![];
    for &address in flipped.keys() {
        if !found(address, Verdict::Unexplained) {
            missed.push(address);
        }
    }
    eprintln!("{FLIPS} bytes changed, {} of them not unexplained", missed.len());
    match missed.first() {
        None => Ok(()),
        Some(first) => Err(format!("a changed byte at {first:#x} of the file was not found")),
    }
}

/// Returns the physical address, the size and the offset of each segment of a dump.
fn segments<H: FileHeader<Endian = Endianness>>(
    dump: &[u8],
) -> Result<Vec<(u64, u64, u64)>, String> {
    let header = H::parse(dump).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    let segments = header.program_headers(endian, dump).map_err(|error| error.to_string())?;
    let loaded = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD);
    Ok(loaded
        .map(|segment| {
            let field =
                (segment.p_paddr(endian), segment.p_filesz(endian), segment.p_offset(endian));
            (field.0.into(), field.1.into(), field.2.into())
        })
        .collect())
}
