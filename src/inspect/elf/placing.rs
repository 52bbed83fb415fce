//! The sections, symbols and open fields of a module that is being placed, and the copy of its file
//! that they are filled into.

use std::ops::Range;

use object::elf::{self, RelocationType};
use object::read::elf::{FileHeader, Rel, Rela, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{LittleEndian, SymbolIndex};

use super::image::ENDIAN;
use super::section::slice;
use crate::inspect::error::FileError;

/// The address of the first section. None of the kernel's.
const BASE: u64 = 0x10_0000;

/// The room that each symbol of the kernel gets at most, in bytes: that of a table with as many
/// slots as an index can number.
const ROOM: u64 = 8 << 16;

/// The room of all of them together. With the module they stay within the reach of 32-bit
/// displacements.
const ALL_ROOM: u64 = 1 << 30;

fn damaged(what: &'static str) -> impl Fn(object::Error) -> FileError {
    move |error| FileError::new(format!("unusable {what}: {error}"))
}

/// The offsets of the fields that are changed, in a header of a section and in a symbol. (gABI,
/// "Sections" and "Symbol Table")
struct Fields {
    word: usize,
    flags: usize,
    address: usize,
    size: usize,
    symbol_info: usize,
    symbol_section: usize,
    symbol_value: usize,
    symbol_size: usize,
}

const FIELDS_32: Fields = Fields {
    word: 4,
    flags: 8,
    address: 12,
    size: 20,
    symbol_info: 12,
    symbol_section: 14,
    symbol_value: 4,
    symbol_size: 8,
};

const FIELDS_64: Fields = Fields {
    word: 8,
    flags: 8,
    address: 16,
    size: 32,
    symbol_info: 4,
    symbol_section: 6,
    symbol_value: 8,
    symbol_size: 16,
};

/// Offset of the type in a header of a section, and of that of the file.
const SECTION_TYPE: usize = 4;
pub(super) const FILE_TYPE: usize = 16;

/// A field that the linker left open.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenField {
    /// Number of the section that it is in, its offset there, and that in the file.
    pub section: usize,
    pub offset: u64,
    at: u64,
    /// Size in bytes.
    pub len: u64,
    /// Whether it counts from its own address.
    pub relative: bool,
    /// Number of the symbol, and what is added to its value.
    pub symbol: usize,
    pub addend: i64,
}

impl OpenField {
    /// Returns what is in the field if its section is at `address`, and the symbol at `symbol`.
    pub(super) fn value(&self, address: u64, symbol: u64) -> u64 {
        let place = if self.relative { address.wrapping_add(self.offset) } else { 0 };
        symbol.wrapping_add_signed(self.addend).wrapping_sub(place)
    }

    /// Returns the value of the symbol if this is in the field.
    pub(super) fn symbol_of(&self, address: u64, value: u64) -> u64 {
        let place = if self.relative { address.wrapping_add(self.offset) } else { 0 };
        value.wrapping_add(place).wrapping_add_signed(self.addend.wrapping_neg())
    }
}

/// Returns the size of a field with a relocation of this type, and whether it counts from its own
/// address.
fn shape<E: FileHeader<Endian = LittleEndian>>(kind: RelocationType) -> Option<(u64, bool)> {
    Some(match kind {
        elf::R_X86_64_64 if E::is_type_64_sized() => (8, false),
        elf::R_X86_64_32 | elf::R_X86_64_32S if E::is_type_64_sized() => (4, false),
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 if E::is_type_64_sized() => (4, true),
        elf::R_X86_64_PC64 if E::is_type_64_sized() => (8, true),
        elf::R_386_32 if !E::is_type_64_sized() => (4, false),
        elf::R_386_PC32 | elf::R_386_PLT32 if !E::is_type_64_sized() => (4, true),
        _ => return None,
    })
}

/// A module that is being placed.
pub(super) struct Placing<'d, E: FileHeader<Endian = LittleEndian>> {
    pub(super) object: &'d [u8],
    pub(super) sections: SectionTable<'d, E>,
    pub(super) symbols: SymbolTable<'d, E>,
    fields: &'static Fields,
    /// Offset of the table of sections in the file.
    section_table: u64,
    /// The address of each section that is loaded.
    pub(super) addresses: Vec<Option<u64>>,
    /// Where the kernel's symbols are.
    pub(super) outside: Range<u64>,
    /// The address of each symbol.
    pub(super) values: Vec<u64>,
    /// The room of each symbol of the kernel.
    room: u64,
    file: Vec<u8>,
}

