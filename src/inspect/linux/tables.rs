//! The tables in which a Linux kernel says where it patches itself. A format is a row of data:
//! where the table lies, and what a record looks like. Kernels of one version can have different
//! records, for stable versions get what later ones had first. So the layout is not taken from
//! the version: of the layouts of a format it is the one in which every record of the table makes
//! sense.

use crate::insn::Width;
use crate::inspect::elf::{Image, Section, little_endian, slice};
use crate::inspect::error::FileError;

use super::btf::Types;
use super::names::Names;

/// The purpose of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TableKind {
    /// `.altinstructions`: instructions for CPUs that have or lack a feature.
    Alternatives,
    /// `.parainstructions`: calls through `pv_ops`.
    Paravirt,
    /// `__jump_table`: branches on static keys.
    JumpLabels,
    /// `.static_call_sites`: calls whose target changes rarely.
    StaticCalls,
    /// `.smp_locks`: LOCK prefixes, which one CPU alone does not need.
    SmpLocks,
    /// `.retpoline_sites`: calls and jumps to thunks for indirect branches.
    Retpolines,
    /// `.return_sites`: jumps to the thunk for returns.
    Returns,
    /// `.call_sites`: direct calls that call depth tracking leads through thunks.
    Calls,
    /// `.ibt_endbr_seal`: ENDBR of functions that nothing calls indirectly.
    Endbr,
    /// `.cfi_sites`: hashes in front of functions.
    Cfi,
    /// `__mcount_loc`: calls of the function tracer.
    Ftrace,
    /// `runtime_ptr_*`: addresses in instructions, set at boot.
    RuntimePointers,
    /// `runtime_shift_*`: shift counts in instructions, set at boot.
    RuntimeShifts,
    /// `runtime_mask_*`: masks in instructions, set at boot.
    RuntimeMasks,
}

/// The form in which a record refers to an address.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// Four bytes, relative to themselves.
    Relative,
    /// As many bytes as a pointer, relative to themselves.
    RelativeLong,
    /// A pointer.
    Absolute,
}

/// A field with an address: its offset in the record and its encoding.
type AddressField = (usize, Encoding);

/// The kind of memory to which the second address of a record leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    ToText,
    /// To data. The two lowest bits are flags.
    ToData,
}

/// A layout of a record. Fields are given by their offset; numbers have two bytes and lengths one.
#[derive(Clone, Copy, Debug)]
struct Layout {
    width: Option<Width>,
    stride: usize,
    site: AddressField,
    other: Option<(AddressField, Leads)>,
    third: Option<(AddressField, Leads)>,
    /// A feature or a type: offset, and size in bytes.
    number: Option<(usize, usize)>,
    flags: Option<usize>,
    length: Option<usize>,
    other_length: Option<usize>,
    padding: Option<usize>,
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
struct Format {
    kind: TableKind,
    /// Name of the section; one that ends in `*` stands for all that begin so.
    section: &'static str,
    /// The symbols around the table, for a kernel that has it in a larger section.
    bounds: Option<(&'static str, &'static str)>,
    layouts: &'static [Layout],
    /// The structure of a record, for the formats in which its length differs between versions.
    structure: Option<&'static str>,
}

/// All formats.
const FORMATS: &[Format] = &[
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

impl TableKind {
    /// All kinds, in the order in which the tool lists them.
    pub const ALL: [Self; 14] = [
        Self::Alternatives,
        Self::Paravirt,
        Self::JumpLabels,
        Self::StaticCalls,
        Self::SmpLocks,
        Self::Retpolines,
        Self::Returns,
        Self::Calls,
        Self::Endbr,
        Self::Cfi,
        Self::Ftrace,
        Self::RuntimePointers,
        Self::RuntimeShifts,
        Self::RuntimeMasks,
    ];

    /// Returns whether its sites are operands of instructions.
    #[must_use]
    pub const fn is_operand(self) -> bool {
        matches!(self, Self::RuntimePointers | Self::RuntimeShifts | Self::RuntimeMasks)
    }

    /// Returns the name by which the tool prints the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alternatives => "alternative",
            Self::Paravirt => "paravirt",
            Self::JumpLabels => "jump-label",
            Self::StaticCalls => "static-call",
            Self::SmpLocks => "smp-lock",
            Self::Retpolines => "retpoline",
            Self::Returns => "return",
            Self::Calls => "call",
            Self::Endbr => "endbr",
            Self::Cfi => "cfi",
            Self::Ftrace => "ftrace",
            Self::RuntimePointers => "runtime-pointer",
            Self::RuntimeShifts => "runtime-shift",
            Self::RuntimeMasks => "runtime-mask",
        }
    }
}

