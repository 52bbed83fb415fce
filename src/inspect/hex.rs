//! Hexadecimal numbers and bytes, in text and in JSON. An address in JSON is a string, `"0x1f"`:
//! many programs read JSON numbers as 64-bit floating point, which does not hold every
//! 64-bit integer.

use serde::Serializer;

/// Returns bytes as a disassembler lists them, such as `9c 58`. A `…` stands for all bytes
/// behind the fortieth.
#[must_use]
pub(super) fn bytes_in_hex(bytes: &[u8]) -> String {
    /// The largest number of bytes shown. A site has at most 32; the limit is for a patchlet in
    /// a damaged file, which may be long.
    const SHOWN: usize = 40;
    let mut shown: Vec<String> =
        bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(" ")
}

/// Serializes an address as a string, `"0x1f"`, or null.
pub(super) fn address<S: Serializer>(
    address: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(&format_args!("{address:#x}")),
        None => serializer.serialize_none(),
    }
}
