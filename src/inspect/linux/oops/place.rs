//! Finds in a kernel's file where an oops was, and how far the kernel was moved.

use super::log::{LoggedOops, Pointer};
use crate::insn::Width;
use crate::inspect::elf::{little_endian, readable};
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::unpack::bounds;

/// Returns the place that a log names, in words.
pub(super) fn words(pointer: &Pointer) -> String {
    let module = pointer.module.as_ref().map_or(String::new(), |module| format!(" [{module}]"));
    match (&pointer.symbol, pointer.address) {
        (Some((name, distance, size)), _) => format!("{name}+{distance:#x}/{size:#x}{module}"),
        (None, Some(address)) => format!("{address:#x}{module}"),
        (None, None) => "at an unknown address".to_owned(),
    }
}

/// Returns the address in the file of the instruction at which an oops was, or why it has none. With
/// the function's name that does not depend on the slide.
pub(super) fn find(
    kernel: &LinuxKernel<'_>,
    oops: &LoggedOops,
    slide: Option<Slide>,
) -> Result<u64, String> {
    let pointer = &oops.pointer;
    if pointer.is_user {
        return Err("it is in a program, not in the kernel".to_owned());
    }
    if let Some(module) = &pointer.module {
        return Err(format!("it is in module {module}, and this is the file of the kernel"));
    }
    let Some((name, distance, size)) = &pointer.symbol else {
        let address = pointer.address.ok_or("no line in front of it says where it was")?;
        let moved = address.wrapping_sub(slide.map_or(0, |slide| slide.distance));
        let address = match kernel.image.width() {
            Width::Bits64 => moved,
            Width::Bits32 => moved & 0xffff_ffff,
        };
        if kernel.code(address, 1).is_empty() {
            return Err(format!("{address:#x} is not in text of the file"));
        }
        return Ok(address);
    };
    // The file's names are for people; a log has them as they are.
    let name = readable(name);
    let starts: Vec<u64> = kernel.names.of(|of| of == name).collect();
    if starts.is_empty() {
        let why = if kernel.names.is_empty() { "has no names" } else { "has no such name" };
        return Err(format!("{name}: the file {why}"));
    }
    // Several functions can have one name. The size tells them apart, then the bytes.
    let matching = |&start: &u64| {
        let at = start.wrapping_add(*distance).wrapping_sub(oops.at as u64);
        let code = kernel.code(at, oops.code.len());
        let same = code.iter().zip(&oops.code).filter(|(file, seen)| Some(**file) == **seen);
        let has_size = kernel.names.next(start).wrapping_sub(start) == *size;
        (same.count(), has_size)
    };
    let best = starts.into_iter().max_by_key(matching).unwrap_or_default();
    best.checked_add(*distance).ok_or_else(|| format!("{name}+{distance:#x} is no address"))
}

/// The source of a slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlideFrom {
    /// The line `Kernel Offset`.
    Log,
    /// The address of an oops, which the log has with the function's name.
    Address,
    /// Addresses in the bytes.
    Bytes,
}

impl SlideFrom {
    /// Returns the source in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Log => "the log says so",
            Self::Address => "by the address in the log",
            Self::Bytes => "by addresses in the bytes",
        }
    }
}

/// The distance by which a kernel was moved when it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slide {
    /// What is added to an address of the file.
    pub distance: u64,
    /// How that is known.
    pub from: SlideFrom,
}

/// Returns how far the kernel of a log was moved: as the log says, else by any of its oopses, which
/// are all of one kernel.
pub(super) fn slide(
    kernel: &LinuxKernel<'_>,
    oopses: &[LoggedOops],
    kernel_offset: Option<u64>,
) -> Option<Slide> {
    if let Some(distance) = kernel_offset {
        return Some(Slide { distance, from: SlideFrom::Log });
    }
    let found: Vec<(&LoggedOops, u64)> = oopses
        .iter()
        .filter(|oops| oops.pointer.symbol.is_some())
        .filter_map(|oops| Some((oops, find(kernel, oops, None).ok()?)))
        .collect();
    let by_address = found.iter().find_map(|(oops, address)| {
        let distance = oops.pointer.address?.wrapping_sub(*address);
        is_possible(distance).then_some(Slide { distance, from: SlideFrom::Address })
    });
    by_address.or_else(|| {
        found.iter().find_map(|(oops, address)| {
            let start = address.checked_sub(oops.at as u64)?;
            let distance = by_bytes(kernel, oops, start)?;
            Some(Slide { distance, from: SlideFrom::Bytes })
        })
    })
}

/// Returns whether a kernel can be moved so far.
fn is_possible(slide: u64) -> bool {
    slide < 1 << 31 && slide.is_multiple_of(0x1000)
}

/// Returns the distance by which the addresses in an oops differ from those of the file, if all
/// agree. `start` is the address in the file of its first byte.
fn by_bytes(kernel: &LinuxKernel<'_>, oops: &LoggedOops, start: u64) -> Option<u64> {
    let seen = |place: u64| {
        let at = usize::try_from(place.checked_sub(start)?).ok()?;
        let bytes: Option<Vec<u8>> = oops.code.get(at..at + 4)?.iter().copied().collect();
        Some(little_endian(&bytes?) as u32)
    };
    let file = |place: u64| Some(little_endian(kernel.code(place, 4).first_chunk::<4>()?) as u32);
    let end = start.checked_add(oops.code.len() as u64)?;
    let by = |place: u64| {
        let slide = u64::from(seen(place)?.wrapping_sub(file(place)?));
        is_possible(slide).then_some(slide)
    };
    let places: Vec<u64> = match &kernel.relocated {
        Some(relocated) => {
            let added = relocated.added.iter().copied();
            added.filter(|place| (start..end).contains(place)).collect()
        }
        // Without a list: four bytes that are an address of the kernel in the file.
        None => {
            let bounds = bounds(&kernel.image);
            let extended = |number: u32| match kernel.image.width() {
                Width::Bits64 => i64::from(number.cast_signed()).cast_unsigned(),
                Width::Bits32 => u64::from(number),
            };
            let is_address = |&place: &u64| {
                file(place).is_some_and(|number| bounds.contains(&extended(number)))
                    && by(place).is_some_and(|slide| slide != 0)
            };
            (start..end).filter(is_address).collect()
        }
    };
    let mut slides = places.iter().filter_map(|&place| by(place));
    let first = slides.next()?;
    slides.all(|other| other == first).then_some(first)
}
