//! Finds a module in a machine's memory: where the kernel's loader put each of its sections.
//!
//! 1. Text is found by its content, in memory that the kernel can execute.
//! 2. What the loader filled in there says where the sections are that text uses, and from these on,
//!    where those are that they use.
//! 3. A read-only section that nothing found so far leads to is found by its content, near text.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use object::LittleEndian;
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{SymbolIndex, elf};

use super::image::ENDIAN;
use super::placing::{OpenField, Placing};
use super::section::{little_endian, slice};
use crate::inspect::error::FileError;

/// The memory in which a module is looked for.
pub(crate) struct ModuleMemory<'m> {
    /// Returns so many bytes from a virtual address on.
    pub read: &'m dyn Fn(u64, usize) -> Option<Vec<u8>>,
    /// The memory that the kernel can execute, and that is not its own text: the first address of
    /// each range, and its size.
    pub executable: Vec<(u64, u64)>,
    /// Returns the address of a symbol of the kernel.
    pub symbol: &'m dyn Fn(&str) -> Option<u64>,
    /// The sites of the module: the number of the section of each, and where it is there.
    pub sites: Vec<(usize, Range<u64>)>,
}

/// The most memory in which text is looked for, in bytes. Modules are smaller by far.
const MOST: u64 = 64 << 20;

/// How often pieces of text are compared where the first bytes of one were found, and how many
/// pieces with the same first bytes there can be.
const MOST_COMPARED: usize = 100_000;
const MOST_ALIKE: usize = 4;

/// How often fields are followed, and how many sections are looked for by their content.
const ROUNDS: usize = 64;

/// How many bytes of a piece are looked for at once.
const FIRST: usize = 8;

/// Length in bytes of a piece of text that is looked for, and how many are.
const PIECE: usize = 16;
const PIECES: usize = 64;

/// How far from text a section is looked for, in bytes.
const NEAR: u64 = 16 << 20;
const PAGE: u64 = 0x1000;

/// The fewest bytes in a row by which a section is found, and the most that are looked for at once.
const FEWEST: usize = 8;
const LONGEST: usize = 256;

/// Places the sections of a module where they are in memory. Returns the ranges of made-up addresses,
/// of sections that were not found.
pub(super) fn search<E: FileHeader<Endian = LittleEndian>>(
    placing: &mut Placing<'_, E>,
    memory: &ModuleMemory<'_>,
) -> Result<Vec<Range<u64>>, FileError> {
    placing.lay_out()?;
    let mut fields = placing.open_fields()?;
    fields.sort_by_key(|field| field.section);
    let mut sites = memory.sites.clone();
    sites.sort_by_key(|(section, site)| (*section, site.start));
    let mut search = ModuleSearch {
        placing,
        memory,
        fields: &fields,
        sites: &sites,
        known: HashMap::new(),
        symbols: HashMap::new(),
        near: vec![],
        tried: HashSet::new(),
    };
    search.find_text()?;
    for _ in 0..ROUNDS {
        if !search.follow_fields() && !search.find_by_content() {
            break;
        }
    }
    let ModuleSearch { known, symbols, .. } = search;
    finish(placing, memory, &known, &symbols)
}

struct ModuleSearch<'s, 'p, 'd, 'm, E: FileHeader<Endian = LittleEndian>> {
    placing: &'s Placing<'d, E>,
    memory: &'p ModuleMemory<'m>,
    /// Sorted by section.
    fields: &'p [OpenField],
    /// Sorted by section and place.
    sites: &'p [(usize, Range<u64>)],
    /// The address of each section that was found.
    known: HashMap<usize, u64>,
    /// The values of symbols that are in no section of the module.
    symbols: HashMap<usize, u64>,
    /// The pages near text, each with its address and the first bytes of the next; the nearest first.
    near: Vec<(u64, Vec<u8>)>,
    /// The sections that were looked for by their content.
    tried: HashSet<usize>,
}

/// A piece of text, with the section and the offset that it stands at.
struct Piece {
    section: usize,
    offset: usize,
    bytes: Vec<u8>,
}

/// A symbol, by where its value comes from.
enum SymbolPlace {
    /// A section of the module, and the offset in it.
    Section(usize, u64),
    Outside,
}

