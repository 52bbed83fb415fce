//! Unpacks a `vmlinuz`. Linux' boot protocol ("Details of Header Fields", x86 boot protocol) says
//! where in the file the compressed kernel lies. Behind the ELF file that it unpacks to there can
//! be a list of the places that KASLR changes.

use std::borrow::Cow;
use std::io::Read;
use std::ops::RangeInclusive;

use crate::insn::Width;
use crate::inspect::elf::{Image, little_endian, slice};
use crate::inspect::error::FileError;

/// The largest kernel that is unpacked, in bytes.
const LARGEST: u64 = 1 << 30;

/// How many times smaller than the kernel it can be when it is packed. Kernels are packed to a sixth
/// or so; without a limit a small file could ask for much memory.
const MOST_PACKED: u64 = 64;

/// A kernel's ELF file, as it was given or unpacked from a boot image.
#[derive(Debug)]
pub struct Unpacked<'d> {
    /// The ELF file.
    pub(super) elf: Cow<'d, [u8]>,
}

impl Unpacked<'_> {
    /// Returns the ELF file, with what follows it.
    #[must_use]
    pub fn elf(&self) -> &[u8] {
        &self.elf
    }
}

/// Returns whether a file is a boot image, a `vmlinuz`.
pub fn is_boot_image(data: &[u8]) -> bool {
    data.get(0x202..0x206) == Some(b"HdrS")
}

/// Unpacks a boot image, a `vmlinuz`. Any other file is returned as it is.
///
/// # Errors
/// Returns an error if the boot image is damaged, or packed in another form than gzip, xz, zstd.
pub fn unpack(data: &[u8]) -> Result<Unpacked<'_>, FileError> {
    if !is_boot_image(data) {
        return Ok(Unpacked { elf: Cow::Borrowed(data) });
    }
    let field = |at: u64, len: u64| slice(data, at, len).map(little_endian);
    let header = || {
        // setup_sects (0 stands for 4), payload_offset and payload_length; behind the payload
        // stands its size when it is unpacked.
        let sectors = field(0x1f1, 1).map(|sectors| if sectors == 0 { 4 } else { sectors })?;
        let payload = ((sectors + 1) * 512).checked_add(field(0x248, 4)?)?;
        let packed = slice(data, payload, field(0x24c, 4)?)?;
        let (packed, size) = packed.split_last_chunk::<4>()?;
        Some((packed, little_endian(size)))
    };
    let (packed, size) = header().ok_or_else(|| {
        FileError::new("a boot image whose header names a kernel beyond its end: truncated?")
    })?;
    if size > LARGEST || size / MOST_PACKED > packed.len() as u64 {
        return Err(FileError::new(format!(
            "a boot image whose kernel would have {size:#x} bytes: damaged?"
        )));
    }
    let elf = decompress(packed, size)?;
    if elf.len() as u64 != size {
        return Err(FileError::new(format!(
            "a boot image whose kernel unpacks to {:#x} bytes instead of {size:#x}: damaged?",
            elf.len()
        )));
    }
    Ok(Unpacked { elf: Cow::Owned(elf) })
}

/// Decompresses a kernel of `size` bytes, by the form that its first bytes show.
fn decompress(packed: &[u8], size: u64) -> Result<Vec<u8>, FileError> {
    let bad = |error: std::io::Error| {
        FileError::new(format!("a boot image whose kernel cannot be unpacked: {error}"))
    };
    // A few bytes more than there should be, so that too long a kernel is noticed.
    let limit = size + 1;
    let mut elf = Vec::new();
    match packed {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let reader = lzma_rust2::XzReader::new(packed, false);
            reader.take(limit).read_to_end(&mut elf).map_err(bad)?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed)
                .map_err(|error| bad(std::io::Error::other(error.to_string())))?;
            decoder.take(limit).read_to_end(&mut elf).map_err(bad)?;
        }
        [0x1f, 0x8b, 8, flags, ..] => {
            // The header of gzip has 10 bytes; Linux' build gives it no optional fields (RFC 1952,
            // "Member header and trailer").
            let stream = if *flags == 0 { packed.get(10..) } else { None };
            let stream = stream.ok_or_else(|| {
                FileError::new("a boot image with a gzip header that no kernel's build writes")
            })?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            elf = miniz_oxide::inflate::decompress_to_vec_with_limit(stream, limit)
                .map_err(|error| bad(std::io::Error::other(error.to_string())))?;
        }
        [0x5d, 0, 0, ..] => {
            // The kernel's build packs with dictionaries of at most 32 MiB, and so needs little
            // more.
            let reader = lzma_rust2::LzmaReader::new_mem_limit(packed, 40 << 10, None);
            let reader = reader.map_err(|error| bad(std::io::Error::other(error.to_string())))?;
            reader.take(limit).read_to_end(&mut elf).map_err(bad)?;
        }
        [0x02, 0x21, 0x4c, 0x18, blocks @ ..] => {
            elf = decompress_lz4(blocks, size)
                .map_err(|error| bad(std::io::Error::other(error.to_string())))?;
        }
        [a, b, c, d, ..] => {
            return Err(FileError::new(format!(
                "a boot image whose kernel is packed in a form that starts with {a:02x} {b:02x} \
                 {c:02x} {d:02x}, which is none of gzip, xz, zstd, lzma and lz4: unpack it by \
                 scripts/extract-vmlinux of the kernel's sources"
            )));
        }
        _ => return Err(FileError::new("a boot image without a kernel in it")),
    }
    Ok(elf)
}

