//! The checks of the object that an assembler made. An error is one sentence that names the
//! patchlet and the likely fix.

use std::collections::BTreeMap;

use object::read::elf::{ElfFile, ElfFile32, ElfFile64, ElfSection, FileHeader};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, SymbolFlags, SymbolKind, elf};

use super::places::{self, Places};
use super::target::TargetWidth;
use crate::labels::{self, Label};

/// The section that holds all patchlets of an object.
const SECTION: &str = ".rodata.patchlets";

/// The section that holds them instead if they are optional (`PATCHLET_OPTIONAL` in `patchlet.h`).
const OPTIONAL: &str = ".rodata.patchlets.optional";

/// The place of a patchlet in the section of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    /// The name between `patchlet_` and `_start`.
    name: String,
    /// Offset of the first byte in the section.
    start: u64,
    /// Offset of the first byte behind the patchlet.
    end: u64,
}

/// Checks a relocatable object for a target of this width.
///
/// # Errors
/// Returns the first defect, as a sentence.
pub(super) fn check(object: &[u8], width: TargetWidth) -> Result<(), String> {
    match width {
        TargetWidth::Bits32 => {
            check_elf(ElfFile32::<object::Endianness>::parse(object), elf::EM_386)
        }
        TargetWidth::Bits64 => {
            check_elf(ElfFile64::<object::Endianness>::parse(object), elf::EM_X86_64)
        }
    }
}

/// Checks an object that was parsed, or returns why it could not be parsed.
fn check_elf<'d, H: FileHeader<Endian = object::Endianness>>(
    file: object::Result<ElfFile<'d, H>>,
    machine: elf::Machine,
) -> Result<(), String> {
    let bits = if machine == elf::EM_386 { 32 } else { 64 };
    let wrong = |found: &str| {
        format!(
            "the assembler made {found} where the target needs a {bits}-bit x86 ELF object: \
             check that CC is a compiler for the target"
        )
    };
    let file = file.map_err(|error| wrong(&format!("something else ({error})")))?;
    let found = file.elf_header().e_machine(file.endian());
    if found != machine {
        return Err(wrong(&format!("an ELF object for machine {found}")));
    }
    let mut sections =
        file.sections().filter(|section| matches!(section.name(), Ok(SECTION | OPTIONAL)));
    let section = sections.next().filter(|section| section.size() > 0);
    if sections.next().is_some() {
        return Err(format!(
            "there are several sections {SECTION}, with different flags: \
             define patchlets by the macros of patchlet.h only"
        ));
    }
    let section = section.ok_or_else(|| {
        format!("no patchlet in it ({SECTION} is missing or empty): define one with PATCHLET(name)")
    })?;
    let object::SectionFlags::Elf { sh_flags: flags, .. } = section.flags() else {
        return Err(format!("{SECTION} has no ELF flags"));
    };
    if flags.intersects(elf::SHF_WRITE.with(elf::SHF_EXECINSTR)) || !flags.contains(elf::SHF_ALLOC)
    {
        return Err(format!(
            "{SECTION} has flags {:#x}, but must be allocated, read-only and not executable: \
             define patchlets by the macros of patchlet.h only",
            flags.0
        ));
    }

    let places = places::read(&file)?;
    let labels = collect_labels(&file, section.index(), &places)?;
    let ranges = pair_labels(labels, &places)?;
    check_coverage(&ranges, section.size())?;
    if section.align() > 1 {
        return Err(format!(
            "{SECTION} is aligned to {}, which would put bytes of no patchlet before it: take \
             .balign and .p2align away, and align inside a blob by PATCHLET_ALIGN",
            section.align()
        ));
    }
    let changes_bytes = |(_, relocation): &(u64, _)| !relocates_nothing(relocation);
    if let Some((offset, relocation)) = section.relocations().find(changes_bytes) {
        let name = ranges
            .iter()
            .find(|range| range.start <= offset && offset < range.end)
            .map_or("?", |range| range.name.as_str());
        return Err(describe_relocation(
            &file,
            name,
            &format!("at offset {offset:#x} of {SECTION}"),
            &relocation,
        ));
    }
    for range in &ranges {
        let len = range.end - range.start;
        if len > LONGEST {
            return Err(format!(
                "patchlet `{}` has {len} bytes, and one can have {LONGEST}: split it",
                range.name
            ));
        }
        match places.get(&range.name) {
            Some(places) => {
                let code = section.data_range(range.start, len).ok().flatten();
                places::check(&range.name, code.unwrap_or_default(), places)?;
            }
            None => compare_with_native(&file, &section, range)?,
        }
    }
    Ok(())
}

