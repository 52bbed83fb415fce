//! Addresses in text that moved with the kernel.

use super::compare::Comparison;
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::text::Text;

/// Adds the slide to the addresses in text.
pub(in crate::inspect::linux) fn move_text(
    kernel: &LinuxKernel<'_>,
    slide: u64,
    text: &mut Text<'_>,
) {
    let Some(relocated) = &kernel.relocated else { return };
    for (places, slide) in
        [(&relocated.added, slide), (&relocated.subtracted, slide.wrapping_neg())]
    {
        for &place in places {
            if let Some(bytes) = text.expected(place, 4) {
                let number = (little_endian(bytes) as u32).wrapping_add(slide as u32);
                text.write(place, &number.to_le_bytes());
            }
        }
    }
    for &place in &relocated.added_long {
        if let Some(bytes) = text.expected(place, 8) {
            let number = little_endian(bytes).wrapping_add(slide);
            text.write(place, &number.to_le_bytes());
        }
    }
}

impl Comparison<'_, '_> {
    /// Returns the end of an address in an instruction that moved with the kernel and has the byte
    /// at `address` in it. Used for a file that does not say which places these are: the four
    /// bytes must be an address of the kernel in the file, and the same plus the slide in the
    /// dump.
    pub(super) fn moved_address(&self, address: u64) -> Option<u64> {
        let slide = self.located.slide as u32;
        let is_of_kernel = |address: u64| self.bounds.contains(&address);
        (0..4).filter_map(|back| address.checked_sub(back)).find_map(|start| {
            let file = little_endian(self.text.expected(start, 4)?) as u32;
            let seen = little_endian(self.located.bytes(start, 4)?) as u32;
            let extended = match self.kernel.image.width() {
                Width::Bits64 => i64::from(file.cast_signed()).cast_unsigned(),
                Width::Bits32 => u64::from(file),
            };
            // A physical address is computed from the distance to the lowest address that a kernel
            // can have, of 64 bit two gigabytes before the last.
            let physical = match self.kernel.image.width() {
                Width::Bits64 => extended | 0xffff_ffff_8000_0000,
                Width::Bits32 => extended | 0xc000_0000,
            };
            // The distance from where it is linked, which is 0 in the file, is one more.
            let moves = seen == file.wrapping_add(slide)
                && (file == 0 || is_of_kernel(extended) || is_of_kernel(physical));
            // The data of each CPU is linked at 0 and does not move, so a distance to it does. Up
            // to four bytes of an immediate value can follow.
            let shrinks = seen == file.wrapping_sub(slide)
                && (4..=8).any(|behind| {
                    start.wrapping_add(behind).wrapping_add(extended) < self.size_of_percpu
                });
            (moves || shrinks).then_some(start + 4)
        })
    }

    /// Returns whether every byte of a range that is not as expected belongs to an address that
    /// moved with the kernel.
    pub(super) fn differs_by_moved_addresses(
        &self,
        seen: &[u8],
        expected: &[u8],
        start: u64,
    ) -> bool {
        let mut done = start;
        self.kernel.relocated.is_none()
            && seen.iter().zip(expected).enumerate().all(|(at, (seen, expected))| {
                let address = start + at as u64;
                if address < done || seen == expected {
                    return true;
                }
                match self.moved_address(address) {
                    Some(end) => {
                        done = end;
                        true
                    }
                    None => false,
                }
            })
    }
}