/// A record of a table. Fields that its format does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableRecord {
    /// Address of the patched instruction.
    pub site: u64,
    /// Address of the replacement, or target of the branch.
    pub other: u64,
    /// Address of the key, without its flags.
    pub key: u64,
    /// The two lowest bits beside the key.
    pub key_flags: u8,
    /// Number of a feature, or type of a call.
    pub number: u16,
    /// Flags of their own.
    pub flags: u16,
    /// Length of the site in bytes.
    pub length: u8,
    /// Length of the replacement.
    pub other_length: u8,
    /// Length of the padding at the end of the site.
    pub padding: u8,
}

/// A table of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct KernelTable {
    pub kind: TableKind,
    /// The name of the section, or the symbol where the table begins.
    pub name: String,
    /// Length of a record in bytes.
    pub stride: usize,
    pub records: Vec<TableRecord>,
}

/// Reads all tables of a kernel. A table that is there and whose records make no sense in any known
/// layout is an error: what it says would be missing from the expected text.
pub(crate) fn read(
    image: &Image<'_>,
    names: &Names,
    types: Option<Types<'_>>,
) -> Result<Vec<KernelTable>, FileError> {
    let mut tables = Vec::new();
    for format in FORMATS {
        // The types of the build say how long a record is.
        let len = format.structure.and_then(|structure| types?.size(structure));
        let before = tables.len();
        tables.extend(in_sections(image, format, len)?);
        if before == tables.len()
            && let Some((start, stop)) = format.bounds
            && let (Some(from), Some(to)) = (names.address(start), names.address(stop))
            && from < to
        {
            let bytes = image.bytes_at(from, to - from).ok_or_else(|| {
                FileError::new(format!("{start} ({from:#x}) and {stop} ({to:#x}) enclose no data"))
            })?;
            tables.push(table(image, format, len, start, from, bytes)?);
        }
        if before == tables.len()
            && format.bounds.is_some_and(|(start, _)| names.address(start).is_none())
        {
            tables.extend(search(image, format));
        }
    }
    Ok(tables)
}

/// Returns whether a file has a section that is a table of patch sites.
pub fn has_tables(image: &Image<'_>) -> bool {
    FORMATS.iter().any(|format| sections(image, format).next().is_some())
}

/// Reads all tables of a module, each of which is a section.
pub(crate) fn of_module(image: &Image<'_>) -> Result<Vec<KernelTable>, FileError> {
    let mut tables = Vec::new();
    for format in FORMATS {
        tables.extend(in_sections(image, format, None)?);
    }
    Ok(tables)
}

/// Reads the tables of a format that are sections of their own.
fn in_sections(
    image: &Image<'_>,
    format: &Format,
    len: Option<u32>,
) -> Result<Vec<KernelTable>, FileError> {
    sections(image, format)
        .map(|section| table(image, format, len, section.name, section.address, section.data))
        .collect()
}

/// Returns the sections of a format's name that are not empty.
fn sections<'i>(image: &'i Image<'_>, format: &Format) -> impl Iterator<Item = &'i Section<'i>> {
    let matches = |name: &str| match format.section.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == format.section,
    };
    let sections = image.sections().iter();
    sections.filter(move |section| matches(section.name) && !section.data.is_empty())
}

/// Searches a table in data by its content: a kernel without the names of variables does not say
/// where it is. Taken is the longest row of records of which each makes sense, with an instruction
/// at its site that the kernel could have there before it patches it. Not all tables can be told
/// from other data in this way.
fn search(image: &Image<'_>, format: &Format) -> Option<KernelTable> {
    /// A shorter row can be there by chance.
    const SHORTEST: usize = 32;
    let patched = match format.kind {
        TableKind::JumpLabels => jump_label_can_be,
        TableKind::Ftrace => tracer_call_can_be,
        TableKind::StaticCalls => static_call_can_be,
        _ => return None,
    };
    let layout = format.layouts.iter().find(|of| of.width.is_none_or(|of| of == image.width()))?;
    let mut longest: Option<(u64, Vec<TableRecord>)> = None;
    let data = image.sections().iter();
    for section in data.filter(|section| !section.is_executable() && section.address != 0) {
        let mut at = 0;
        while at + layout.stride <= section.data.len() {
            let place = |at: usize| section.address + at as u64;
            let mut records: Vec<TableRecord> = Vec::new();
            let mut next = at;
            while let Some(bytes) = section.data.get(next..next + layout.stride)
                && let Some(Some(record)) = record(image, layout, place(next), bytes)
                && patched(image, &record, records.first())
            {
                records.push(record);
                next += layout.stride;
            }
            if records.len() >= SHORTEST
                && longest.as_ref().is_none_or(|(_, longest)| longest.len() < records.len())
            {
                longest = Some((place(at), records));
            }
            at = next.max(at + 4);
        }
    }
    let (address, records) = longest?;
    let name = format!("{} at {address:#x}", format.section);
    Some(KernelTable { kind: format.kind, name, stride: layout.stride, records })
}

