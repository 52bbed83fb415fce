//! Whether the code in a file is of the width that the file's header says.
//!
//! `objcopy -O elf32-i386` puts 64-bit code into a 32-bit ELF file, for QEMU and for boot
//! loaders of the first Multiboot. A decoder of 32-bit code makes nonsense of it, so such a
//! file is refused instead of blamed.

use super::native_set::native_set;
use super::patchlet_image::PatchletImage;
use super::sites::SiteImage;
use crate::disassemble::bits;
use crate::insn::{InsnBuffer, Nops, Replacement, Width};
use crate::inspect::elf::Image;
use crate::inspect::error::FileError;

const fn other(width: Width) -> Width {
    match width {
        Width::Bits32 => Width::Bits64,
        Width::Bits64 => Width::Bits32,
    }
}

/// Refuses a file whose patchlets of the native set are those of the other width.
///
/// Most of the set has the same bytes on both widths. The patchlets that differ decide, if
/// all of them say the same; one alone can be a broken patchlet, which is a finding.
pub(crate) fn code_is_of_width(
    image: &Image<'_>,
    patchlets: &[PatchletImage<'_>],
) -> Result<(), FileError> {
    let width = image.width();
    let bytes_for =
        |width, name| native_set(width).iter().find(|row| row.0 == name).map(|&(_, bytes)| bytes);
    let (mut of_other, mut of_this) = (Vec::new(), 0);
    for patchlet in patchlets {
        let (Some(this), Some(that)) =
            (bytes_for(width, patchlet.name), bytes_for(other(width), patchlet.name))
        else {
            continue;
        };
        if this == that {
            continue;
        }
        if patchlet.bytes == that {
            of_other.push(format!("`{}`", patchlet.name));
        } else if patchlet.bytes == this {
            of_this += 1;
        }
    }
    if of_other.len() < 2 || of_this > 0 {
        return Ok(());
    }
    Err(refusal(width, &format!("the patchlets {} have the bytes", of_other.join(", "))))
}

/// Refuses a file whose sites are all calls and jumps as the other width encodes them.
pub(crate) fn sites_are_of_width(image: &Image<'_>, sites: &[SiteImage]) -> Result<(), FileError> {
    let width = image.width();
    let holds_indirect = |site: &&SiteImage, width| {
        let indirect = site.kind().map(|kind| {
            let indirect = Replacement::Indirect(kind, site.slot);
            InsnBuffer::compose(width, Nops::Long, site.site, site.capacity, &indirect)
        });
        let present = image.bytes_at(site.site, u64::from(site.capacity));
        matches!((indirect, present), (Some(Ok(indirect)), Some(present))
            if indirect.bytes() == present)
    };
    let some_are_of = |width| sites.iter().any(|site| holds_indirect(&site, width));
    if !some_are_of(width) && some_are_of(other(width)) {
        return Err(refusal(width, "the sites are calls and jumps"));
    }
    Ok(())
}

fn refusal(width: Width, evidence: &str) -> FileError {
    let (this, that) = (bits(width), bits(other(width)));
    FileError::new(format!(
        "{that}-bit code in an ELF{this} file ({evidence} of {that}-bit code): a wrapper for a \
         boot loader; give the ELF{that} file it was made of"
    ))
}