impl<'d, E: FileHeader<Endian = LittleEndian>> Placing<'d, E> {
    /// Reads the tables of an object.
    pub(super) fn new(object: &'d [u8]) -> Result<Self, FileError> {
        let header = E::parse(object).map_err(damaged("ELF header"))?;
        if header.e_type(ENDIAN) != elf::ET_REL {
            return Err(FileError::new(
                "not a relocatable object: a module is linked by `ld -r`; give a linked file without \
             --module",
            ));
        }
        let sections = header.sections(ENDIAN, object).map_err(damaged("section headers"))?;
        let symbols =
            sections.symbols(ENDIAN, object, elf::SHT_SYMTAB).map_err(damaged("symbols"))?;
        Ok(Self {
            object,
            sections,
            symbols,
            fields: if E::is_type_64_sized() { &FIELDS_64 } else { &FIELDS_32 },
            section_table: header.e_shoff(ENDIAN).into(),
            addresses: vec![],
            outside: 0..0,
            values: vec![],
            room: ROOM,
            file: object.to_vec(),
        })
    }

    /// Finds an address for each section that is loaded.
    pub(super) fn lay_out(&mut self) -> Result<(), FileError> {
        let mut next = BASE;
        for section in self.sections.iter() {
            let flags = section.sh_flags(ENDIAN);
            let is_loaded = flags.contains(elf::SHF_ALLOC) && !flags.contains(elf::SHF_TLS);
            let alignment: u64 = section.sh_addralign(ENDIAN).into();
            let size: u64 = section.sh_size(ENDIAN).into();
            if is_loaded {
                let alignment = alignment.max(1);
                let address = next.checked_next_multiple_of(alignment);
                let end = address.and_then(|address| address.checked_add(size));
                let (Some(address), Some(end @ 0..ALL_ROOM)) = (address, end) else {
                    return Err(FileError::new(format!(
                        "a section has {size:#x} bytes, aligned to {alignment:#x}: no module is that \
                         large"
                    )));
                };
                self.addresses.push(Some(address));
                next = end;
            } else {
                self.addresses.push(None);
            }
        }
        let start = next.next_multiple_of(ROOM);
        self.outside = start..start;
        Ok(())
    }

    /// Finds an address for each symbol.
    pub(super) fn find_symbols(&mut self) -> Result<(), FileError> {
        let is_outside =
            |symbol: &E::Sym| symbol.is_undefined(ENDIAN) && symbol.st_name(ENDIAN) != 0;
        let count = self.symbols.iter().filter(|symbol| is_outside(symbol)).count() as u64;
        self.room = (ALL_ROOM / count.max(1)).min(ROOM) & !0xfff;
        for (index, symbol) in self.symbols.enumerate() {
            let value: u64 = symbol.st_value(ENDIAN).into();
            let address = if is_outside(symbol) {
                let address = self.outside.end;
                self.outside.end += self.room;
                address
            } else {
                let section = self.section_of(index, symbol)?;
                section.map_or(value, |address| address.wrapping_add(value))
            };
            self.values.push(address);
        }
        Ok(())
    }

    /// Returns the address of the section that a symbol is in, if that is loaded.
    pub(super) fn section_of(
        &self,
        index: SymbolIndex,
        symbol: &E::Sym,
    ) -> Result<Option<u64>, FileError> {
        let section =
            self.symbols.symbol_section(ENDIAN, symbol, index).map_err(damaged("symbol"))?;
        Ok(section.and_then(|section| self.addresses.get(section.0).copied().flatten()))
    }

