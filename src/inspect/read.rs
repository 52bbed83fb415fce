//! ELF, by the crate `object` → [`Image`]. Everything that is not as it must be
//! for any use of the file is refused here, so that nothing behind this has to
//! fear a number.

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Rel, Rela, SectionHeader, SectionTable, Sym};
use object::{LittleEndian, SectionIndex, SymbolIndex};

use super::error::Error;
use super::image::{FileKind, Image, Relocation, Section, Segment, little_endian, slice};
use super::symbols::{Symbol, SymbolKind, Symbols};
use crate::insn::Width;

const ENDIAN: LittleEndian = LittleEndian;

/// Reads an ELF file: object, executable, or static PIE; x86, 32 or 64 bit.
///
/// # Errors
/// What the file is instead, or which of its fields is wrong.
pub fn parse(data: &[u8]) -> Result<Image<'_>, Error> {
    if !data.starts_with(&elf::ELFMAG) {
        let start = data.get(..4).unwrap_or(data);
        return Err(Error::new(format!("not an ELF file: it starts with the bytes {start:02x?}")));
    }
    match (data.get(4), data.get(5)) {
        (_, Some(2)) => Err(Error::new("big-endian (byte 5 is 2): x86 is little-endian")),
        (_, Some(&other)) if other != 1 => {
            Err(Error::new(format!("byte 5 (endianness) is {other}, which no ELF file has")))
        }
        (Some(1), Some(1)) => Reader::<FileHeader32<LittleEndian>>::new(data)?.image(Width::Bits32),
        (Some(2), Some(1)) => Reader::<FileHeader64<LittleEndian>>::new(data)?.image(Width::Bits64),
        (Some(&class), Some(_)) => {
            Err(Error::new(format!("byte 4 (class) is {class}, which no ELF file has")))
        }
        _ => Err(truncated(data)),
    }
}

fn truncated(data: &[u8]) -> Error {
    Error::new(format!("truncated: {} bytes are too few for an ELF header", data.len()))
}

struct Reader<'d, H: FileHeader<Endian = LittleEndian>> {
    data: &'d [u8],
    header: &'d H,
    table: SectionTable<'d, H>,
}

impl<'d, H: FileHeader<Endian = LittleEndian>> Reader<'d, H> {
    fn new(data: &'d [u8]) -> Result<Self, Error> {
        let header = H::parse(data).map_err(|error| match data.len() {
            0..64 => truncated(data),
            _ => Error::new(format!("unusable ELF header: {error}")),
        })?;
        let table = header.sections(ENDIAN, data).map_err(|error| {
            let at: u64 = header.e_shoff(ENDIAN).into();
            let count = header.e_shnum(ENDIAN);
            Error::new(format!(
                "unusable section headers ({count} at offset {at:#x} of a file of {} bytes): {error}",
                data.len()
            ))
        })?;
        Ok(Self { data, header, table })
    }

