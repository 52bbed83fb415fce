//! Finds a kernel in a dump. A kernel need not lie where its file says: Linux chooses a random
//! physical address and a random virtual one (KASLR), and a position-independent kernel is loaded
//! anywhere.
//!
//! The *place* is found by content: short pieces of text from all over the file are looked for at
//! the same distance from each other. Patching changes few of them. The *slide*, the distance
//! between the virtual address and the one in the file, is read from the page tables: of all
//! distances, it is the one where they map the kernel's first page to that place. Without page
//! tables the pointers in the kernel's data vote: each is larger than in the file by the slide.

use std::collections::HashMap;

use super::memory::Memory;
use super::paging::PageTables;
use crate::insn::Width;
use crate::inspect::elf::{Image, Linkage, Section, little_endian};
use crate::inspect::error::FileError;

/// The evidence for the slide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlideEvidence {
    /// The addresses of the dump are virtual.
    Addresses,
    /// The page tables of the first CPU.
    PageTables,
    /// So many pointers in data that differ by it, of so many.
    Pointers {
        /// Pointers that agree.
        agree: usize,
        /// Pointers that were read.
        of: usize,
    },
}

/// A kernel in a dump.
#[derive(Debug)]
pub(crate) struct Located<'m, 'd> {
    memory: &'m Memory<'d>,
    /// What is added to an address of the file to find it in `memory`.
    distance: u64,
    /// Whether that gives a physical address.
    physical: bool,
    /// What is added to an address of the file to have the one in the running kernel.
    pub slide: u64,
    pub evidence: SlideEvidence,
    /// The page tables, if the dump has them and they map the kernel.
    pub pages: Option<PageTables>,
    /// Whether the page tables forbid execution where it is meant to be forbidden.
    forbids: bool,
    /// How many of the pieces of text are where they should be, and how many were looked for.
    pub pieces: (usize, usize),
}

impl<'m, 'd> Located<'m, 'd> {
    /// Returns a kernel that lies in memory where its file says. Nothing was looked for.
    pub(crate) fn as_linked(memory: &'m Memory<'d>) -> Self {
        let evidence = SlideEvidence::Addresses;
        Self {
            memory,
            distance: 0,
            physical: false,
            slide: 0,
            evidence,
            pages: None,
            forbids: false,
            pieces: (0, 0),
        }
    }
}