/// The largest length of a patchlet, in bytes: the index has 16 bits for it.
const LONGEST: u64 = 0xffff;

/// ENDBR64 (Intel SDM vol. 2A, "ENDBR64"), with which a 64-bit native function begins if indirect
/// branches are tracked. A patchlet does not: no indirect branch leads to a site.
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// ENDBR32 (Intel SDM vol. 2A, "ENDBR32"), the same on 32 bit.
const ENDBR32: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfb];

/// Checks that a patchlet has the bytes of its native function.
///
/// The native function is a second copy of the same lines in another section. An instruction that
/// depends on its address therefore has other bytes there, or a relocation. Checking the
/// patchlets' relocations alone would miss some: GNU as knows the distance between two
/// patchlets in one section and encodes a jump from one to the other without a relocation.
fn compare_with_native<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    section: &ElfSection<'d, '_, H>,
    Range { name, start, end }: &Range,
) -> Result<(), String> {
    let function = file.symbol_by_name(&format!("patchlet_native_{name}"));
    let text = function
        .and_then(|function| function.section_index())
        .and_then(|index| file.section_by_index(index).ok());
    let (Some(function), Some(text)) = (function, text) else {
        return Err(format!(
            "patchlet `{name}` has no native function: \
             define patchlets by the macros of patchlet.h only"
        ));
    };
    let (mut at, len) = (function.address(), end - start);
    if matches!(text.data_range(at, 4), Ok(Some(ENDBR64 | ENDBR32))) {
        at += 4;
    }
    let copy = at..at.saturating_add(len);
    let relocation = text
        .relocations()
        .find(|(at, relocation)| copy.contains(at) && !relocates_nothing(relocation));
    if let Some((_, relocation)) = relocation {
        return Err(describe_relocation(file, name, "in its native function", &relocation));
    }
    let copies = [section.data_range(*start, len), text.data_range(at, len)];
    if !matches!(copies, [Ok(Some(patchlet)), Ok(Some(native))] if patchlet == native) {
        return Err(format!(
            "patchlet `{name}` and its native function differ, though they come from the same \
             lines: a patchlet is copied elsewhere, so it can only use registers and constants"
        ));
    }
    Ok(())
}

/// Returns whether a relocation changes no byte, and only makes a linker keep one section with
/// another. patchlet.h puts such a relocation into each native function and each blob, to keep the
/// index.
fn relocates_nothing(relocation: &object::Relocation) -> bool {
    // The number of such a relocation is 0 on both machines.
    const _: () = assert!(elf::R_X86_64_NONE.0 == 0 && elf::R_386_NONE.0 == 0);
    matches!(relocation.flags(), RelocationFlags::Elf { r_type } if r_type.0 == 0)
}

/// Returns the error for a patchlet with a relocation: to which symbol, and where.
fn describe_relocation<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    name: &str,
    place: &str,
    relocation: &object::Relocation,
) -> String {
    let symbol = match relocation.target() {
        object::RelocationTarget::Symbol(index) => target_name(file, index),
        _ => None,
    };
    format!(
        "patchlet `{name}` has a relocation (to `{}`, {place}): \
         a patchlet is copied elsewhere, so it can only use registers and constants",
        symbol.unwrap_or("?")
    )
}

/// Returns the name of the symbol that a relocation refers to. A local label has no symbol in the
/// object; its relocation refers to the section, whose name is returned then.
fn target_name<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    index: object::SymbolIndex,
) -> Option<&'d str> {
    let symbol = file.symbol_by_index(index).ok()?;
    match symbol.name() {
        Ok("") => file.section_by_index(symbol.section_index()?).ok()?.name().ok(),
        name => name.ok(),
    }
}