    fn image(&self, width: Width) -> Result<Image<'d>, Error> {
        let machine = self.header.e_machine(ENDIAN);
        let (wanted, bits) = match width {
            Width::Bits32 => (elf::EM_386, 32),
            Width::Bits64 => (elf::EM_X86_64, 64),
        };
        if machine != wanted {
            return Err(Error::new(format!(
                "a {bits}-bit ELF file for machine {}: {bits}-bit x86 is machine {}",
                machine.0, wanted.0
            )));
        }
        let kind = match self.header.e_type(ENDIAN) {
            elf::ET_REL => FileKind::Object,
            elf::ET_EXEC => FileKind::Executable,
            elf::ET_DYN => FileKind::PositionIndependent,
            other => {
                return Err(Error::new(format!(
                    "an ELF file of type {}: neither an object (1) nor linked (2, 3)",
                    other.0
                )));
            }
        };
        if self.table.len() <= 1 {
            return Err(Error::new(
                "no section headers: they were stripped, and patchlets and sites are found by them",
            ));
        }
        let sections = self.sections(kind)?;
        let by_address = if kind == FileKind::Object { vec![] } else { by_address(&sections)? };
        let mut image = Image {
            width,
            kind,
            entry: self.header.e_entry(ENDIAN).into(),
            sections,
            by_address,
            segments: self.segments()?,
            symbols: self.symbols()?,
            relocations: vec![],
        };
        image.relocations = self.relocations(&image)?;
        Ok(image)
    }

    /// The loaded sections, each checked against the size of the file.
    fn sections(&self, kind: FileKind) -> Result<Vec<Section<'d>>, Error> {
        let mut sections = Vec::new();
        for (index, header) in self.table.enumerate() {
            let flags = header.sh_flags(ENDIAN).0;
            let tls = elf::SHF_TLS.0;
            let nobits = header.sh_type(ENDIAN) == elf::SHT_NOBITS;
            // .tbss has an address but no memory there.
            if flags & Section::ALLOC == 0 || (nobits && flags & tls != 0) {
                continue;
            }
            let name = self.section_name(index, header)?;
            let (address, size): (u64, u64) =
                (header.sh_addr(ENDIAN).into(), header.sh_size(ENDIAN).into());
            let offset: u64 = header.sh_offset(ENDIAN).into();
            if kind != FileKind::Object && address.checked_add(size).is_none() {
                return Err(Error::new(format!(
                    "section {name} ({address:#x}, {size:#x} bytes) reaches beyond the last address"
                )));
            }
            let data =
                if nobits { Some(Default::default()) } else { slice(self.data, offset, size) };
            let data = data.ok_or_else(|| {
                Error::new(format!(
                    "section {name} ({size:#x} bytes at offset {offset:#x}) is not inside the file of \
                     {:#x} bytes: truncated?",
                    self.data.len()
                ))
            })?;
            sections.push(Section { name, index: index.0, address, size, offset, flags, data });
        }
        no_shared_bytes(&sections)?;
        Ok(sections)
    }

    fn section_name(
        &self,
        index: SectionIndex,
        header: &H::SectionHeader,
    ) -> Result<&'d str, Error> {
        let bad = |why: &str| {
            let at = header.sh_name(ENDIAN);
            Error::new(format!("section {} has no usable name (at {at:#x}): {why}", index.0))
        };
        let name =
            self.table.section_name(ENDIAN, header).map_err(|error| bad(&error.to_string()))?;
        // A table of names without an end of a name would cost quadratic time.
        if name.len() > 1024 {
            return Err(bad("longer than 1024 bytes"));
        }
        let name = str::from_utf8(name).map_err(|_| bad("not UTF-8"))?;
        if name.contains(char::is_control) {
            return Err(bad("there are control characters in it"));
        }
        Ok(name)
    }

    fn segments(&self) -> Result<Vec<Segment>, Error> {
        let headers = self.header.program_headers(ENDIAN, self.data).map_err(|error| {
            let at: u64 = self.header.e_phoff(ENDIAN).into();
            Error::new(format!("unusable program headers (at offset {at:#x}): {error}"))
        })?;
        let loaded = headers.iter().filter(|header| header.p_type(ENDIAN) == elf::PT_LOAD);
        let mut segments: Vec<Segment> = loaded
            .map(|header| Segment {
                address: header.p_vaddr(ENDIAN).into(),
                offset: header.p_offset(ENDIAN).into(),
                size: header.p_filesz(ENDIAN).into(),
            })
            .collect();
        segments.sort_by_key(|segment| segment.address);
        Ok(segments)
    }

    fn symbols(&self) -> Result<Symbols<'d>, Error> {
        let bad = |error: object::Error| Error::new(format!("unusable symbol table: {error}"));
        let table = self.table.symbols(ENDIAN, self.data, elf::SHT_SYMTAB).map_err(bad)?;
        if table.is_empty() {
            return Ok(Symbols::default());
        }
        let strings = self
            .table
            .section(table.string_section())
            .and_then(|section| section.data(ENDIAN, self.data))
            .map_err(bad)?;
        let mut list = Vec::new();
        for (index, symbol) in table.enumerate() {
            let kind = match symbol.st_type() {
                elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Function,
                elf::STT_OBJECT => SymbolKind::Object,
                elf::STT_NOTYPE => SymbolKind::Label,
                _ => continue,
            };
            // Undefined and absolute ones are nowhere in the file.
            let Ok(Some(section)) = table.symbol_section(ENDIAN, symbol, SymbolIndex(index.0))
            else {
                continue;
            };
            list.push(Symbol {
                address: symbol.st_value(ENDIAN).into(),
                size: symbol.st_size(ENDIAN).into(),
                kind,
                section: section.0,
                name: symbol.st_name(ENDIAN),
            });
        }
        Ok(Symbols::new(list, strings))
    }

    /// Those in loaded sections. A linked file has those its loader applies, and
    /// maybe those that the linker applied and kept (`--emit-relocs`).
    fn relocations(&self, image: &Image<'d>) -> Result<Vec<Relocation>, Error> {
        let mut list = Vec::new();
        for (index, header) in self.table.enumerate() {
            let dynamic = header.sh_flags(ENDIAN).0 & Section::ALLOC != 0;
            let target = usize::try_from(header.sh_info(ENDIAN)).unwrap_or(usize::MAX);
            if !dynamic && image.section(target).is_none() {
                continue;
            }
            let bad = |error: object::Error| {
                Error::new(format!("unusable relocations in section {}: {error}", index.0))
            };
            let absolute = |kind| is_absolute(image.width, kind);
            if let Some((relocations, link)) = header.rela(ENDIAN, self.data).map_err(bad)? {
                let symbols = self.dynamic_symbols(dynamic, link);
                for relocation in relocations {
                    let kind = relocation.r_type(ENDIAN, false);
                    let addend: i64 = relocation.r_addend(ENDIAN).into();
                    let symbol = relocation.r_sym(ENDIAN, false);
                    list.push(Relocation {
                        address: relocation.r_offset(ENDIAN).into(),
                        dynamic,
                        absolute: absolute(kind),
                        value: (dynamic && absolute(kind))
                            .then(|| symbol_value(symbols, symbol))
                            .flatten()
                            .map(|value| width_of(image.width, value.wrapping_add_signed(addend))),
                    });
                }
            }
            if let Some((relocations, link)) = header.rel(ENDIAN, self.data).map_err(bad)? {
                let symbols = self.dynamic_symbols(dynamic, link);
                for relocation in relocations {
                    let kind = relocation.r_type(ENDIAN);
                    let address = relocation.r_offset(ENDIAN).into();
                    let symbol = relocation.r_sym(ENDIAN);
                    let addend = || {
                        let bytes = image.bytes_at(address, image.width.pointer_size())?;
                        let value = symbol_value(symbols, symbol)?;
                        Some(width_of(image.width, value.wrapping_add(little_endian(bytes))))
                    };
                    list.push(Relocation {
                        address,
                        dynamic,
                        absolute: absolute(kind),
                        value: (dynamic && absolute(kind)).then(addend).flatten(),
                    });
                }
            }
            if let Some(relocations) = header.relr(ENDIAN, self.data).map_err(bad)? {
                for address in relocations {
                    // They are packed, 63 in a word: no file needs more of them
                    // than it has pointers.
                    if list.len() > self.data.len() / 4 {
                        return Err(Error::new(format!(
                            "section {}: more relocations than the file has pointers",
                            index.0
                        )));
                    }
                    let address: u64 = address.into();
                    list.push(Relocation {
                        address,
                        dynamic,
                        absolute: true,
                        // The place itself holds the value.
                        value: None,
                    });
                }
            }
        }
        let kind = |of: &Relocation| (of.address, of.dynamic, of.absolute);
        // The one that knows its value is the one to keep.
        list.sort_by_key(|relocation| (kind(relocation), relocation.value.is_none()));
        list.dedup_by_key(|relocation| kind(relocation));
        Ok(list)
    }

    /// The symbols that a section of dynamic relocations refers to.
    fn dynamic_symbols(&self, dynamic: bool, link: SectionIndex) -> &'d [H::Sym] {
        let table = self.table.section(link).ok().filter(|_| dynamic);
        table.and_then(|table| table.data_as_array(ENDIAN, self.data).ok()).unwrap_or_default()
    }
}