/// Returns whether at a site stands a jump to the record's target, or a NOP as long as one.
fn jump_label_can_be(image: &Image<'_>, record: &TableRecord, _: Option<&TableRecord>) -> bool {
    let Some(code) = image.bytes_at(record.site, 5) else { return false };
    match *code {
        [0xe9, a, b, c, d] => {
            image.relative(record.site + 5, u32::from_le_bytes([a, b, c, d])) == record.other
        }
        [0xeb, distance, ..] => {
            let distance = i64::from(distance.cast_signed());
            (record.site + 2).wrapping_add_signed(distance) == record.other
        }
        _ => is_nop_of_5(code) || code.starts_with(&[0x66, 0x90]),
    }
}

/// Returns whether at a site stands a call as at the first site of the table, or a NOP.
fn tracer_call_can_be(
    image: &Image<'_>,
    record: &TableRecord,
    first: Option<&TableRecord>,
) -> bool {
    let target = |site: u64| match image.bytes_at(site, 5) {
        Some(&[0xe8, a, b, c, d]) => {
            Some(image.relative(site + 5, u32::from_le_bytes([a, b, c, d])))
        }
        Some(code) if is_nop_of_5(code) => Some(0),
        _ => None,
    };
    let Some(here) = target(record.site) else { return false };
    let there = first.and_then(|first| target(first.site));
    there.is_none_or(|there| here == 0 || there == 0 || here == there)
}

/// Returns whether at a site stands a direct call or jump to a trampoline, which has the instruction
/// `ud1 %esp, %ecx` behind its first five bytes.
fn static_call_can_be(image: &Image<'_>, record: &TableRecord, _: Option<&TableRecord>) -> bool {
    let Some(&[0xe8 | 0xe9, a, b, c, d]) = image.bytes_at(record.site, 5) else { return false };
    let target = image.relative(record.site + 5, u32::from_le_bytes([a, b, c, d]));
    image.bytes_at(target.wrapping_add(5), 3) == Some(&[0x0f, 0xb9, 0xcc])
}

/// Returns whether code is a NOP of five bytes as a compiler, an assembler or objtool writes it.
fn is_nop_of_5(code: &[u8]) -> bool {
    code.starts_with(&[0x0f, 0x1f, 0x44, 0, 0]) || code.starts_with(&[0x3e, 0x8d, 0x74, 0x26, 0])
}

/// Reads a table in the layout that fits it.
fn table(
    image: &Image<'_>,
    format: &Format,
    len: Option<u32>,
    name: &str,
    address: u64,
    bytes: &[u8],
) -> Result<KernelTable, FileError> {
    let fitting = |layout: &Layout| layout.width.is_none_or(|width| width == image.width());
    // Layouts of another length than the build's come last.
    let is_len = |layout: &&Layout| len.is_none_or(|len| layout.stride == len as usize);
    let layouts = || format.layouts.iter().filter(|layout| fitting(layout));
    let others = layouts().filter(|layout| !is_len(layout));
    let mut best: Option<(usize, u64, usize)> = None;
    for layout in layouts().filter(is_len).chain(others) {
        match records(image, layout, address, bytes) {
            Ok(records) => {
                let stride = layout.stride;
                return Ok(KernelTable {
                    kind: format.kind,
                    name: name.to_owned(),
                    stride,
                    records,
                });
            }
            Err((good, at)) if best.is_none_or(|(most, ..)| good >= most) => {
                best = Some((good, at, layout.stride));
            }
            Err(_) => {}
        }
    }
    let (good, at, stride) = best.unwrap_or_default();
    Err(FileError::new(format!(
        "{name} ({address:#x}, {:#x} bytes) has records in no layout that is known: with {stride} \
         bytes each, {good} make sense and the one at {at:#x} does not",
        bytes.len()
    )))
}

