//! The text of an object's file: all of it that a CPU may execute, as it should be in memory before
//! anything is patched.

use super::object::Object;
use crate::insn::Width;
use crate::inspect::elf::{Section, little_endian, slice};

/// A range of text, or of data in a segment that can be executed.
#[derive(Clone, Debug)]
pub(super) struct ProgramArea<'d> {
    /// Address in the file.
    pub address: u64,
    /// The bytes in the file.
    pub file: &'d [u8],
    /// The addresses in it that are moved: the place of each, and the bytes there.
    moved: Vec<(u64, Vec<u8>)>,
}

/// The text of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct ProgramText<'d> {
    /// Sorted by address; none overlaps another.
    pub areas: Vec<ProgramArea<'d>>,
    /// Bytes in segments that can be executed and that the program itself may write: they are not
    /// compared.
    pub writable: u64,
}

impl<'d> ProgramText<'d> {
    /// Reads the text of an object from its file: the segments that can be executed or, in a file
    /// without segments, the sections.
    pub fn new(object: &Object<'_, 'd>, file: &'d [u8]) -> Self {
        let image = &object.model.image;
        let mut text = Self::default();
        let mut add = |address: u64, bytes: &'d [u8]| {
            // A damaged file can have the same address twice.
            let end_before = text.areas.last().map_or(0, |area: &ProgramArea<'_>| area.end());
            if bytes.is_empty() || address < end_before {
                return;
            }
            let moved = moved(object, address, bytes);
            text.areas.push(ProgramArea { address, file: bytes, moved });
        };
        let mut sections: Vec<&Section<'d>> =
            image.sections().iter().filter(|section| !section.data.is_empty()).collect();
        sections.sort_by_key(|section| section.address);
        let has_segments = image.segments().iter().any(|segment| segment.executable);
        if object.module.is_some() || !has_segments {
            for section in sections.iter().filter(|section| section.is_executable()) {
                add(section.address, section.data);
            }
            return text;
        }
        let (mut writable, mut end_before) = (0, 0);
        for segment in image.segments().iter().filter(|segment| segment.executable) {
            let Some(bytes) = slice(file, segment.offset, segment.size) else { continue };
            let end = segment.address.saturating_add(segment.size);
            // Of two that overlap, as in no file that a linker has made, the first counts.
            if segment.address < end_before {
                continue;
            }
            end_before = end;
            let mut at = segment.address;
            let mut piece = |from: u64, to: u64| {
                let offset = from.wrapping_sub(segment.address);
                if let Some(bytes) = slice(bytes, offset, to.saturating_sub(from)) {
                    add(from, bytes);
                }
            };
            let from = sections.partition_point(|section| section.address < segment.address);
            for section in sections.iter().skip(from) {
                if section.address >= end {
                    break;
                }
                let is_inside = at <= section.address && section.end() <= end;
                if is_inside && section.is_writable() && !section.is_executable() {
                    piece(at, section.address);
                    writable += section.size;
                    at = section.end();
                }
            }
            piece(at, end);
        }
        text.writable = writable;
        text
    }
}

impl ProgramArea<'_> {
    /// Returns the first address behind the area.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.file.len() as u64)
    }

    /// Returns bytes of the file, from an address on.
    pub fn in_file(&self, address: u64, len: usize) -> Option<&[u8]> {
        slice(self.file, address.checked_sub(self.address)?, len as u64)
    }

    /// Returns bytes as they should be in memory, if no site is there, from an address of the file
    /// on.
    pub fn unpatched(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = self.in_file(address, len)?.to_vec();
        let end = address.saturating_add(len as u64);
        // An address has eight bytes at most.
        let from = self.moved.partition_point(|(place, _)| place.saturating_add(8) <= address);
        for (place, moved) in self.moved.iter().skip(from).take_while(|(place, _)| *place < end) {
            for (at, &byte) in (*place..).zip(moved) {
                let at = at.checked_sub(address).and_then(|at| usize::try_from(at).ok());
                if let Some(to) = at.and_then(|at| bytes.get_mut(at)) {
                    *to = byte;
                }
            }
        }
        Some(bytes)
    }
}

/// Returns the addresses in bytes of an object which a loader changes when it loads the object
/// elsewhere, each with its bytes in memory.
fn moved(object: &Object<'_, '_>, address: u64, bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let image = &object.model.image;
    let end = address.saturating_add(bytes.len() as u64);
    let relocations = image.relocations_in(address, end).iter();
    let size = image.width().pointer_size();
    relocations
        .filter(|relocation| relocation.dynamic && relocation.absolute)
        .filter_map(|relocation| {
            let place = relocation.address;
            let in_file = slice(bytes, place.checked_sub(address)?, size).map(little_endian);
            let value = object.running(relocation.value.or(in_file)?).to_le_bytes();
            let len = match image.width() {
                Width::Bits32 => 4,
                Width::Bits64 => 8,
            };
            Some((place, value.get(..len)?.to_vec()))
        })
        .collect()
}
