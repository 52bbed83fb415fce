//! How values look in JSON: addresses as `"0x1f"`, since a 64-bit number is not
//! safe there; bytes as `"9c 58"`.

use serde::Serializer;

/// An address.
pub(super) fn hex<S: Serializer>(address: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => serializer.collect_str(&format_args!("{address:#x}")),
        None => serializer.serialize_none(),
    }
}