/// The offsets of the labels `_start` and `_end` of each patchlet, by its name.
type Labels = BTreeMap<String, [Option<u64>; 2]>;

/// Collects the labels of all patchlets and checks that each is hidden, global and in
/// the section.
fn collect_labels<'d, H: FileHeader<Endian = object::Endianness>>(
    file: &ElfFile<'d, H>,
    section: object::SectionIndex,
    places: &Places,
) -> Result<Labels, String> {
    let of_places = places::labels(places);
    let mut labels = Labels::new();
    // An undefined symbol refers to a patchlet in another object.
    for symbol in file.symbols().filter(|symbol| !symbol.is_undefined()) {
        let label = symbol.name().unwrap_or_default();
        if of_places.iter().any(|place| place == label) {
            continue;
        }
        let is_function = symbol.kind() == SymbolKind::Text;
        let (side, name) = match labels::label(label, is_function) {
            Some((Label::Start, name)) => (0, name),
            Some((Label::End, name)) => (1, name),
            Some((Label::Native, _)) | None => continue,
        };
        if symbol.section_index() != Some(section) {
            return Err(format!(
                "label `{label}` of patchlet `{name}` is not in {SECTION}: \
                 define patchlets by the macros of patchlet.h only"
            ));
        }
        let hidden = matches!(symbol.flags(), SymbolFlags::Elf { st_other, .. }
            if st_other.visibility() == elf::STV_HIDDEN);
        if !symbol.is_global() || !hidden {
            return Err(format!(
                "label `{label}` of patchlet `{name}` must be global and hidden: \
                 define patchlets by the macros of patchlet.h only"
            ));
        }
        labels.entry(name.to_owned()).or_default()[side] = Some(symbol.address());
    }
    Ok(labels)
}

/// Makes a range of each pair of labels. Returns them sorted by start.
fn pair_labels(labels: Labels, places: &Places) -> Result<Vec<Range>, String> {
    let mut ranges = Vec::new();
    for (name, pair) in labels {
        let of_blob = if places.contains_key(&name) { "_BLOB" } else { "" };
        let (start, end) = match pair {
            [Some(start), Some(end)] => (start, end),
            [None, _] => {
                return Err(format!(
                    "patchlet `{name}` has an end but no start: is PATCHLET{of_blob}({name}) missing?"
                ));
            }
            [_, None] => {
                return Err(format!(
                    "patchlet `{name}` has a start but no end: is END_PATCHLET{of_blob}({name}) missing?"
                ));
            }
        };
        if start > end {
            return Err(format!(
                "the labels of patchlet `{name}` are swapped: its end is at {end:#x}, before its start at {start:#x}"
            ));
        }
        if start == end {
            return Err(format!(
                "patchlet `{name}` is empty: put an instruction between its two macros"
            ));
        }
        ranges.push(Range { name, start, end });
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    Ok(ranges)
}

/// Checks that every byte of the section belongs to exactly one patchlet.
fn check_coverage(ranges: &[Range], size: u64) -> Result<(), String> {
    let mut at = 0;
    let mut before = "the start of the section".to_owned();
    for Range { name, start, end } in ranges {
        if *start > at {
            return Err(format!(
                "{} byte(s) between {before} and patchlet `{name}` belong to no patchlet \
                 (offsets {at:#x}..{start:#x} of {SECTION}): remove the alignment or data there",
                start - at
            ));
        }
        if *start < at {
            return Err(format!(
                "patchlet `{name}` at {start:#x}..{end:#x} overlaps {before}, which ends at {at:#x}: \
                 is an END_PATCHLET missing?"
            ));
        }
        at = *end;
        before = format!("patchlet `{name}`");
    }
    if at != size {
        return Err(format!(
            "{} byte(s) behind {before} belong to no patchlet \
             (offsets {at:#x}..{size:#x} of {SECTION}): remove the alignment or data there",
            size - at
        ));
    }
    Ok(())
}
