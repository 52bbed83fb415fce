//! Relocations: the places to which a linker or loader writes, and the values.

use object::elf;
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, SectionTable, Sym};
use object::{LittleEndian, SectionIndex};

use super::image::{ENDIAN, Image};
use super::section::{Relocation, little_endian};
use crate::insn::Width;
use crate::inspect::error::FileError;

/// An entry of a section of relocations, of the form `Rel` or `Rela`.
struct RelocationEntry {
    address: u64,
    kind: elf::RelocationType,
    symbol: u32,
    /// The addend of a `Rela`. `None` for a `Rel`, whose addend is in the place to be relocated.
    addend: Option<i64>,
}

/// Returns the relocations of the loaded sections, sorted by address. A linked file has the
/// relocations that its loader applies, and may also have those that the linker has applied
/// and kept (`--emit-relocs`).
pub(super) fn read<'d, H: FileHeader<Endian = LittleEndian>>(
    data: &'d [u8],
    table: &SectionTable<'d, H>,
    image: &Image<'d>,
) -> Result<Vec<Relocation>, FileError> {
    let mut list = Vec::new();
    for (index, header) in table.enumerate() {
        let dynamic = header.sh_flags(ENDIAN).contains(elf::SHF_ALLOC);
        let target = usize::try_from(header.sh_info(ENDIAN)).unwrap_or(usize::MAX);
        if !dynamic && image.section(target).is_none() {
            continue;
        }
        let bad = |error: object::Error| {
            FileError::new(format!("unusable relocations in section {}: {error}", index.0))
        };
        if let Some((entries, link)) = header.rela(ENDIAN, data).map_err(bad)? {
            let symbols = symbols_of(data, table, link);
            list.extend(entries.iter().map(|entry| {
                let entry = RelocationEntry {
                    address: entry.r_offset(ENDIAN).into(),
                    kind: entry.r_type(ENDIAN, false),
                    symbol: entry.r_sym(ENDIAN, false),
                    addend: Some(entry.r_addend(ENDIAN).into()),
                };
                relocation(image, symbols, dynamic, &entry)
            }));
        }
        if let Some((entries, link)) = header.rel(ENDIAN, data).map_err(bad)? {
            let symbols = symbols_of(data, table, link);
            list.extend(entries.iter().map(|entry| {
                let entry = RelocationEntry {
                    address: entry.r_offset(ENDIAN).into(),
                    kind: entry.r_type(ENDIAN),
                    symbol: entry.r_sym(ENDIAN),
                    addend: None,
                };
                relocation(image, symbols, dynamic, &entry)
            }));
        }
        if let Some(addresses) = header.relr(ENDIAN, data).map_err(bad)? {
            for address in addresses {
                // SHT_RELR packs up to 63 relocations into one word, so a small file could make
                // this list very large. A real file has at most one for each of its pointers.
                if list.len() > data.len() / 4 {
                    return Err(FileError::new(format!(
                        "section {}: more relocations than the file has pointers",
                        index.0
                    )));
                }
                // SHT_RELR has no value: the addend is in the place to be relocated.
                let address = address.into();
                list.push(Relocation { address, dynamic, absolute: true, value: None });
            }
        }
    }
    let same = |of: &Relocation| (of.address, of.dynamic, of.absolute);
    // Of several relocations of one kind at one place, keep one whose value is known.
    list.sort_by_key(|relocation| (same(relocation), relocation.value.is_none()));
    list.dedup_by_key(|relocation| same(relocation));
    Ok(list)
}

fn relocation<S: Sym<Endian = LittleEndian>>(
    image: &Image<'_>,
    symbols: &[S],
    dynamic: bool,
    entry: &RelocationEntry,
) -> Relocation {
    let absolute = is_absolute(image.width(), entry.kind);
    let value = || {
        let value = symbol_value(symbols, entry.symbol)?;
        let sum = match entry.addend {
            Some(addend) => value.wrapping_add_signed(addend),
            None => {
                let bytes = image.bytes_at(entry.address, image.width().pointer_size())?;
                value.wrapping_add(little_endian(bytes))
            }
        };
        Some(match image.width() {
            Width::Bits32 => sum & u64::from(u32::MAX),
            Width::Bits64 => sum,
        })
    };
    let value = if dynamic && absolute { value() } else { None };
    Relocation { address: entry.address, dynamic, absolute, value }
}

/// Returns the symbols that a section of relocations refers to.
fn symbols_of<'d, H: FileHeader<Endian = LittleEndian>>(
    data: &'d [u8],
    table: &SectionTable<'d, H>,
    link: SectionIndex,
) -> &'d [H::Sym] {
    let section = table.section(link).ok();
    section.and_then(|section| section.data_as_array(ENDIAN, data).ok()).unwrap_or_default()
}

/// Returns the value of the symbol number `index`, or `None` if it is undefined. Number 0 means
/// that the relocation has no symbol; its value is 0.
fn symbol_value<S: Sym<Endian = LittleEndian>>(symbols: &[S], index: u32) -> Option<u64> {
    if index == 0 {
        return Some(0);
    }
    let symbol = symbols.get(usize::try_from(index).ok()?)?;
    (symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF).then(|| symbol.st_value(ENDIAN).into())
}

/// Returns whether a relocation of this kind writes a value that depends on the address at which
/// the file is loaded.
fn is_absolute(width: Width, kind: elf::RelocationType) -> bool {
    match width {
        Width::Bits32 => matches!(kind, elf::R_386_32 | elf::R_386_RELATIVE),
        Width::Bits64 => matches!(
            kind,
            elf::R_X86_64_64 | elf::R_X86_64_RELATIVE | elf::R_X86_64_32 | elf::R_X86_64_32S
        ),
    }
}