impl<'d> Located<'_, 'd> {
    /// Returns what is added to an address of the file to have the physical one, if the kernel was
    /// found by physical addresses.
    pub(crate) fn physical_distance(&self) -> Option<u64> {
        self.physical.then_some(self.distance)
    }

    /// Returns the bytes in the dump from an address of the file on, to the end of the region.
    pub(crate) fn onwards(&self, address: u64) -> Option<&'d [u8]> {
        let there = address.wrapping_add(self.distance);
        if self.physical {
            self.memory.physical_onwards(there)
        } else {
            self.memory.virtual_onwards(there)
        }
    }

    /// Returns `len` bytes in the dump from an address of the file on.
    pub(crate) fn bytes(&self, address: u64, len: usize) -> Option<&'d [u8]> {
        self.onwards(address)?.get(..len)
    }

    /// Returns `len` bytes in the dump from a virtual address of the running kernel on.
    pub(crate) fn virtual_bytes(&self, address: u64, len: usize) -> Option<&'d [u8]> {
        if let Some(bytes) = self.memory.virtual_onwards(address) {
            return bytes.get(..len);
        }
        let page = self.pages?.page(self.memory, address)?;
        self.memory.physical(page.physical, len)
    }

    /// Returns `len` bytes in the dump from a virtual address of the running kernel on, also if they
    /// are in several pages.
    pub(crate) fn virtual_copy(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        const PAGE: u64 = 0x1000;
        let mut bytes = vec![];
        while bytes.len() < len {
            let at = address.checked_add(bytes.len() as u64)?;
            let in_page = usize::try_from(PAGE - at % PAGE).ok()?;
            bytes.extend_from_slice(self.virtual_bytes(at, in_page.min(len - bytes.len()))?);
        }
        Some(bytes)
    }

    /// Returns the ranges of virtual addresses that only the kernel can execute: the first address
    /// of each, and its size. There are none without page tables.
    pub(crate) fn executable(&self) -> Vec<(u64, u64)> {
        self.pages.map_or_else(Vec::new, |pages| pages.executable(self.memory))
    }

    /// Returns whether a virtual address of the running kernel is mapped and can be executed.
    /// Without page tables every address is taken for one that is.
    pub(crate) fn is_executable_at(&self, address: u64) -> bool {
        let page = |pages: PageTables| pages.page(self.memory, address);
        self.pages.is_none_or(|pages| page(pages).is_some_and(|page| page.executable))
    }

    /// Returns whether the running kernel may execute the byte at an address of the file; `None`
    /// if the dump does not tell.
    pub(crate) fn is_executable(&self, address: u64) -> Option<bool> {
        let pages = self.pages?;
        let page = pages.page(self.memory, address.wrapping_add(self.slide));
        // Another mapping there means that the memory has been given to somebody else.
        let same =
            |physical: u64| !self.physical || physical == address.wrapping_add(self.distance);
        match page {
            // Everything that is mapped can be executed, also memory that was given back.
            Some(_) if !pages.can_forbid() => None,
            Some(page) if !self.forbids && same(page.physical) => None,
            page => Some(page.is_some_and(|page| page.executable && same(page.physical))),
        }
    }

    /// Returns whether the page tables forbid the execution of any data of the kernel. They do not
    /// on a CPU that cannot forbid it (without NX), or on which it was not switched on. Tables that
    /// map no data do not tell, and are believed.
    fn forbids_execution(&self, image: &Image<'_>) -> bool {
        let Some(pages) = self.pages.filter(|pages| pages.can_forbid()) else { return false };
        let data = image.sections().iter();
        let data = data.filter(|section| !section.is_executable() && section.address != 0);
        let address = |section: &Section<'_>| section.address.wrapping_add(self.slide);
        let mut mapped =
            data.filter_map(|section| pages.page(self.memory, address(section))).peekable();
        mapped.peek().is_none() || mapped.any(|page| !page.executable)
    }
}

/// Length in bytes of a piece of text that is looked for.
const PIECE: usize = 24;

/// How many pieces are looked for.
const PIECES: usize = 256;

/// Finds a kernel in memory. `alignment` is what its address in memory is a multiple of, seen from
/// where it is linked.
pub(crate) fn locate<'m, 'd>(
    image: &Image<'_>,
    memory: &'m Memory<'d>,
    alignment: u64,
) -> Result<Located<'m, 'd>, FileError> {
    let mut located = find(image, memory, alignment)?;
    located.forbids = located.forbids_execution(image);
    Ok(located)
}