impl<'p, 'd, E: FileHeader<Endian = LittleEndian>> ModuleSearch<'_, 'p, 'd, '_, E> {
    fn data(&self, section: usize) -> &'d [u8] {
        let header = self.placing.sections.section(object::SectionIndex(section)).ok();
        let range = header.and_then(|header| header.file_range(ENDIAN));
        let object: &'d [u8] = self.placing.object;
        range.and_then(|(start, size)| slice(object, start, size)).unwrap_or_default()
    }

    fn flags(&self, section: usize) -> elf::SectionFlags {
        let header = self.placing.sections.section(object::SectionIndex(section)).ok();
        header.map_or(elf::SectionFlags(0), |header| header.sh_flags(ENDIAN))
    }

    fn fields_of(&self, section: usize) -> &'p [OpenField] {
        let from = self.fields.partition_point(|field| field.section < section);
        let to = self.fields.partition_point(|field| field.section <= section);
        self.fields.get(from..to).unwrap_or_default()
    }

    fn sites_of(&self, section: usize) -> &'p [(usize, Range<u64>)] {
        let from = self.sites.partition_point(|(of, _)| *of < section);
        let to = self.sites.partition_point(|(of, _)| *of <= section);
        self.sites.get(from..to).unwrap_or_default()
    }

    /// Returns whether a field is in a site, so that patching has changed it.
    fn is_in_site(&self, field: &OpenField) -> bool {
        let sites = self.sites_of(field.section);
        let at = sites.partition_point(|(_, site)| site.end <= field.offset);
        sites.get(at).is_some_and(|(_, site)| site.start < field.offset + field.len)
    }

    fn loaded(&self) -> impl Iterator<Item = usize> {
        let addresses = self.placing.addresses.iter().enumerate();
        addresses.filter(|(_, address)| address.is_some()).map(|(number, _)| number)
    }

    /// Returns the bytes of a section that are the same in memory: `None` for those in sites, and in
    /// fields whose content is not known.
    fn content(&self, section: usize) -> Vec<Option<u8>> {
        let mut content: Vec<Option<u8>> = self.data(section).iter().copied().map(Some).collect();
        let mut put = |range: Range<u64>, bytes: Option<[u8; 8]>| {
            let start = usize::try_from(range.start).unwrap_or(usize::MAX);
            let places = content.iter_mut().skip(start);
            for (place, at) in places.zip(0..range.end.saturating_sub(range.start)) {
                *place = bytes.and_then(|bytes| bytes.get(at as usize).copied());
            }
        };
        for field in self.fields_of(section) {
            let symbol = match self.place(field.symbol) {
                Some(SymbolPlace::Section(of, offset)) => {
                    self.known.get(&of).map(|address| address.wrapping_add(offset))
                }
                _ => None,
            };
            let value = symbol.filter(|_| !field.relative).map(|symbol| field.value(0, symbol));
            put(field.offset..field.offset + field.len, value.map(u64::to_le_bytes));
        }
        for (_, range) in self.sites_of(section) {
            put(range.clone(), None);
        }
        content
    }

    fn place(&self, symbol: usize) -> Option<SymbolPlace> {
        let index = SymbolIndex(symbol);
        let found = self.placing.symbols.symbol(index).ok()?;
        let section = self.placing.symbols.symbol_section(ENDIAN, found, index).ok()?;
        Some(match section {
            Some(section) => SymbolPlace::Section(section.0, found.st_value(ENDIAN).into()),
            None => SymbolPlace::Outside,
        })
    }

    /// Finds each section with instructions.
    fn find_text(&mut self) -> Result<(), FileError> {
        let mut pieces: Vec<Piece> = vec![];
        let is_text = |section: &usize| self.flags(*section).contains(elf::SHF_EXECINSTR);
        for section in self.loaded().filter(is_text) {
            let of_section = pieces_of(&self.content(section)).into_iter();
            pieces.extend(of_section.map(|(offset, bytes)| Piece { section, offset, bytes }));
        }
        // The pieces of a section stand together in the list.
        let of_section = |section: usize| {
            let from = pieces.partition_point(|piece| piece.section < section);
            let to = pieces.partition_point(|piece| piece.section <= section);
            pieces.get(from..to).unwrap_or_default()
        };
        let mut alike: HashMap<[u8; FIRST], Vec<&Piece>> = HashMap::new();
        for piece in &pieces {
            let Some(first) = piece.bytes.first_chunk::<FIRST>() else { continue };
            let alike = alike.entry(*first).or_default();
            if alike.len() < MOST_ALIKE {
                alike.push(piece);
            }
        }
        let mut best: HashMap<usize, (usize, u64)> = HashMap::new();
        let (mut searched, mut compared) = (0_u64, 0);
        for &(start, size) in &self.memory.executable {
            searched = searched.saturating_add(size);
            let Some(len) = usize::try_from(size).ok().filter(|_| searched <= MOST) else { break };
            let Some(bytes) = (self.memory.read)(start, len) else { continue };
            for (at, window) in bytes.windows(FIRST).enumerate() {
                let first = window.first_chunk::<FIRST>();
                for piece in first.and_then(|first| alike.get(first)).into_iter().flatten() {
                    let Some(base) = at.checked_sub(piece.offset) else { continue };
                    compared += 1;
                    if compared > MOST_COMPARED {
                        break;
                    }
                    let is_there = |piece: &&Piece| {
                        let there = bytes.get(base + piece.offset..);
                        there.is_some_and(|there| there.starts_with(&piece.bytes))
                    };
                    let found = of_section(piece.section).iter().filter(is_there).count();
                    let best = best.entry(piece.section).or_default();
                    if found > best.0 {
                        *best = (found, start + base as u64);
                    }
                }
            }
        }
        let enough = |section: usize, found: usize| found * 2 > of_section(section).len();
        let found = best.into_iter().filter(|&(section, (found, _))| enough(section, found));
        let found: Vec<(usize, u64)> =
            found.map(|(section, (_, address))| (section, address)).collect();
        self.known.extend(found);
        if self.known.is_empty() {
            return Err(FileError::new(
                "this module is not in the memory that the kernel can execute: is it loaded, and is \
                 it this build? (Without page tables in the dump no module is found.)",
            ));
        }
        Ok(())
    }

    /// Finds sections and symbols by what fields of known sections hold. Returns whether it has
    /// found any.
    fn follow_fields(&mut self) -> bool {
        let mut sections: HashMap<usize, HashMap<u64, usize>> = HashMap::new();
        let mut symbols: HashMap<usize, HashMap<u64, usize>> = HashMap::new();
        for field in self.fields {
            let Some(&address) = self.known.get(&field.section) else { continue };
            if self.is_in_site(field) {
                continue;
            }
            let Some(place) = self.place(field.symbol) else { continue };
            let at = address.wrapping_add(field.offset);
            let Some(bytes) = (self.memory.read)(at, field.len as usize) else { continue };
            let value = match *bytes {
                [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])).cast_unsigned(),
                _ => little_endian(&bytes),
            };
            let value = self.wrapped(field.symbol_of(address, value));
            match place {
                SymbolPlace::Section(of, offset) if !self.known.contains_key(&of) => {
                    let start = self.wrapped(value.wrapping_sub(offset));
                    *sections.entry(of).or_default().entry(start).or_default() += 1;
                }
                SymbolPlace::Outside if !self.symbols.contains_key(&field.symbol) => {
                    *symbols.entry(field.symbol).or_default().entry(value).or_default() += 1;
                }
                _ => {}
            }
        }
        let before = self.known.len() + self.symbols.len();
        let chosen = |votes: HashMap<u64, usize>| {
            let most = votes.iter().max_by_key(|&(_, count)| count).map(|(&value, _)| value)?;
            // They all agree, or nothing of this section can be believed.
            (votes.len() == 1).then_some(most)
        };
        let found = |all: HashMap<usize, HashMap<u64, usize>>| {
            all.into_iter().filter_map(move |(number, votes)| Some((number, chosen(votes)?)))
        };
        self.known.extend(found(sections));
        self.symbols.extend(found(symbols));
        self.known.len() + self.symbols.len() > before
    }

    /// Finds a read-only section by its content. Returns whether it has found one.
    fn find_by_content(&mut self) -> bool {
        let is_unknown = |section: &usize| {
            !self.known.contains_key(section)
                && !self.tried.contains(section)
                && !self.flags(*section).contains(elf::SHF_WRITE)
        };
        let unknown: Vec<usize> = self.loaded().filter(is_unknown).collect();
        for section in unknown {
            let content = self.content(section);
            let Some((offset, run)) = longest_run(&content) else { continue };
            if self.tried.len() == ROUNDS {
                return false;
            }
            self.tried.insert(section);
            self.read_near();
            let found = self.near.iter().find_map(|(page, bytes)| {
                positions(bytes, &run).find_map(|at| {
                    let start = page.checked_add(at as u64)?.checked_sub(offset as u64)?;
                    let there = (self.memory.read)(start, content.len())?;
                    let is_same = there
                        .iter()
                        .zip(&content)
                        .all(|(byte, known)| known.is_none_or(|known| known == *byte));
                    is_same.then_some(start)
                })
            });
            if let Some(address) = found {
                self.known.insert(section, address);
                return true;
            }
        }
        false
    }

    /// Reads the pages near text, once.
    fn read_near(&mut self) {
        let Some(text) = self.known.values().copied().min().filter(|_| self.near.is_empty()) else {
            return;
        };
        let first = text.saturating_sub(NEAR) & !(PAGE - 1);
        let pages = (0..2 * NEAR / PAGE).filter_map(|page| first.checked_add(page * PAGE));
        let mut pages: Vec<u64> = pages.collect();
        pages.sort_by_key(|page| page.abs_diff(text));
        for page in pages {
            let Some(mut bytes) = (self.memory.read)(page, PAGE as usize) else { continue };
            // What begins here can go on in the next page.
            let next = page.checked_add(PAGE);
            let more = next.and_then(|next| (self.memory.read)(next, LONGEST));
            bytes.extend(more.unwrap_or_default());
            self.near.push((page, bytes));
        }
    }

    fn wrapped(&self, address: u64) -> u64 {
        if E::is_type_64_sized() { address } else { address & 0xffff_ffff }
    }
}

