//! The values of the fields that the linker left open. `S`, `A` and `P` are those of the two
//! processor supplements to the System V ABI: the symbol's value, the addend, the field's address.

use object::{elf, read::elf::FileHeader};

use super::{error::LoadError, object_file::Relocation};

/// The type of a field.
#[derive(Clone, Copy)]
enum Field {
    /// Four bytes that are extended by zeros.
    Unsigned32,
    /// Four bytes that are extended by their sign.
    Signed32,
    /// Four bytes, in a program whose addresses have four: the value wraps.
    Word32,
    Word64,
}

/// Returns whether a relocation changes nothing: it tells a linker that one section needs another,
/// such as that of a site and that of its record. Its symbol may be one that the kernel does not
/// export.
pub fn is_none(relocation: &Relocation<'_>) -> bool {
    // The number for both widths.
    elf::RelocationType(relocation.kind) == elf::R_X86_64_NONE
}

/// Fills in one field of a section, which has the bytes `memory` and lies at `address`.
pub fn apply<'d, E: FileHeader>(
    relocation: &Relocation<'d>,
    symbol: u64,
    address: u64,
    memory: &mut [u8],
) -> Result<(), LoadError<'d>> {
    let Relocation { section, offset, kind, addend, .. } = *relocation;
    let section = section.name;
    let is_64 = E::is_type_64_sized();
    let (field, is_relative) = match elf::RelocationType(kind) {
        elf::R_X86_64_64 if is_64 => (Field::Word64, false),
        elf::R_X86_64_32 if is_64 => (Field::Unsigned32, false),
        elf::R_X86_64_32S if is_64 => (Field::Signed32, false),
        // Nothing is far enough to need a procedure linkage table.
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 if is_64 => (Field::Signed32, true),
        elf::R_386_32 if !is_64 => (Field::Word32, false),
        elf::R_386_PC32 | elf::R_386_PLT32 if !is_64 => (Field::Word32, true),
        _ => return Err(LoadError::UnknownRelocation { section, offset, kind }),
    };
    let length = if matches!(field, Field::Word64) { 8 } else { 4 };
    let place = usize::try_from(offset).ok().and_then(|at| memory.get_mut(at..)?.get_mut(..length));
    let Some(place) = place else { return Err(LoadError::OutsideSection { section, offset }) };

    let addend = addend.unwrap_or_else(|| match *place {
        [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
        _ => 0,
    });
    let mut value = symbol.wrapping_add_signed(addend); // S + A
    if is_relative {
        value = value.wrapping_sub(address.wrapping_add(offset)); // - P
    }
    let fits = match field {
        Field::Unsigned32 => u32::try_from(value).is_ok(),
        Field::Signed32 => i32::try_from(value.cast_signed()).is_ok(),
        Field::Word32 | Field::Word64 => true,
    };
    if !fits {
        return Err(LoadError::OutOfReach { section, offset, value: value.cast_signed() });
    }
    place.copy_from_slice(&value.to_le_bytes()[..length]);
    Ok(())
}
