//! Modules: relocatable objects that a kernel loads. A module is laid out and relocated here as a
//! loader would do it, in a copy of the file that is then read like a linked one. The kernel's
//! symbols get addresses behind the module, each with room of its own, so that it can be told which
//! slot or key of the kernel a record names.

use std::ops::Range;

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;
use object::{FileKind, LittleEndian};

use super::files::kind_of;
use super::image::{Image, Linkage};
use super::module_search::{ModuleMemory, search};
use super::placing::{FILE_TYPE, Placing};
use super::read::parse;
use crate::inspect::error::FileError;

/// Returns whether a file is an ELF object that is not linked, as a module is.
pub fn is_object(data: &[u8]) -> bool {
    const TYPE: std::ops::Range<usize> = FILE_TYPE..FILE_TYPE + 2;
    data.starts_with(&elf::ELFMAG) && data.get(TYPE) == Some(&elf::ET_REL.0.to_le_bytes())
}

/// A module as a loader would place it.
#[derive(Debug)]
pub struct PlacedModule {
    /// A copy of the file, as of a linked one.
    file: Vec<u8>,
    outside: Range<u64>,
    /// The addresses of sections that were not found in memory; of one that was not looked for
    /// there, nothing.
    made_up: Vec<Range<u64>>,
}

impl PlacedModule {
    /// Lays a module out and relocates it.
    ///
    /// # Errors
    /// Returns an error if the file is no relocatable object, or is damaged.
    pub fn new(object: &[u8]) -> Result<Self, FileError> {
        match kind_of(object) {
            Some(FileKind::Elf32) => place::<FileHeader32<LittleEndian>>(object),
            Some(FileKind::Elf64) => place::<FileHeader64<LittleEndian>>(object),
            _ => Err(FileError::new("no ELF object: a module is linked by `ld -r`")),
        }
    }

    /// Places a module where a kernel's loader put it in memory.
    ///
    /// # Errors
    /// Returns an error if the file is no relocatable object or is damaged, or if it is not there.
    pub(crate) fn in_memory(object: &[u8], memory: &ModuleMemory<'_>) -> Result<Self, FileError> {
        fn place<E: FileHeader<Endian = LittleEndian>>(
            object: &[u8],
            memory: &ModuleMemory<'_>,
        ) -> Result<PlacedModule, FileError> {
            let mut placing = Placing::<E>::new(object)?;
            let made_up = search(&mut placing, memory)?;
            placing.relocate()?;
            placing.outside = 0..0;
            let (file, outside) = placing.finish()?;
            Ok(PlacedModule { file, outside, made_up })
        }
        match kind_of(object) {
            Some(FileKind::Elf32) => place::<FileHeader32<LittleEndian>>(object, memory),
            Some(FileKind::Elf64) => place::<FileHeader64<LittleEndian>>(object, memory),
            _ => Err(FileError::new("no ELF object: a module is linked by `ld -r`")),
        }
    }

    /// Returns whether an address is made up, because a section was not found in memory.
    pub(crate) fn is_made_up(&self, address: u64) -> bool {
        self.made_up.iter().any(|range| range.contains(&address))
    }

    /// Reads the module like a linked file.
    ///
    /// # Errors
    /// Returns the same errors as [`parse`].
    pub fn image(&self) -> Result<Image<'_>, FileError> {
        let mut image = parse(&self.file)?;
        image.kind = Linkage::Module;
        image.outside = self.outside.clone();
        Ok(image)
    }
}

fn place<E: FileHeader<Endian = LittleEndian>>(object: &[u8]) -> Result<PlacedModule, FileError> {
    let mut placing = Placing::<E>::new(object)?;
    placing.lay_out()?;
    placing.find_symbols()?;
    placing.relocate()?;
    let (file, outside) = placing.finish()?;
    Ok(PlacedModule { file, outside, made_up: vec![] })
}
