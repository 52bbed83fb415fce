//! The file of a kernel's module. Distributions compress modules.

use std::borrow::Cow;
use std::io::Read;

use super::unpack::is_boot_image;
use crate::inspect::error::FileError;

/// How many times larger than its file a module can be. Modules are packed to a quarter or so; without
/// a limit a small file could ask for much memory.
const MOST_PACKED: u64 = 64;

/// The memory that a decoder may use, in KiB. Linux' build packs modules with dictionaries of two
/// megabytes at most.
const DECODER_KIB: u32 = 16 << 10;

/// Returns whether a file is a boot image, or packed as a module can be.
pub fn is_packed(data: &[u8]) -> bool {
    let magic: [&[u8]; 3] = [b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"];
    is_boot_image(data) || magic.iter().any(|magic| data.starts_with(magic))
}

/// Returns the object in the file of a module: the file itself, or what is packed in it by xz, zstd
/// or gzip.
///
/// # Errors
/// Returns an error if the file is damaged.
pub fn unpack_module(data: &[u8]) -> Result<Cow<'_, [u8]>, FileError> {
    let bad = |error: &dyn std::fmt::Display| {
        FileError::new(format!("a packed module that cannot be unpacked: {error}"))
    };
    let limit = data.len() as u64 * MOST_PACKED;
    let mut object = Vec::new();
    match data {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let reader = lzma_rust2::XzReader::new_mem_limit(data, false, DECODER_KIB);
            reader.take(limit + 1).read_to_end(&mut object).map_err(|error| bad(&error))?;
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder =
                ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| bad(&error))?;
            decoder.take(limit + 1).read_to_end(&mut object).map_err(|error| bad(&error))?;
        }
        [0x1f, 0x8b, 8, flags, rest @ ..] => {
            let stream = gzip_stream(*flags, rest)
                .ok_or_else(|| bad(&"its header is not one of a file that gzip writes"))?;
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            object = miniz_oxide::inflate::decompress_to_vec_with_limit(stream, limit)
                .map_err(|error| bad(&error))?;
        }
        _ => return Ok(Cow::Borrowed(data)),
    }
    if object.len() as u64 > limit {
        return Err(bad(&format!("it would have more than {MOST_PACKED} times its size")));
    }
    Ok(Cow::Owned(object))
}

/// Returns the compressed data behind the header of gzip, whose first four bytes are gone already: six
/// more bytes, then the name of the file if the flags say so (RFC 1952, "Member header and trailer").
fn gzip_stream(flags: u8, rest: &[u8]) -> Option<&[u8]> {
    const NAME: u8 = 1 << 3;
    let rest = rest.get(6..)?;
    match flags {
        0 => Some(rest),
        NAME => rest.get(rest.iter().position(|&byte| byte == 0)? + 1..),
        _ => None,
    }
}
