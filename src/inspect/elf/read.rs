//! Reads an ELF file by the crate `object` into an [`Image`]. A file that is damaged so that no
//! command could use it is refused here. Code that uses an image can therefore rely
//! on sections that lie in the file and do not wrap around the last address.

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::{FileKind, LittleEndian, SectionIndex, SymbolIndex};

use super::address_map::AddressMap;
use super::files::{kind_of, members};
use super::image::{ENDIAN, Image, Linkage};
use super::relocations;
use super::section::{Section, Segment, slice};
use super::symbols::{Symbol, SymbolKind, Symbols};
use crate::disassemble::bits;
use crate::insn::Width;
use crate::inspect::error::FileError;

/// Reads an ELF file for 32- or 64-bit x86: an object, an executable, a shared object or a static
/// PIE.
///
/// # Errors
/// Returns what the file is instead, or which of its fields is wrong.
pub fn parse(data: &[u8]) -> Result<Image<'_>, FileError> {
    if !data.starts_with(&elf::ELFMAG) {
        if kind_of(data) == Some(FileKind::Archive) {
            return Err(archive(data));
        }
        let start = data.get(..4).unwrap_or(data);
        return Err(FileError::new(format!(
            "not an ELF file: it starts with the bytes {start:02x?}"
        )));
    }
    // Bytes 4 and 5 are EI_CLASS and EI_DATA (gABI, "ELF Identification").
    let (Some(&class), Some(&encoding)) = (data.get(4), data.get(5)) else {
        return Err(truncated(data));
    };
    match elf::DataEncoding(encoding) {
        elf::ELFDATA2LSB => {}
        elf::ELFDATA2MSB => {
            return Err(FileError::new("big-endian (byte 5 is 2): x86 is little-endian"));
        }
        other => {
            return Err(FileError::new(format!(
                "byte 5 (endianness) is {}, which no ELF file has",
                other.0
            )));
        }
    }
    match kind_of(data) {
        Some(FileKind::Elf32) => {
            Reader::<FileHeader32<LittleEndian>>::new(data)?.image(Width::Bits32)
        }
        Some(FileKind::Elf64) => {
            Reader::<FileHeader64<LittleEndian>>::new(data)?.image(Width::Bits64)
        }
        _ => Err(FileError::new(format!("byte 4 (class) is {class}, which no ELF file has"))),
    }
}

/// Returns the error for an archive that was given where one ELF file is wanted.
fn archive(data: &[u8]) -> FileError {
    match members(data) {
        Err(error) => error,
        Ok(members) if members.is_empty() => {
            FileError::new("an archive without any ELF file in it; give the linked file")
        }
        Ok(members) => FileError::new(format!(
            "an archive ({} in it): its objects have no addresses before they are linked; \
             give the linked file",
            if members.len() == 1 {
                "1 ELF file".to_owned()
            } else {
                format!("{} ELF files", members.len())
            },
        )),
    }
}

fn truncated(data: &[u8]) -> FileError {
    FileError::new(format!("truncated: {} bytes are too few for an ELF header", data.len()))
}

/// Returns the value of `e_machine` in an x86 file of a width.
const fn machine_of(width: Width) -> elf::Machine {
    match width {
        Width::Bits32 => elf::EM_386,
        Width::Bits64 => elf::EM_X86_64,
    }
}

/// The header and the section table of an ELF file that is being read.
struct Reader<'d, H: FileHeader<Endian = LittleEndian>> {
    data: &'d [u8],
    header: &'d H,
    table: SectionTable<'d, H>,
}

impl<'d, H: FileHeader<Endian = LittleEndian>> Reader<'d, H> {
    fn new(data: &'d [u8]) -> Result<Self, FileError> {
        let header = H::parse(data).map_err(|error| match data.len() {
            0..64 => truncated(data),
            _ => FileError::new(format!("unusable ELF header: {error}")),
        })?;
        let table = header.sections(ENDIAN, data).map_err(|error| {
            let at: u64 = header.e_shoff(ENDIAN).into();
            let count = header.e_shnum(ENDIAN);
            FileError::new(format!(
                "unusable section headers ({count} at offset {at:#x} of a file of {} bytes): {error}",
                data.len()
            ))
        })?;
        Ok(Self { data, header, table })
    }