    /// Returns the fields that the linker left open. One of an unknown type is left out: nothing
    /// that the macros of patchlet emit has one.
    pub(super) fn open_fields(&self) -> Result<Vec<OpenField>, FileError> {
        let mut fields = vec![];
        for section in self.sections.iter() {
            let target = section.info_link(ENDIAN);
            let Some(Some(_)) = self.addresses.get(target.0) else { continue };
            let bad = damaged("relocations");
            let rela = section.rela(ENDIAN, self.object).map_err(&bad)?;
            let rel = section.rel(ENDIAN, self.object).map_err(&bad)?;
            if rela.is_none() && rel.is_none() {
                continue;
            }
            let relocated = self.sections.section(target).map_err(&bad)?;
            let Some((start, size)) = relocated.file_range(ENDIAN) else { continue };
            let mut add = |kind, symbol: u32, addend: Option<i64>, offset: u64| {
                let Some((len, relative)) = shape::<E>(kind) else { return Ok(()) };
                let end = offset.checked_add(len).filter(|&end| end <= size);
                let in_file = end.and_then(|_| slice(self.object, start.checked_add(offset)?, len));
                let Some(in_file) = in_file else {
                    return Err(FileError::new(format!(
                        "a relocation is at offset {offset:#x} of a section of {size:#x} bytes"
                    )));
                };
                let addend = addend.unwrap_or_else(|| match *in_file {
                    [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
                    _ => 0,
                });
                let symbol = symbol as usize;
                let section = target.0;
                let at = start + offset;
                fields.push(OpenField { section, offset, at, len, relative, symbol, addend });
                Ok(())
            };
            for rela in rela.map_or(&[][..], |(all, _)| all) {
                let kind = rela.r_type(ENDIAN, false);
                let addend = Some(rela.r_addend(ENDIAN).into());
                add(kind, rela.r_sym(ENDIAN, false), addend, rela.r_offset(ENDIAN).into())?;
            }
            for rel in rel.map_or(&[][..], |(all, _)| all) {
                let offset = rel.r_offset(ENDIAN).into();
                add(rel.r_type(ENDIAN), rel.r_sym(ENDIAN), None, offset)?;
            }
        }
        Ok(fields)
    }

    /// Fills in the fields that the linker left open.
    pub(super) fn relocate(&mut self) -> Result<(), FileError> {
        for field in self.open_fields()? {
            let Some(&Some(address)) = self.addresses.get(field.section) else { continue };
            let symbol = self.values.get(field.symbol).copied().unwrap_or(0);
            let value = field.value(address, symbol).to_le_bytes();
            let bytes = usize::try_from(field.at).ok().and_then(|at| self.file.get_mut(at..));
            let len = usize::try_from(field.len).unwrap_or(0);
            for (byte, &new) in bytes.unwrap_or_default().iter_mut().zip(&value).take(len) {
                *byte = new;
            }
        }
        Ok(())
    }

    /// Makes the copy look like a linked file.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Range<u64>), FileError> {
        let fields = self.fields;
        let header_size = if E::is_type_64_sized() { 64 } else { 40 };
        let mut outside_section = None;
        for (index, section) in self.sections.enumerate() {
            let header = self.section_table as usize + index.0 * header_size;
            if let Some(&Some(address)) = self.addresses.get(index.0) {
                self.put(header + fields.address, fields.word, address);
            }
            let kind = section.sh_type(ENDIAN);
            if kind != elf::SHT_RELA && kind != elf::SHT_REL {
                continue;
            }
            // The relocations are applied. In the place of the first of their sections comes one for
            // the kernel's symbols.
            let is_first = outside_section.is_none() && !self.outside.is_empty();
            let new = if is_first { elf::SHT_NOBITS } else { elf::SHT_NULL };
            self.put(header + SECTION_TYPE, 4, new.0.into());
            if is_first {
                outside_section = Some(index.0 as u64);
                let flags = elf::SHF_ALLOC.0 | elf::SHF_WRITE.0;
                self.put(header + fields.flags, fields.word, flags);
                self.put(header + fields.address, fields.word, self.outside.start);
                let size = self.outside.end - self.outside.start;
                self.put(header + fields.size, fields.word, size);
            }
        }
        let table = self.sections.section(self.symbols.section()).map_err(damaged("symbols"));
        let table: u64 = if self.symbols.is_empty() { 0 } else { table?.sh_offset(ENDIAN).into() };
        let symbol_size = if E::is_type_64_sized() { 24 } else { 16 };
        for (index, &value) in self.values.clone().iter().enumerate() {
            let symbol = table as usize + index * symbol_size;
            self.put(symbol + fields.symbol_value, fields.word, value);
            if self.outside.contains(&value) {
                const GLOBAL_OBJECT: u64 = 1 << 4 | 1;
                self.put(symbol + fields.symbol_info, 1, GLOBAL_OBJECT);
                self.put(symbol + fields.symbol_section, 2, outside_section.unwrap_or(0));
                self.put(symbol + fields.symbol_size, fields.word, self.room);
            }
        }
        self.put(FILE_TYPE, 2, elf::ET_EXEC.0.into());
        Ok((self.file, self.outside))
    }

    /// Writes a number of so many bytes, at an offset in the file.
    fn put(&mut self, at: usize, bytes: usize, value: u64) {
        let Some(field) = self.file.get_mut(at..at + bytes) else { return };
        for (byte, new) in field.iter_mut().zip(value.to_le_bytes()) {
            *byte = new;
        }
    }
}
