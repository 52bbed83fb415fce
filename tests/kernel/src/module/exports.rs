//! The symbols of this kernel that a module may refer to.

use patchlet::pv;

use crate::own;

struct Export {
    name: &'static str,
    address: *const (),
}

// SAFETY: nothing is read or written through the address here.
unsafe impl Sync for Export {}

/// The slots of the ops tables, and the key. Sites that go through one of these, or branches by the
/// key, are patched like the kernel's own.
static EXPORTS: &[Export] = &[
    Export { name: "patchlet_pv_ops", address: (&raw const pv::SLOTS).cast() },
    Export { name: "test_kernel_ops", address: (&raw const own::ops::SLOTS).cast() },
    Export { name: "test_kernel_key", address: (&raw const interface::OF_KERNEL).cast() },
];

/// Returns the address of the symbol of this name.
pub fn address(name: &str) -> Option<u64> {
    let export = EXPORTS.iter().find(|export| export.name == name)?;
    Some(export.address.expose_provenance() as u64)
}