/// Reads records in a layout, or returns how many make sense and the address of the first that
/// does not.
fn records(
    image: &Image<'_>,
    layout: &Layout,
    address: u64,
    bytes: &[u8],
) -> Result<Vec<TableRecord>, (usize, u64)> {
    let mut records = Vec::with_capacity(bytes.len() / layout.stride);
    // What the last record must have; the padding behind its fields can be missing.
    let fields = layout.length.map_or(layout.stride, |length| length + 1).max(layout.stride - 4);
    for (at, bytes) in bytes.chunks(layout.stride).enumerate() {
        let place = address + (at * layout.stride) as u64;
        if at > 0 && bytes.len() < layout.stride && bytes.iter().all(|&byte| byte == 0) {
            // Zeros up to the alignment of what follows.
            break;
        }
        if bytes.len() < fields {
            return Err((at, place));
        }
        match record(image, layout, place, bytes) {
            Some(Some(record)) => records.push(record),
            // A table that is padded at its end, or an entry that the linker emptied.
            Some(None) => {}
            None => return Err((at, place)),
        }
    }
    Ok(records)
}

/// Reads a record. Returns `None` if it makes no sense in this layout, and `Some(None)` for one of
/// zeros in a table of nothing but sites.
fn record(
    image: &Image<'_>,
    layout: &Layout,
    place: u64,
    bytes: &[u8],
) -> Option<Option<TableRecord>> {
    let pointer = usize::try_from(image.width().pointer_size()).ok()?;
    let at = |field: AddressField| -> Option<u64> {
        let (offset, encoding) = field;
        let start = place + offset as u64;
        Some(match encoding {
            Encoding::Relative => {
                let number = little_endian(bytes.get(offset..offset + 4)?) as u32;
                image.relative(start, number)
            }
            Encoding::RelativeLong => {
                let number = little_endian(bytes.get(offset..offset + pointer)?);
                let sum = start.wrapping_add(number);
                if pointer == 4 { sum & 0xffff_ffff } else { sum }
            }
            Encoding::Absolute => little_endian(bytes.get(offset..offset + pointer)?),
        })
    };
    let byte = |offset: Option<usize>| match offset {
        Some(offset) => bytes.get(offset).copied(),
        None => Some(0),
    };
    if layout.stride <= 8 && bytes.iter().all(|&byte| byte == 0) {
        return Some(None);
    }
    let mut record = TableRecord {
        site: at(layout.site)?,
        length: byte(layout.length)?,
        other_length: byte(layout.other_length)?,
        padding: byte(layout.padding)?,
        ..TableRecord::default()
    };
    if let Some((offset, size)) = layout.number {
        record.number = little_endian(slice(bytes, offset as u64, size as u64)?) as u16;
    }
    if let Some(offset) = layout.flags {
        record.flags = little_endian(bytes.get(offset..offset + 2)?) as u16;
    }
    if let Some((field, Leads::ToText)) = layout.other {
        record.other = at(field)?;
    }
    if let Some((field, _)) = layout.third {
        let address = at(field)?;
        record.key = address & !3;
        record.key_flags = (address & 3) as u8;
    }
    makes_sense(image, layout, &record).then_some(Some(record))
}

/// Returns whether a record can be one: its site is in text with all of its length, what it leads
/// to is where it must be, and no length is larger than another that holds it.
fn makes_sense(image: &Image<'_>, layout: &Layout, record: &TableRecord) -> bool {
    let in_text = |address: u64, len: u8| {
        image.section_at(address).is_some_and(|section| {
            section.is_executable() && section.end() - address >= u64::from(len)
        })
    };
    if !in_text(record.site, record.length.max(1)) {
        return false;
    }
    if layout.other.is_some() {
        // A replacement of no bytes can lie at the end of its section.
        let is_empty = layout.other_length.is_some() && record.other_length == 0;
        if !is_empty && !in_text(record.other, record.other_length.max(1)) {
            return false;
        }
    }
    if layout.third.is_some() && image.section_at(record.key).is_none() {
        return false;
    }
    if layout.number.is_some_and(|(_, size)| size == 2) {
        // Bit 15 says NOT; there are fewer than 64 words of features.
        if record.number & 0x7fff >= 64 * 32 || record.flags > 0xff {
            return false;
        }
        if record.length == 0 || record.other_length > record.length {
            return false;
        }
    } else if layout.length.is_some() && record.length == 0 {
        return false;
    }
    record.padding <= record.length
}