/// Returns pieces of content that are known in one piece, spread over it, with their offsets.
fn pieces_of(content: &[Option<u8>]) -> Vec<(usize, Vec<u8>)> {
    let step = (content.len() / PIECES).max(PIECE);
    let mut pieces = vec![];
    for (number, chunk) in content.chunks(step).enumerate() {
        let found = chunk.windows(PIECE).take(64).enumerate().find_map(|(at, window)| {
            let known: Option<Vec<u8>> = window.iter().copied().collect();
            let known = known?;
            let mut different = known.clone();
            different.sort_unstable();
            different.dedup();
            (different.len() > PIECE / 2).then_some((at, known))
        });
        if let Some((at, piece)) = found {
            pieces.push((number * step + at, piece));
        }
    }
    pieces
}

/// Returns the longest known piece of content with its offset, if it is long enough.
fn longest_run(content: &[Option<u8>]) -> Option<(usize, Vec<u8>)> {
    let mut at = 0;
    let mut best: Option<(usize, Vec<u8>)> = None;
    for run in content.split(Option::is_none) {
        if run.len() >= FEWEST && best.as_ref().is_none_or(|(_, best)| run.len() > best.len()) {
            best = run.iter().copied().collect::<Option<Vec<u8>>>().map(|bytes| (at, bytes));
        }
        at += run.len() + 1;
    }
    best.map(|(at, mut bytes)| {
        bytes.truncate(LONGEST);
        (at, bytes)
    })
}