    fn image(&self, width: Width) -> Result<Image<'d>, FileError> {
        let machine = self.header.e_machine(ENDIAN);
        let (wanted, bits) = (machine_of(width), bits(width));
        if machine != wanted {
            return Err(FileError::new(format!(
                "a {bits}-bit ELF file for machine {}: {bits}-bit x86 is machine {}",
                machine.0, wanted.0
            )));
        }
        let kind = match self.header.e_type(ENDIAN) {
            elf::ET_REL => Linkage::Object,
            elf::ET_EXEC => Linkage::Executable,
            elf::ET_DYN => Linkage::PositionIndependent,
            other => {
                return Err(FileError::new(format!(
                    "an ELF file of type {}: neither an object (1) nor linked (2, 3)",
                    other.0
                )));
            }
        };
        if self.table.len() <= 1 {
            return Err(FileError::new(
                "no section headers: they were stripped, and patchlets and sites are found by them",
            ));
        }
        let sections = self.sections(kind)?;
        let addresses = match kind {
            Linkage::Object => AddressMap::default(),
            Linkage::Executable | Linkage::PositionIndependent | Linkage::Module => {
                has_contents(&sections)?;
                AddressMap::new(&sections)
            }
        };
        let mut image = Image {
            width,
            kind,
            entry: self.header.e_entry(ENDIAN).into(),
            sections,
            addresses,
            segments: self.segments()?,
            symbols: self.symbols()?,
            relocations: vec![],
            outside: 0..0,
        };
        image.relocations = relocations::read(self.data, &self.table, &image)?;
        Ok(image)
    }

    /// Returns the loaded sections, each checked against the size of the file.
    fn sections(&self, kind: Linkage) -> Result<Vec<Section<'d>>, FileError> {
        let mut sections = Vec::new();
        for (index, header) in self.table.enumerate() {
            let flags = header.sh_flags(ENDIAN).0;
            let nobits = header.sh_type(ENDIAN) == elf::SHT_NOBITS;
            // .tbss has an address and a size, but no memory there: it would seem to overlap the
            // section behind it.
            if flags & elf::SHF_ALLOC.0 == 0 || (nobits && flags & elf::SHF_TLS.0 != 0) {
                continue;
            }
            let name = self.section_name(index, header)?;
            let (address, size): (u64, u64) =
                (header.sh_addr(ENDIAN).into(), header.sh_size(ENDIAN).into());
            let offset: u64 = header.sh_offset(ENDIAN).into();
            if kind != Linkage::Object && address.checked_add(size).is_none() {
                return Err(FileError::new(format!(
                    "section {name} ({address:#x}, {size:#x} bytes) reaches beyond the last address"
                )));
            }
            let data =
                if nobits { Some(Default::default()) } else { slice(self.data, offset, size) };
            let data = data.ok_or_else(|| {
                FileError::new(format!(
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
    ) -> Result<&'d str, FileError> {
        let bad = |why: &str| {
            let at = header.sh_name(ENDIAN);
            FileError::new(format!("section {} has no usable name (at {at:#x}): {why}", index.0))
        };
        let name =
            self.table.section_name(ENDIAN, header).map_err(|error| bad(&error.to_string()))?;
        // In a table of names without a zero byte, each section's name reaches to the end of the
        // table: without a limit, reading all names would take quadratic time.
        if name.len() > 1024 {
            return Err(bad("longer than 1024 bytes"));
        }
        let name = str::from_utf8(name).map_err(|_| bad("not UTF-8"))?;
        if name.contains(char::is_control) {
            return Err(bad("there are control characters in it"));
        }
        Ok(name)
    }

    fn segments(&self) -> Result<Vec<Segment>, FileError> {
        let headers = self.header.program_headers(ENDIAN, self.data).map_err(|error| {
            let at: u64 = self.header.e_phoff(ENDIAN).into();
            FileError::new(format!("unusable program headers (at offset {at:#x}): {error}"))
        })?;
        let loaded = headers.iter().filter(|header| header.p_type(ENDIAN) == elf::PT_LOAD);
        let mut segments: Vec<Segment> = loaded
            .map(|header| Segment {
                address: header.p_vaddr(ENDIAN).into(),
                offset: header.p_offset(ENDIAN).into(),
                size: header.p_filesz(ENDIAN).into(),
                memory_size: header.p_memsz(ENDIAN).into(),
                writable: header.p_flags(ENDIAN).contains(elf::PF_W),
                executable: header.p_flags(ENDIAN).contains(elf::PF_X),
            })
            .collect();
        segments.sort_by_key(|segment| segment.address);
        Ok(segments)
    }

    fn symbols(&self) -> Result<Symbols<'d>, FileError> {
        let bad = |error: object::Error| FileError::new(format!("unusable symbol table: {error}"));
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
            // Undefined and absolute symbols are in no section.
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
}

/// Checks that the file has the contents of its text. A debug file (`objcopy --only-keep-debug`)
/// has all section headers of the file it was taken from, but not the contents of sections that
/// are loaded.
fn has_contents(sections: &[Section<'_>]) -> Result<(), FileError> {
    let mut text =
        sections.iter().filter(|section| section.is_executable() && section.size > 0).peekable();
    let Some(first) = text.peek().copied() else { return Ok(()) };
    if text.all(|section| section.data.is_empty()) {
        return Err(FileError::new(format!(
            "a debug file: section {} has {:#x} bytes in memory and none in the file; \
             give the file that the debug information was taken from",
            first.name, first.size
        )));
    }
    Ok(())
}

/// Checks that no two loaded sections share bytes of the file. If two did, patching a site in
/// one section would change the other, and the time to read all sections would not be limited by
/// the size of the file.
fn no_shared_bytes(sections: &[Section<'_>]) -> Result<(), FileError> {
    let mut sorted: Vec<&Section<'_>> =
        sections.iter().filter(|section| !section.data.is_empty()).collect();
    sorted.sort_by_key(|section| section.offset);
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a.offset + a.size > b.offset
        {
            return Err(FileError::new(format!(
                "sections {} (offset {:#x}, {:#x} bytes) and {} (offset {:#x}) overlap in the file",
                a.name, a.offset, a.size, b.name, b.offset
            )));
        }
    }
    Ok(())
}
