//! ELF files. They are mapped, recognized by their first bytes, and read by the crate `object`
//! into plain data. Nothing here knows patchlets.

mod address_map;
mod files;
mod image;
mod module;
mod module_search;
mod placing;
mod read;
mod relocations;
mod section;
mod symbols;

pub use files::{is_archive, map, members};
pub use image::{Image, Linkage};
pub use module::{PlacedModule, is_object};
pub use read::parse;
pub use section::Section;
pub use symbols::{Symbol, SymbolKind, Symbols};

pub(super) use files::objects;
pub(super) use module_search::ModuleMemory;
pub(super) use section::{Segment, little_endian, slice};
pub(super) use symbols::readable;
