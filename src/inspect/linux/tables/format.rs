//! The formats of the tables, each a row of data: where the table lies, and the layouts that its
//! records can have.

use super::kind::TableKind;
use crate::insn::Width;

/// The form in which a record refers to an address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    /// Four bytes, relative to themselves.
    Relative,
    /// As many bytes as a pointer, relative to themselves.
    RelativeLong,
    /// A pointer.
    Absolute,
}

/// A field with an address: its offset in the record and its encoding.
pub(super) type AddressField = (usize, Encoding);

/// The kind of memory to which the second address of a record leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    ToText,
    /// To data. The two lowest bits are flags.
    ToData,
}

/// A layout of a record. Fields are given by their offset; numbers have two bytes and lengths one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub width: Option<Width>,
    pub stride: usize,
    pub site: AddressField,
    pub other: Option<(AddressField, Leads)>,
    pub third: Option<(AddressField, Leads)>,
    /// A feature or a type: offset, and size in bytes.
    pub number: Option<(usize, usize)>,
    pub flags: Option<usize>,
    pub length: Option<usize>,
    pub other_length: Option<usize>,
    pub padding: Option<usize>,
}

/// The simplest layout: the relative address of a site.
const SITE: Layout = Layout {
    width: None,
    stride: 4,
    site: (0, Encoding::Relative),
    other: None,
    third: None,
    number: None,
    flags: None,
    length: None,
    other_length: None,
    padding: None,
};

/// Alternatives: site, replacement, feature, then what differs.
const ALTERNATIVE: Layout =
    Layout { other: Some(((4, Encoding::Relative), Leads::ToText)), number: Some((8, 2)), ..SITE };

/// A call through `pv_ops`: site, type, length; the rest is padding or for older kernels.
const PARAVIRT: Layout = Layout { site: (0, Encoding::Absolute), ..SITE };

/// A format: where a table lies, and the layouts that its records can have.
#[derive(Debug)]
pub(super) struct Format {
    pub kind: TableKind,
    /// Name of the section; one that ends in `*` stands for all that begin so.
    pub section: &'static str,
    /// The symbols around the table, for a kernel that has it in a larger section.
    pub bounds: Option<(&'static str, &'static str)>,
    pub layouts: &'static [Layout],
    /// The structure of a record, for the formats in which its length differs between versions.
    pub structure: Option<&'static str>,
}

/// All formats.
pub(super) const FORMATS: &[Format] = &[
    Format {
        kind: TableKind::Alternatives,
        structure: Some("alt_instr"),
        section: ".altinstructions",
        bounds: Some(("__alt_instructions", "__alt_instructions_end")),
        layouts: &[
            Layout { stride: 12, length: Some(10), other_length: Some(11), ..ALTERNATIVE },
            Layout {
                stride: 13,
                length: Some(10),
                other_length: Some(11),
                padding: Some(12),
                ..ALTERNATIVE
            },
            Layout {
                stride: 14,
                flags: Some(10),
                length: Some(12),
                other_length: Some(13),
                ..ALTERNATIVE
            },
        ],
    },
    Format {
        kind: TableKind::Paravirt,
        structure: None,
        section: ".parainstructions",
        bounds: Some(("__parainstructions", "__parainstructions_end")),
        layouts: &[
            Layout {
                width: Some(Width::Bits64),
                stride: 16,
                number: Some((8, 1)),
                length: Some(9),
                ..PARAVIRT
            },
            Layout {
                width: Some(Width::Bits32),
                stride: 8,
                number: Some((4, 1)),
                length: Some(5),
                ..PARAVIRT
            },
        ],
    },
    Format {
        kind: TableKind::JumpLabels,
        structure: None,
        section: "__jump_table",
        bounds: Some(("__start___jump_table", "__stop___jump_table")),
        layouts: &[
            Layout {
                width: Some(Width::Bits64),
                stride: 16,
                other: Some(((4, Encoding::Relative), Leads::ToText)),
                third: Some(((8, Encoding::RelativeLong), Leads::ToData)),
                ..SITE
            },
            Layout {
                width: Some(Width::Bits32),
                stride: 12,
                other: Some(((4, Encoding::Relative), Leads::ToText)),
                third: Some(((8, Encoding::RelativeLong), Leads::ToData)),
                ..SITE
            },
        ],
    },
    Format {
        kind: TableKind::StaticCalls,
        structure: None,
        section: ".static_call_sites",
        bounds: Some(("__start_static_call_sites", "__stop_static_call_sites")),
        layouts: &[Layout {
            stride: 8,
            third: Some(((4, Encoding::Relative), Leads::ToData)),
            ..SITE
        }],
    },
    Format {
        kind: TableKind::SmpLocks,
        structure: None,
        section: ".smp_locks",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Retpolines,
        structure: None,
        section: ".retpoline_sites",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Returns,
        structure: None,
        section: ".return_sites",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Calls,
        structure: None,
        section: ".call_sites",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Endbr,
        structure: None,
        section: ".ibt_endbr_seal",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Cfi,
        structure: None,
        section: ".cfi_sites",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::Ftrace,
        structure: None,
        section: "__mcount_loc",
        bounds: Some(("__start_mcount_loc", "__stop_mcount_loc")),
        layouts: &[
            Layout { width: Some(Width::Bits64), stride: 8, site: (0, Encoding::Absolute), ..SITE },
            Layout { width: Some(Width::Bits32), site: (0, Encoding::Absolute), ..SITE },
        ],
    },
    Format {
        kind: TableKind::RuntimePointers,
        structure: None,
        section: "runtime_ptr_*",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::RuntimeShifts,
        structure: None,
        section: "runtime_shift_*",
        bounds: None,
        layouts: &[SITE],
    },
    Format {
        kind: TableKind::RuntimeMasks,
        structure: None,
        section: "runtime_mask_*",
        bounds: None,
        layouts: &[SITE],
    },
];
