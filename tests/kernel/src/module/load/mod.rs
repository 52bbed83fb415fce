//! A loader of relocatable objects: where in memory each section goes, and what becomes of the
//! fields that the linker left open. It works on plain memory, so that tests on the host run it as
//! well (`tests/modules.rs`), for objects of both widths.
//!
//! | file | what |
//! |---|---|
//! | `error` | what is refused |
//! | `object_file` | the object: sections, symbols, relocations |
//! | `layout` | the address of each section; text, read-only data and data on pages of their own |
//! | `relocate` | the value of a field |

mod error;
mod layout;
mod object_file;
mod relocate;

use core::ops::Range;

use object::{LittleEndian, read::elf::FileHeader};

pub use error::LoadError;
pub use layout::{PAGE_SIZE, Region};

use layout::Layout;
use object_file::ObjectFile;

/// An object, and the place in memory where it is to be loaded.
pub struct Placed<'d, E: FileHeader> {
    object: ObjectFile<'d, E>,
    layout: Layout,
}

impl<'d, E: FileHeader<Endian = LittleEndian>> Placed<'d, E> {
    /// Finds the place of each section of an object that is loaded at `base`, a multiple of
    /// [`PAGE_SIZE`].
    ///
    /// # Errors
    /// Returns an error if the file is no relocatable object, or one that this loader cannot load.
    pub fn new(file: &'d [u8], base: u64) -> Result<Self, LoadError<'d>> {
        let object = ObjectFile::parse(file)?;
        let layout = Layout::new(&object, base)?;
        Ok(Self { object, layout })
    }

    /// Returns the memory that the object takes, a number of whole pages.
    pub fn memory(&self) -> Range<u64> {
        self.layout.memory()
    }

    /// Returns the pages of one region.
    pub fn region(&self, region: Region) -> Range<u64> {
        self.layout.region(region)
    }

    /// Returns the place of the section of this name.
    pub fn section(&self, name: &str) -> Option<Range<u64>> {
        let (index, section) = self.object.sections().find(|(_, section)| section.name == name)?;
        let start = self.layout.address(index)?;
        Some(start..start + section.size)
    }

    /// Returns the address of the global symbol of this name that the object defines.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.object.defined_symbol(name, &self.layout)
    }

    /// Writes the sections to `memory`, which has the bytes of [`memory`](Self::memory), and fills
    /// in the fields that the linker left open. `resolve` returns the address of a symbol that the
    /// object does not define.
    ///
    /// # Errors
    /// Returns an error if a symbol is unknown or a field cannot hold its value. What `memory` holds
    /// then must not be used.
    pub fn write(
        &self,
        memory: &mut [u8],
        resolve: impl Fn(&str) -> Option<u64>,
    ) -> Result<(), LoadError<'d>> {
        let Range { start, end } = self.memory();
        if (memory.len() as u64) < end - start {
            return Err(LoadError::NoRoom { needed: end - start, room: memory.len() as u64 });
        }
        memory.fill(0);
        for (index, section) in self.object.sections() {
            let Some(address) = self.layout.address(index) else { continue };
            let at = (address - start) as usize;
            memory[at..][..section.data.len()].copy_from_slice(section.data);
        }
        self.object.relocations(|relocation| {
            // Debug information and the like is not loaded.
            let Some(section) = self.layout.address(relocation.section.index) else {
                return Ok(());
            };
            if relocate::is_none(&relocation) {
                return Ok(());
            }
            let symbol = self.object.symbol_value(relocation.symbol, &self.layout, &resolve)?;
            let size = relocation.section.size;
            let in_memory = &mut memory[(section - start) as usize..][..size as usize];
            relocate::apply::<E>(&relocation, symbol, section, in_memory)
        })
    }
}
