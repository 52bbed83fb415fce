//! A Linux kernel's file.

use super::btf::Types;
use super::features::{FeatureNames, KernelFeatures};
use super::names::{Names, NamesFrom};
use super::tables::{self, KernelTable, TableKind, TableRecord};
use super::unpack::{Relocated, Unpacked, relocated};
use crate::disassemble::{LONGEST_INSTRUCTION, decoder};
use crate::insn::Width;
use crate::inspect::cpu::CpuSpec;
use crate::inspect::elf::{Image, PlacedModule, little_endian, parse, slice};
use crate::inspect::error::FileError;

/// A Linux kernel: its file, its names and its tables of patch sites.
#[derive(Debug)]
pub struct LinuxKernel<'d> {
    pub(super) image: Image<'d>,
    pub(super) names: Names,
    pub(super) tables: Vec<KernelTable>,
    /// The places that KASLR changes, if the file says it.
    pub(super) relocated: Option<Relocated>,
    pub(super) feature_names: FeatureNames,
    /// The types of this build, if the file has them.
    pub(super) types: Option<Types<'d>>,
    /// The features of the CPU that the command line names.
    pub(super) cpu: Option<KernelFeatures>,
    release: Option<String>,
    /// Whether this is a module and not a whole kernel.
    pub(super) is_module: bool,
}

impl<'d> LinuxKernel<'d> {
    /// Reads a kernel.
    ///
    /// # Errors
    /// Returns an error if the file is no ELF file for x86, if it has no tables of patch sites, or
    /// if the records of one make no sense in any layout that is known.
    pub fn new(unpacked: &'d Unpacked<'_>) -> Result<Self, FileError> {
        let elf: &[u8] = &unpacked.elf;
        let image = parse(elf)?;
        let names = Names::new(&image);
        let types = image.section_named(".BTF").and_then(|section| Types::new(section.data));
        let tables = tables::read(&image, &names, types)?;
        if tables.is_empty() {
            return Err(FileError::new(
                "not a Linux kernel: it has none of the tables in which a kernel says where it \
                 patches itself",
            ));
        }
        let relocated = end_of(&image, elf).and_then(|end| relocated(&image, elf, end));
        let release = release(&image);
        let feature_names = FeatureNames::read(&image, &names);
        let (cpu, is_module) = (None, false);
        Ok(Self { image, names, tables, relocated, feature_names, types, cpu, release, is_module })
    }

    /// Reads a module of a kernel. It can have none of the tables.
    ///
    /// # Errors
    /// Returns an error if the records of a table make no sense in any layout that is known.
    pub fn of_module(module: &'d PlacedModule) -> Result<Self, FileError> {
        let image = module.image()?;
        let names = Names::new(&image);
        let tables = tables::of_module(&image)?;
        let release = version_magic(&image);
        let feature_names = FeatureNames::read(&image, &names);
        let (relocated, types, cpu, is_module) = (None, None, None, true);
        Ok(Self { image, names, tables, relocated, feature_names, types, cpu, release, is_module })
    }

    /// Returns how many bytes a record is for.
    pub(super) fn site_length(&self, kind: TableKind, record: &TableRecord) -> u64 {
        match kind {
            TableKind::Alternatives | TableKind::Paravirt => u64::from(record.length),
            TableKind::SmpLocks | TableKind::RuntimeShifts => 1,
            TableKind::RuntimePointers => 8,
            TableKind::Endbr | TableKind::RuntimeMasks => 4,
            TableKind::Ftrace => 5,
            TableKind::Cfi => 0,
            TableKind::JumpLabels
            | TableKind::StaticCalls
            | TableKind::Retpolines
            | TableKind::Returns
            | TableKind::Calls => {
                let code = self.code(record.site, LONGEST_INSTRUCTION);
                if code.is_empty() {
                    return 0;
                }
                decoder(self.image.width(), record.site, code).decode().len() as u64
            }
        }
    }

