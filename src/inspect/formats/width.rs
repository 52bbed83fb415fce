//! The check that the code in a file is of the width that the file's header says.
//!
//! `objcopy -O elf32-i386` puts 64-bit code into a 32-bit ELF file, for QEMU and for boot
//! loaders of the first Multiboot. Decoded as 32-bit code it would give many wrong findings, so
//! such a file is refused.

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

/// Refuses a file whose patchlets of the native set have the bytes of the other width.
///
/// Most patchlets of the set have the same bytes on both widths. The file is refused if at
/// least two of the others have the bytes of the other width and none has those of this width. If
/// it is only one, this patchlet may be damaged, which is a finding.
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

/// Refuses a file in which some site holds its indirect call or jump as the other width encodes
/// it, and no site holds it as this width does.
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