fn find<'m, 'd>(
    image: &Image<'_>,
    memory: &'m Memory<'d>,
    alignment: u64,
) -> Result<Located<'m, 'd>, FileError> {
    let text = image
        .sections()
        .iter()
        .filter(|section| section.is_executable() && !section.data.is_empty())
        .max_by_key(|section| section.size)
        .ok_or_else(|| FileError::new("there is no text in it"))?;
    let pieces = pieces(text);
    if pieces.is_empty() {
        return Err(FileError::new("its text has too few bytes to be found in a dump"));
    }
    let physical = memory.is_physical();
    let tables = memory.registers.map(|registers| PageTables::new(image.width(), registers));
    // A dump by virtual addresses can have the same memory at several: text is what can be executed.
    let can_run = |distance: u64| {
        let mut tables =
            tables.into_iter().flat_map(|tables| [tables, tables.sibling()]).peekable();
        let address = wrapped(image.width(), text.address.wrapping_add(distance));
        tables.peek().is_none()
            || tables.any(|tables| tables.page(memory, address).is_some_and(|page| page.executable))
    };
    let mut best: Option<(usize, u64, bool)> = None;
    let mut consider = |distance: u64, physical: bool| {
        let found = score(memory, &pieces, distance, physical);
        let most = best.map_or(0, |(most, ..)| most);
        let replaces = |(_, before, was_physical): (usize, u64, bool)| {
            !(was_physical || can_run(before)) && (physical || can_run(distance))
        };
        if found > most || (found > 0 && found == most && best.is_some_and(replaces)) {
            best = Some((found, distance, physical));
        }
    };
    // A dump with virtual addresses says where the kernel runs, so these come first.
    for region in memory.regions() {
        for (start, is_physical) in
            [(region.virtual_address, false), (region.physical_address, true)]
        {
            let Some(start) = start else { continue };
            let end = start.saturating_add(region.bytes.len() as u64);
            // The first place in the region that is so aligned.
            let first = text.address.wrapping_sub(start).wrapping_rem(alignment);
            let mut at = start.saturating_add(first);
            while at < end {
                consider(at.wrapping_sub(text.address), is_physical);
                let Some(next) = at.checked_add(alignment) else { break };
                at = next;
            }
        }
    }
    let enough = pieces.len() / 3;
    let Some((found, distance, physical)) = best.filter(|&(found, ..)| found > enough) else {
        let kind = if physical { "physical" } else { "virtual" };
        return Err(FileError::new(format!(
            "this kernel is not in the dump: of {} pieces of its text at most {} are found at any \
             {kind} address; is it another build?",
            pieces.len(),
            best.map_or(0, |(found, ..)| found),
        )));
    };
    let mut located = Located {
        memory,
        distance,
        physical,
        slide: distance,
        evidence: SlideEvidence::Addresses,
        pages: None,
        forbids: false,
        pieces: (found, pieces.len()),
    };
    // Linux slides within a gigabyte; the negative half costs nothing.
    let all_steps = (2u64 << 30) / alignment;
    // Memory can also be mapped where it lies, in the other half of the addresses.
    let half = |address: u64| address >> if image.width() == Width::Bits64 { 63 } else { 31 };
    let in_half = |slide: u64| {
        half(wrapped(image.width(), text.address.wrapping_add(slide))) == half(text.address)
    };
    let slides = |tables: PageTables, steps: u64, anywhere: bool| -> Option<u64> {
        if !physical {
            let page = tables.page(memory, text.address.wrapping_add(distance));
            return page.map(|_| distance);
        }
        (0..steps)
            .map(|step| step * alignment)
            .flat_map(|up| [up, up.wrapping_neg()])
            .filter(|&slide| anywhere || in_half(slide))
            .find(|&slide| is_mapped(image, memory, tables, text.address, slide, distance))
    };
    // The kernel's own tables come first: a CPU that is stopped in user mode can use tables with the
    // kernel's text in them but without the memory in which it makes code. Where it did not move,
    // that is seen at once.
    let candidates = || tables.into_iter().flat_map(|tables| [tables.sibling(), tables]);
    let by_tables = |steps: u64, anywhere: bool| {
        candidates().find_map(|tables| Some((tables, slides(tables, steps, anywhere)?)))
    };
    let by_pointers = || {
        let (slide, evidence) = vote(image, &located)?;
        let mapped = candidates()
            .find(|&tables| is_mapped(image, memory, tables, text.address, slide, distance));
        Ok::<_, FileError>((mapped, slide, evidence))
    };
    // A position-independent file says where its pointers are, and can be loaded anywhere.
    if physical && image.kind() == Linkage::PositionIndependent {
        (located.pages, located.slide, located.evidence) = by_pointers()?;
        return Ok(located);
    }
    let with_tables = by_tables(1, false)
        .or_else(|| by_tables(all_steps, false))
        .or_else(|| by_tables(all_steps, true));
    if let Some((tables, slide)) = with_tables {
        located.pages = Some(tables);
        if physical {
            (located.slide, located.evidence) = (slide, SlideEvidence::PageTables);
        }
    } else if physical {
        (located.pages, located.slide, located.evidence) = by_pointers()?;
    }
    Ok(located)
}