/// Returns where a piece stands in bytes.
fn positions<'b>(bytes: &'b [u8], piece: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let first = piece.first().copied();
    let starts = bytes.iter().enumerate().filter(move |&(_, &byte)| Some(byte) == first);
    starts
        .map(|(at, _)| at)
        .filter(move |&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(piece)))
}

/// Gives each section and symbol its address. Returns the ranges of made-up ones.
fn finish<E: FileHeader<Endian = LittleEndian>>(
    placing: &mut Placing<'_, E>,
    memory: &ModuleMemory<'_>,
    known: &HashMap<usize, u64>,
    symbols: &HashMap<usize, u64>,
) -> Result<Vec<Range<u64>>, FileError> {
    let mut made_up = vec![];
    let sizes: Vec<u64> =
        placing.sections.iter().map(|section| section.sh_size(ENDIAN).into()).collect();
    let size = |section: usize| sizes.get(section).copied().unwrap_or(0);
    let ends = known.iter().map(|(&section, &address)| address.saturating_add(size(section)));
    let too_high = || FileError::new("a module at the end of the addresses");
    // Within reach of what was found, and behind it.
    let mut next = ends.max().and_then(|end| end.checked_add(PAGE)).ok_or_else(too_high)?;
    for (section, address) in placing.addresses.iter_mut().enumerate() {
        if address.is_none() {
            continue;
        }
        *address = Some(match known.get(&section) {
            Some(&address) => address,
            None => {
                let start = next.checked_next_multiple_of(PAGE).ok_or_else(too_high)?;
                next = start.checked_add(size(section)).ok_or_else(too_high)?;
                made_up.push(start..next);
                start
            }
        });
    }
    let mut values = vec![];
    for (index, symbol) in placing.symbols.enumerate() {
        let value: u64 = symbol.st_value(ENDIAN).into();
        let section = placing.section_of(index, symbol)?;
        let name = || {
            let name = placing.symbols.symbol_name(ENDIAN, symbol).ok()?;
            (memory.symbol)(str::from_utf8(name).ok()?)
        };
        let outside = || name().or_else(|| symbols.get(&index.0).copied());
        values.push(match section {
            Some(address) => address.wrapping_add(value),
            None if symbol.is_undefined(ENDIAN) => outside().unwrap_or(0),
            None => value,
        });
    }
    placing.values = values;
    Ok(made_up)
}