    /// Returns the bytes of the file from an address on, `most` at most; none if the address is in
    /// no section or in several.
    pub(super) fn code(&self, address: u64, most: usize) -> &'d [u8] {
        let rest = || {
            let section = self.image.section_at(address)?;
            section.data.get(usize::try_from(address - section.address).ok()?..)
        };
        let rest = rest().unwrap_or_default();
        rest.get(..most).unwrap_or(rest)
    }

    /// Takes this CPU's features for those that the kernel finds. What a dump says of the CPU on
    /// which the kernel ran counts more.
    ///
    /// # Errors
    /// Returns an error if a feature that is switched on or off is none that this kernel knows.
    pub fn on_cpu(mut self, cpu: &CpuSpec) -> Result<Self, FileError> {
        self.cpu = Some(KernelFeatures::of_cpu(cpu, &self.feature_names)?);
        Ok(self)
    }

    /// Returns the width of its code.
    #[must_use]
    pub const fn width(&self) -> Width {
        self.image.width()
    }

    /// Returns how the kernel calls itself, such as `6.1.0-50-amd64`.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.release.as_deref()
    }

    /// Returns the first two numbers of its release.
    pub(super) fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release()?.split(|byte: char| !byte.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some((number()?, number()?))
    }

    /// Returns the release and the description of the file in one line.
    #[must_use]
    pub fn heading(&self) -> String {
        let release = self.release().unwrap_or("of an unknown release");
        let module = if self.is_module { "module for " } else { "" };
        format!("{module}Linux {release}, {}", self.words())
    }

    /// Returns a description of the file, such as `ELF64 executable, 94101 names from kallsyms`.
    #[must_use]
    pub fn words(&self) -> String {
        let bits = crate::disassemble::bits(self.image.width());
        let count = self.names.len();
        match self.names.from {
            NamesFrom::SymbolTable => format!("ELF{bits}, {count} symbols"),
            NamesFrom::Kallsyms => format!("ELF{bits}, {count} names from kallsyms"),
            NamesFrom::Nowhere => format!("ELF{bits}, without names"),
        }
    }

    /// Returns what tables there are, how long a record is, and how many records there are.
    #[must_use]
    pub fn tables(&self) -> Vec<(TableKind, &str, usize, usize)> {
        let tables = self.tables.iter();
        tables.map(|table| (table.kind, &*table.name, table.stride, table.records.len())).collect()
    }
}

/// Returns how a kernel calls itself, from the text that it prints when it starts.
fn release(image: &Image<'_>) -> Option<String> {
    const BEFORE: &[u8] = b"Linux version ";
    let data = image.section_named(".rodata")?.data;
    let at = data.windows(BEFORE.len()).position(|window| window == BEFORE)?;
    let rest = data.get(at + BEFORE.len()..)?.iter().take(128);
    let release: Vec<u8> = rest.copied().take_while(u8::is_ascii_graphic).collect();
    String::from_utf8(release).ok().filter(|release| !release.is_empty())
}

/// Returns the kernel for which a module was built, from what its build says of it.
fn version_magic(image: &Image<'_>) -> Option<String> {
    let lines = image.section_named(".modinfo")?.data.split(|&byte| byte == 0);
    let magic = lines.filter_map(|line| line.strip_prefix(b"vermagic=")).next()?;
    let release = magic.split(|&byte| byte == b' ').next()?;
    let is_name = release.len() <= 128 && release.iter().all(u8::is_ascii_graphic);
    Some(std::str::from_utf8(release).ok()?.to_owned()).filter(|_| is_name)
}

/// Returns the offset behind an ELF file: behind its section headers, or behind its last section.
fn end_of(image: &Image<'_>, elf: &[u8]) -> Option<u64> {
    // e_shoff, e_shentsize, e_shnum (gABI, "ELF Header").
    let (offset, size, count) = match image.width() {
        Width::Bits64 => ((0x28, 8), 0x3a, 0x3c),
        Width::Bits32 => ((0x20, 4), 0x2e, 0x30),
    };
    let field = |at: u64, len: u64| slice(elf, at, len).map(little_endian);
    let headers = field(offset.0, offset.1)?.checked_add(field(size, 2)? * field(count, 2)?)?;
    let in_file = image.sections().iter().filter(|section| !section.data.is_empty());
    let last = in_file.filter_map(|section| section.offset.checked_add(section.size)).max();
    Some(headers.max(last.unwrap_or(0)))
}