/// Returns whether page tables map an address, moved by a slide, to where it was found, and allow it
/// to be executed.
fn is_mapped(
    image: &Image<'_>,
    memory: &Memory<'_>,
    tables: PageTables,
    address: u64,
    slide: u64,
    distance: u64,
) -> bool {
    let page = tables.page(memory, wrapped(image.width(), address.wrapping_add(slide)));
    page.is_some_and(|page| page.executable && page.physical == address.wrapping_add(distance))
}

fn wrapped(width: Width, address: u64) -> u64 {
    match width {
        Width::Bits32 => address & 0xffff_ffff,
        Width::Bits64 => address,
    }
}

/// Returns pieces of text with their addresses, spread over a section. A piece has many different
/// bytes, so that it is rare.
fn pieces<'d>(text: &Section<'d>) -> Vec<(u64, &'d [u8])> {
    let step = (text.data.len() / PIECES).max(PIECE);
    let rare = |piece: &&[u8]| {
        let mut bytes = piece.to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        bytes.len() > PIECE / 2
    };
    text.data
        .chunks(step)
        .enumerate()
        .filter_map(|(at, chunk)| {
            // The first piece of the chunk that is rare, of a few.
            let (skip, piece) =
                chunk.chunks_exact(PIECE).take(16).enumerate().find(|(_, p)| rare(p))?;
            Some((text.address + (at * step + skip * PIECE) as u64, piece))
        })
        .collect()
}

/// Returns how many pieces are in memory where a distance puts them. Gives up after the first few
/// if none of them is.
fn score(memory: &Memory<'_>, pieces: &[(u64, &[u8])], distance: u64, physical: bool) -> usize {
    const FIRST: usize = 12;
    let mut found = 0;
    for (at, &(address, piece)) in pieces.iter().enumerate() {
        if at == FIRST && found == 0 {
            return 0;
        }
        let there = address.wrapping_add(distance);
        let bytes =
            if physical { memory.physical_onwards(there) } else { memory.virtual_onwards(there) };
        if bytes.is_some_and(|bytes| bytes.starts_with(piece)) {
            found += 1;
        }
    }
    found
}

/// Finds the slide by the pointers in data: words that in the file are addresses of text.
fn vote(image: &Image<'_>, located: &Located<'_, '_>) -> Result<(u64, SlideEvidence), FileError> {
    /// How many pointers are read.
    const ENOUGH: usize = 50_000;
    let size = usize::try_from(image.width().pointer_size()).unwrap_or(8);
    let text: Vec<(u64, u64)> = image
        .sections()
        .iter()
        .filter(|section| section.is_executable() && section.size >= 0x1000)
        .map(|section| (section.address, section.end()))
        .collect();
    let mut votes: HashMap<u64, usize> = HashMap::new();
    let mut of = 0;
    let mut count = |place: u64, value: u64| {
        if let Some(seen) = located.bytes(place, size) {
            let distance = little_endian(seen).wrapping_sub(value);
            *votes.entry(wrapped(image.width(), distance)).or_default() += 1;
            of += 1;
        }
        of > ENOUGH
    };
    if image.kind() == Linkage::PositionIndependent {
        // A file whose pointers a loader fills in says where they are, and need not have them.
        let all = image.relocations_in(0, u64::MAX).iter();
        for relocation in all.filter(|relocation| relocation.dynamic && relocation.absolute) {
            let value = relocation.value.or_else(|| image.pointer_at(relocation.address));
            if value.is_some_and(|value| count(relocation.address, value)) {
                break;
            }
        }
    }
    let data = image.sections().iter().filter(|section| !section.is_executable());
    let words = data.filter(|section| section.address != 0).flat_map(|section| {
        let words = section.data.chunks_exact(size).map(little_endian);
        (section.address..).step_by(size).zip(words)
    });
    for (place, value) in words {
        if text.iter().any(|&(start, end)| start < value && value < end) && count(place, value) {
            break;
        }
    }
    let (slide, agree) = votes.into_iter().max_by_key(|&(_, count)| count).unwrap_or((0, 0));
    if agree * 2 <= of {
        return Err(FileError::new(format!(
            "where it ran cannot be told: of {of} pointers in its data at most {agree} differ from \
             the file by the same distance"
        )));
    }
    Ok((slide, SlideEvidence::Pointers { agree, of }))
}
