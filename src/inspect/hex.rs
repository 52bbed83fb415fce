//! How numbers and bytes look in hexadecimal, in text and in JSON. Addresses are strings
//! in JSON, `"0x1f"`, since a 64-bit number is not safe there.

use serde::Serializer;

/// Returns bytes as a disassembler lists them: `9c 58`.
#[must_use]
pub(super) fn bytes_in_hex(bytes: &[u8]) -> String {
    /// More than any site has; the rest of a patchlet that makes no sense is cut.
    const SHOWN: usize = 40;
    let mut shown: Vec<String> =
        bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN {
        shown.push("…".to_owned());
    }
    shown.join(" ")
}

/// Serializes an address.
pub(super) fn address<S: Serializer>(
    address: &Option<u64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(&format_args!("{address:#x}")),
        None => serializer.serialize_none(),
    }
}
