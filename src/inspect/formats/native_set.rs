//! The native set of both widths as data. The tool needs it for files of either width on any host,
//! also where [`patchlet::native`](crate::native) does not exist. A test compares the two, byte
//! for byte.

use crate::insn::Width;

/// A patchlet: its name and its bytes.
type NamedBytes = (&'static str, &'static [u8]);

const BITS64: &[NamedBytes] = &[
    ("irq_disable", &[0xfa]),
    ("irq_enable", &[0xfb]),
    ("save_fl", &[0x9c, 0x58]),
    ("restore_fl", &[0x57, 0x9d]),
    ("read_cr2", &[0x0f, 0x20, 0xd0]),
    ("read_cr3", &[0x0f, 0x20, 0xd8]),
    ("write_cr3", &[0x0f, 0x22, 0xdf]),
    ("wbinvd", &[0x0f, 0x09]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("usergs_sysret64", &[0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07]),
    ("ident_64", &[0x48, 0x89, 0xf8]),
    ("queued_spin_unlock", &[0xc6, 0x07, 0x00]),
    ("vcpu_is_preempted", &[0x31, 0xc0]),
    ("ud2", &[0x0f, 0x0b]),
    ("safe_halt", &[0xfb, 0xf4]),
    ("halt", &[0xf4]),
];

const BITS32: &[NamedBytes] = &[
    ("irq_disable", &[0xfa]),
    ("irq_enable", &[0xfb]),
    ("save_fl", &[0x9c, 0x58]),
    ("restore_fl", &[0x50, 0x9d]),
    ("read_cr2", &[0x0f, 0x20, 0xd0]),
    ("read_cr3", &[0x0f, 0x20, 0xd8]),
    ("write_cr3", &[0x0f, 0x22, 0xd8]),
    ("iret", &[0xcf]),
    ("queued_spin_unlock", &[0xc6, 0x00, 0x00]),
    ("vcpu_is_preempted", &[0x31, 0xc0]),
    ("ud2", &[0x0f, 0x0b]),
    ("safe_halt", &[0xfb, 0xf4]),
    ("halt", &[0xf4]),
];

/// Returns the native set of a width: names and bytes, in the order of its source.
#[must_use]
pub const fn native_set(width: Width) -> &'static [(&'static str, &'static [u8])] {
    match width {
        Width::Bits32 => BITS32,
        Width::Bits64 => BITS64,
    }
}

/// The symbol of the built-in ops table.
pub(crate) const PV_TABLE: &str = "patchlet_pv_ops";

/// The first ops of the built-in table, the same on both widths. A table whose slots start with
/// the native functions of these is the built-in one; so it is recognized in a stripped file.
/// The next op is `ident`.
pub(crate) const PV_TABLE_STARTS: [&str; 7] =
    ["irq_disable", "irq_enable", "save_fl", "restore_fl", "read_cr2", "read_cr3", "write_cr3"];

/// Returns the bytes of the patchlet `name` of the native set; empty if the set has none.
pub(crate) fn bytes_of(width: Width, name: &str) -> &'static [u8] {
    native_set(width).iter().find(|row| row.0 == name).map_or(&[], |row| row.1)
}
