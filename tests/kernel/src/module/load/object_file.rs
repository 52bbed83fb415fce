//! The object as it stands in the file.

use core::str;

use object::{
    LittleEndian, SectionIndex, SymbolIndex, elf,
    read::elf::{FileHeader, Rel, Rela, SectionHeader, SectionTable, Sym, SymbolTable},
};

use super::{error::LoadError, layout::Layout};

const ENDIAN: LittleEndian = LittleEndian;

/// A relocatable object.
pub struct ObjectFile<'d, E: FileHeader> {
    file: &'d [u8],
    sections: SectionTable<'d, E>,
    symbols: SymbolTable<'d, E>,
}

/// A section that is loaded, or one that is relocated.
#[derive(Clone, Copy)]
pub struct Section<'d> {
    pub index: usize,
    pub name: &'d str,
    pub flags: elf::SectionFlags,
    /// The bytes in the file; none, if the section is all zeros.
    pub data: &'d [u8],
    pub size: u64,
    pub alignment: u64,
}

/// A field that the linker left open.
pub struct Relocation<'d> {
    pub section: Section<'d>,
    /// Where the field is, from the start of the section.
    pub offset: u64,
    pub kind: u32,
    pub symbol: usize,
    /// What is added to the symbol's value; `None` if that stands in the field.
    pub addend: Option<i64>,
}

fn malformed<'d>(what: &'static str) -> impl FnOnce(object::Error) -> LoadError<'d> {
    move |_| LoadError::Malformed(what)
}

impl<'d, E: FileHeader<Endian = LittleEndian>> ObjectFile<'d, E> {
    pub fn parse(file: &'d [u8]) -> Result<Self, LoadError<'d>> {
        let header = E::parse(file).map_err(malformed("header"))?;
        let machine = if E::is_type_64_sized() { elf::EM_X86_64 } else { elf::EM_386 };
        if header.e_type(ENDIAN) != elf::ET_REL || header.e_machine(ENDIAN) != machine {
            return Err(LoadError::Malformed("type or machine"));
        }
        let sections = header.sections(ENDIAN, file).map_err(malformed("sections"))?;
        let symbols =
            sections.symbols(ENDIAN, file, elf::SHT_SYMTAB).map_err(malformed("symbols"))?;
        let object = Self { file, sections, symbols };
        for (index, _) in object.all_sections() {
            object.section(index)?;
        }
        Ok(object)
    }

    fn section(&self, index: SectionIndex) -> Result<Section<'d>, LoadError<'d>> {
        let header = self.sections.section(index).map_err(malformed("section index"))?;
        let name = self.sections.section_name(ENDIAN, header).map_err(malformed("section name"))?;
        Ok(Section {
            index: index.0,
            name: str::from_utf8(name).map_err(|_| LoadError::Malformed("section name"))?,
            flags: header.sh_flags(ENDIAN),
            data: header.data(ENDIAN, self.file).map_err(malformed("section data"))?,
            size: header.sh_size(ENDIAN).into(),
            alignment: header.sh_addralign(ENDIAN).into().max(1),
        })
    }

    fn all_sections(&self) -> impl Iterator<Item = (SectionIndex, &'d E::SectionHeader)> {
        // The first entry of the table stands for no section.
        self.sections.enumerate().skip(1)
    }

    /// Returns the number of sections, with those that are not loaded.
    pub fn section_count(&self) -> usize {
        self.sections.len()
    }

    /// Returns the sections that are loaded, with their indices.
    pub fn sections(&self) -> impl Iterator<Item = (usize, Section<'d>)> {
        // `parse` has read each one.
        let all = self.all_sections().filter_map(|(index, _)| self.section(index).ok());
        all.filter(|section| section.flags.contains(elf::SHF_ALLOC))
            .map(|section| (section.index, section))
    }

    /// Calls `apply` for each field that the linker left open.
    pub fn relocations(
        &self,
        mut apply: impl FnMut(Relocation<'d>) -> Result<(), LoadError<'d>>,
    ) -> Result<(), LoadError<'d>> {
        for header in self.sections.iter() {
            let bad = "relocations";
            let rela = header.rela(ENDIAN, self.file).map_err(malformed(bad))?;
            let rel = header.rel(ENDIAN, self.file).map_err(malformed(bad))?;
            if rela.is_none() && rel.is_none() {
                continue;
            }
            let section = self.section(header.info_link(ENDIAN))?;
            for rela in rela.map_or(&[][..], |(all, _)| all) {
                apply(Relocation {
                    section,
                    offset: rela.r_offset(ENDIAN).into(),
                    kind: rela.r_type(ENDIAN, false).0,
                    symbol: rela.r_sym(ENDIAN, false) as usize,
                    addend: Some(rela.r_addend(ENDIAN).into()),
                })?;
            }
            for rel in rel.map_or(&[][..], |(all, _)| all) {
                apply(Relocation {
                    section,
                    offset: rel.r_offset(ENDIAN).into(),
                    kind: rel.r_type(ENDIAN).0,
                    symbol: rel.r_sym(ENDIAN) as usize,
                    addend: None,
                })?;
            }
        }
        Ok(())
    }

    /// Returns the value of the symbol of this index.
    pub fn symbol_value(
        &self,
        index: usize,
        layout: &Layout,
        resolve: impl Fn(&str) -> Option<u64>,
    ) -> Result<u64, LoadError<'d>> {
        if index == 0 {
            return Ok(0);
        }
        let symbol = self.symbols.symbol(SymbolIndex(index)).map_err(malformed("symbol index"))?;
        if symbol.is_undefined(ENDIAN) {
            let name =
                self.symbols.symbol_name(ENDIAN, symbol).map_err(malformed("symbol name"))?;
            let name = str::from_utf8(name).map_err(|_| LoadError::Malformed("symbol name"))?;
            return resolve(name).ok_or(LoadError::UnknownSymbol(name));
        }
        self.value(SymbolIndex(index), symbol, layout).ok_or(LoadError::Malformed("symbol"))
    }

    /// Returns the value of a symbol that the object defines.
    fn value(&self, index: SymbolIndex, symbol: &E::Sym, layout: &Layout) -> Option<u64> {
        let value = symbol.st_value(ENDIAN).into();
        if symbol.st_shndx(ENDIAN) == elf::SHN_ABS {
            return Some(value);
        }
        let section = self.symbols.symbol_section(ENDIAN, symbol, index).ok()??;
        Some(layout.address(section.0)?.wrapping_add(value))
    }

    /// Returns the address of the global symbol of this name that the object defines.
    pub fn defined_symbol(&self, name: &str, layout: &Layout) -> Option<u64> {
        let mut all = self.symbols.enumerate();
        let (index, symbol) = all.find(|(_, symbol)| {
            symbol.st_bind() == elf::STB_GLOBAL
                && self.symbols.symbol_name(ENDIAN, symbol) == Ok(name.as_bytes())
        })?;
        self.value(index, symbol, layout)
    }
}