/// Decompresses blocks of LZ4's legacy format: each has a length of four bytes in front of it, and
/// becomes 8 MiB but for the last one (LZ4 frame format, "Legacy frame").
fn decompress_lz4(
    mut blocks: &[u8],
    size: u64,
) -> Result<Vec<u8>, lz4_flex::block::DecompressError> {
    const LARGEST_BLOCK: usize = 8 << 20;
    // A byte more than there should be, so that too long a kernel is noticed.
    let mut elf = vec![0; usize::try_from(size).unwrap_or(0) + 1];
    let mut end = 0;
    while let Some((len, rest)) = blocks.split_first_chunk::<4>() {
        let len = (u32::from_le_bytes(*len) as usize).min(rest.len());
        let (block, rest) = rest.split_at(len);
        let until = elf.len().min(end + LARGEST_BLOCK);
        let Some(to) = elf.get_mut(end..until).filter(|to| !to.is_empty()) else { break };
        end += lz4_flex::block::decompress_into(block, to)?;
        blocks = rest;
    }
    elf.truncate(end);
    Ok(elf)
}

/// Returns the addresses of a kernel in its file, with the one behind its last byte. Sections of low
/// addresses have the data of each CPU, which is linked apart.
pub(super) fn bounds(image: &Image<'_>) -> RangeInclusive<u64> {
    let of_kernel = image.sections().iter().filter(|section| section.address >= 0x10_0000);
    let start = of_kernel.clone().map(|section| section.address).min().unwrap_or(0);
    start..=of_kernel.map(|section| section.end()).max().unwrap_or(0)
}

/// The places that KASLR changes, as addresses of the file.
#[derive(Debug, Default)]
pub(crate) struct Relocated {
    /// Places of four bytes to which the slide is added.
    pub added: Vec<u64>,
    /// Places of four bytes from which the slide is subtracted: distances to the data of each CPU,
    /// which does not move.
    pub subtracted: Vec<u64>,
    /// Places of eight bytes to which the slide is added.
    pub added_long: Vec<u64>,
}

/// Reads the list of places behind the ELF file. It stands backwards: three lists of numbers of
/// four bytes, each with a zero in front of it. The last in the file has places of four bytes;
/// before it those that move the other way; before that places of eight. A kernel of 32 bit and
/// one whose data of each CPU moves with it have no list in the middle, so that list is taken only
/// if there is a third. Returns `None` if there is no list, as behind a `vmlinux` from the build, or
/// if what is there is another thing: each place must be in the kernel.
pub(crate) fn relocated(image: &Image<'_>, elf: &[u8], end_of_elf: u64) -> Option<Relocated> {
    let list = slice(elf, end_of_elf, (elf.len() as u64).checked_sub(end_of_elf)?)?;
    // The data of each CPU lies between sections when it is loaded.
    let bounds = bounds(image);
    let mut numbers = list.rchunks_exact(4).map(little_endian);
    let mut next = || -> Option<Vec<u64>> {
        let mut places = Vec::new();
        loop {
            match numbers.next()? {
                0 => return Some(places),
                // A kernel of 64 bit lies in the highest two gigabytes.
                place => {
                    let place = match image.width() {
                        Width::Bits32 => place,
                        Width::Bits64 => place | 0xffff_ffff_0000_0000,
                    };
                    places.push(Some(place).filter(|place| bounds.contains(place))?);
                }
            }
        }
    };
    let added = next()?;
    let (subtracted, added_long) = match (next(), next()) {
        (Some(second), Some(third)) => (second, third),
        (second, _) => (vec![], second.unwrap_or_default()),
    };
    Some(Relocated { added, subtracted, added_long })
}