/// The value of symbol `index`; symbol 0 is none and worth 0. Undefined symbols
/// have no value here.
fn symbol_value<S: Sym<Endian = LittleEndian>>(symbols: &[S], index: u32) -> Option<u64> {
    if index == 0 {
        return Some(0);
    }
    let symbol = symbols.get(usize::try_from(index).ok()?)?;
    (symbol.st_shndx(ENDIAN) != elf::SHN_UNDEF).then(|| symbol.st_value(ENDIAN).into())
}

const fn width_of(width: Width, value: u64) -> u64 {
    match width {
        Width::Bits32 => value & 0xffff_ffff,
        Width::Bits64 => value,
    }
}

/// Whether what this kind of relocation writes depends on the load address.
fn is_absolute(width: Width, kind: elf::RelocationType) -> bool {
    match width {
        Width::Bits32 => matches!(kind.0, 1 | 8), // R_386_32, _RELATIVE
        Width::Bits64 => matches!(kind.0, 1 | 8 | 10 | 11), // R_X86_64_64, _RELATIVE, _32, _32S
    }
}

/// Positions by address. Two sections at one address leave open which bytes are
/// there.
fn by_address(sections: &[Section<'_>]) -> Result<Vec<usize>, Error> {
    let mut sorted: Vec<(usize, &Section<'_>)> =
        sections.iter().enumerate().filter(|(_, section)| section.size > 0).collect();
    sorted.sort_by_key(|(_, section)| section.address);
    for pair in sorted.windows(2) {
        if let [(_, a), (_, b)] = pair
            && a.end() > b.address
        {
            return Err(Error::new(format!(
                "sections {} ({:#x}..{:#x}) and {} ({:#x}..{:#x}) overlap in memory",
                a.name,
                a.address,
                a.end(),
                b.name,
                b.address,
                b.end()
            )));
        }
    }
    Ok(sorted.into_iter().map(|(at, _)| at).collect())
}

/// No two loaded sections share bytes of the file: each byte is read once, and a
/// site that is patched in one section is not patched in another.
fn no_shared_bytes(sections: &[Section<'_>]) -> Result<(), Error> {
    let mut sorted: Vec<&Section<'_>> =
        sections.iter().filter(|section| !section.data.is_empty()).collect();
    sorted.sort_by_key(|section| section.offset);
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a.offset + a.size > b.offset
        {
            return Err(Error::new(format!(
                "sections {} (offset {:#x}, {:#x} bytes) and {} (offset {:#x}) overlap in the file",
                a.name, a.offset, a.size, b.name, b.offset
            )));
        }
    }
    Ok(())
}
