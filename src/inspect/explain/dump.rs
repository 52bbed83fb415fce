//! Reads a dump of a machine's memory: an ELF core, or bytes without any header.
//!
//! | made by | addresses of a segment |
//! |---|---|
//! | QEMU `dump-guest-memory` | physical (`p_paddr`); `p_vaddr` is 0 or repeats it |
//! | the same with `paging` | both |
//! | `/proc/kcore` | virtual; physical, too, for memory that is mapped linearly |
//! | kdump, not compressed | both |
//!
//! QEMU also writes a note for each CPU, with the control registers.

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{FileKind, LittleEndian};

use super::memory::{ControlRegisters, Memory, Region};
use crate::inspect::elf::{little_endian, slice};
use crate::inspect::error::FileError;

const ENDIAN: LittleEndian = LittleEndian;

/// The address of a dump that has no header, as the user says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RawAddress {
    /// The virtual address of the first byte.
    Virtual(u64),
    /// The physical address of the first byte.
    Physical(u64),
}

/// Reads a dump. `raw` is the address of the first byte of a dump without a header; without it the
/// dump must be an ELF core.
pub(crate) fn read(data: &[u8], raw: Option<RawAddress>) -> Result<Memory<'_>, FileError> {
    if let Some(address) = raw {
        let (virtual_address, physical_address) = match address {
            RawAddress::Virtual(address) => (Some(address), None),
            RawAddress::Physical(address) => (None, Some(address)),
        };
        let region = Region { virtual_address, physical_address, bytes: data };
        return Ok(Memory::new(vec![region], None));
    }
    if data.starts_with(b"KDUMP   ") || data.starts_with(b"makedumpfile") {
        return Err(FileError::new(
            "a compressed dump: give an ELF core (makedumpfile -E, or dump-guest-memory in QEMU's \
             monitor without -z, -l, -s)",
        ));
    }
    let start: Vec<u8> = data.iter().take(16).copied().collect();
    match FileKind::parse(&*start) {
        Ok(FileKind::Elf64) => read_core::<FileHeader64<LittleEndian>>(data),
        Ok(FileKind::Elf32) => read_core::<FileHeader32<LittleEndian>>(data),
        _ => Err(FileError::new(
            "not an ELF core; for memory without a header say --base (virtual) or --phys \
             (physical), the address of its first byte",
        )),
    }
}

fn read_core<H: FileHeader<Endian = LittleEndian>>(data: &[u8]) -> Result<Memory<'_>, FileError> {
    let bad = |error: object::Error| FileError::new(format!("unusable ELF core: {error}"));
    let header = H::parse(data).map_err(bad)?;
    if !header.is_little_endian() {
        return Err(FileError::new("big-endian: x86 is little-endian"));
    }
    let (machine, kind) = (header.e_machine(ENDIAN), header.e_type(ENDIAN));
    if machine != elf::EM_X86_64 && machine != elf::EM_386 {
        return Err(FileError::new(format!(
            "a dump of machine {}: x86 is machine 3 or 62",
            machine.0
        )));
    }
    if kind != elf::ET_CORE {
        return Err(FileError::new(format!(
            "an ELF file of type {}, and a dump has type 4 (core)",
            kind.0
        )));
    }
    let mut regions = Vec::new();
    let mut registers = None;
    for segment in header.program_headers(ENDIAN, data).map_err(bad)? {
        if registers.is_none()
            && let Some(mut notes) = segment.notes(ENDIAN, data).map_err(bad)?
        {
            while let Some(note) = notes.next().map_err(bad)? {
                if note.name() == b"QEMU" {
                    registers = registers.or_else(|| qemu_registers(note.desc()));
                }
            }
        }
        if segment.p_type(ENDIAN) != elf::PT_LOAD {
            continue;
        }
        let offset: u64 = segment.p_offset(ENDIAN).into();
        let size: u64 = segment.p_filesz(ENDIAN).into();
        let (at, physical): (u64, u64) =
            (segment.p_vaddr(ENDIAN).into(), segment.p_paddr(ENDIAN).into());
        let bytes = slice(data, offset, size).ok_or_else(|| {
            FileError::new(format!(
                "a segment ({size:#x} bytes at offset {offset:#x}) is not inside the dump of {:#x} \
                 bytes: truncated?",
                data.len()
            ))
        })?;
        if bytes.is_empty() {
            continue;
        }
        let is_virtual = at != 0 && at != physical;
        // A segment with a virtual address only says so by 0 or by all ones.
        let is_physical = !is_virtual || (physical != 0 && !is_all_ones::<H>(physical));
        regions.push(Region {
            virtual_address: is_virtual.then_some(at),
            physical_address: is_physical.then_some(physical),
            bytes,
        });
    }
    let total = regions.iter().map(|region| region.bytes.len() as u64).sum::<u64>();
    if total > data.len() as u64 {
        // The time to look for a kernel is limited by the size of the dump only if no part of it is
        // there twice.
        return Err(FileError::new(format!(
            "an ELF core whose segments have {total:#x} bytes, more than the dump itself: they \
             overlap"
        )));
    }
    if regions.is_empty() {
        return Err(FileError::new("an ELF core without any memory in it"));
    }
    Ok(Memory::new(regions, registers))
}

/// Returns whether an address is the largest of its class.
fn is_all_ones<H: FileHeader>(address: u64) -> bool {
    address == u64::MAX || (size_of::<H>() < 64 && address == u64::from(u32::MAX))
}

/// Returns the control registers from QEMU's note about a CPU: version and size (4 bytes each), 18
/// registers of 8 bytes, 10 segment registers of 24, then CR0 to CR4.
fn qemu_registers(note: &[u8]) -> Option<ControlRegisters> {
    const CR0: u64 = 8 + 18 * 8 + 10 * 24;
    /// CR0.PG (Intel SDM vol. 3A, "Control Registers"): without it there are no page tables.
    const PAGING: u64 = 1 << 31;
    let register = |number: u64| Some(little_endian(slice(note, CR0 + number * 8, 8)?));
    if little_endian(slice(note, 0, 4)?) != 1 || register(0)? & PAGING == 0 {
        return None;
    }
    Some(ControlRegisters { cr3: register(3)?, cr4: register(4)? })
}
