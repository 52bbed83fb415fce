//! A sweep over all instructions of all executable sections, once.
//!
//! The sweep goes on in line, and starts anew at each function: what looks like an
//! instruction in data or padding before it does no harm behind. Without symbols it starts
//! anew at what else is known to be a function, and skips [padding](super::padding). What a
//! site holds has no say in where the next instruction starts: the same is found whether
//! the site is patched or not.
//!
//! What the sweep cannot see: code that is reached only by jumping into the middle of
//! another instruction, and, without symbols, code behind data in text up to where the
//! decoder is in step again.

use std::iter::Peekable;

use iced_x86::{DecoderError, FlowControl, Instruction};

use super::padding::{Before, end_of_padding};
use crate::disassemble::decoder;
use crate::insn::{InsnBuffer, Kind};
use crate::inspect::elf::{Section, SymbolKind};
use crate::inspect::formats::SiteImage;
use crate::inspect::model::Model;

/// How many instructions between two reports of progress.
const REPORT: u64 = 1 << 18;

/// The most bytes that an instruction has (Intel SDM vol. 2A, "Instruction Prefixes").
const LONGEST: u64 = 15;

/// Who is told what the sweep comes by.
pub(crate) trait Visitor {
    /// Takes one instruction outside of sites.
    fn instruction(&mut self, at: u64, instruction: &Instruction);

    /// Is told that other code begins: what was known of registers holds no longer.
    fn begin(&mut self) {}

    /// Is told that a site starts inside of the instruction at `at`.
    fn site_inside_instruction(&mut self, _site: &SiteImage, _at: u64) {}

    /// Is told that a function starts inside of a site.
    fn start_inside_site(&mut self, _site: &SiteImage, _start: u64) {}

    /// Is told from time to time how many bytes of text are done, of how many.
    fn progress(&mut self, _done: u64, _of: u64) {}
}

/// Sweeps all text. `sites`: those in executable sections, by address, each once.
pub(crate) fn sweep(model: &Model<'_>, sites: &[&SiteImage], visitor: &mut dyn Visitor) {
    let image = model.image();
    let text = || {
        let sections = image.sections().iter();
        sections.filter(|section| section.is_executable() && !section.data.is_empty())
    };
    let of = text().map(|section| section.size).sum();
    let mut by_address: Vec<&Section<'_>> = text().collect();
    by_address.sort_by_key(|section| section.address);
    let starts = starts(model);
    let mut sweep = Sweep { model, sites, next: 0, done: 0, of, visitor };
    for section in by_address {
        let from = starts.partition_point(|start| start.address < section.address);
        let to = starts.partition_point(|start| start.address < section.end());
        let starts = starts.get(from..to).unwrap_or_default().iter();
        // At addresses that several sections share, each has its own functions.
        let own = starts.filter(|start| start.section.is_none_or(|own| own == section.index));
        sweep.section(section, own.map(|start| start.address));
        sweep.done += section.size;
    }
}

/// Returns the records of sites in executable sections, by address, each site once.
pub(crate) fn sites_in_text<'m>(model: &'m Model<'_>) -> Vec<&'m SiteImage> {
    let in_text = |record: &&SiteImage| {
        model.image().section_at(record.site).is_some_and(|section| section.is_executable())
    };
    let mut sites: Vec<&SiteImage> = model.records().iter().filter(in_text).collect();
    sites.sort_by_key(|record| (record.site, record.address));
    sites.dedup_by(|record, before| record.repeats(before));
    sites
}

struct Sweep<'s, 'd> {
    model: &'s Model<'d>,
    /// By address.
    sites: &'s [&'s SiteImage],
    /// Position of the first site that the sweep has not passed.
    next: usize,
    /// Bytes of the sections that are done, and of all of them.
    done: u64,
    of: u64,
    visitor: &'s mut dyn Visitor,
}

impl Sweep<'_, '_> {
    /// Sweeps one section. `starts`: where in this section the sweep starts anew, by
    /// address.
    fn section(&mut self, section: &Section<'_>, starts: impl Iterator<Item = u64>) {
        let mut starts = starts.peekable();
        let width = self.model.image().width();
        let mut decoder_in_line = decoder(width, section.address, section.data);
        let mut instruction = Instruction::default();
        let (mut at, end) = (section.address, section.end());
        let mut before = Before::End;
        let mut count: u64 = 0;
        // Where `decoder_in_line` stands; there it need not be told where it is.
        let mut from = at;
        self.skip_sites_before(at);
        while at < end {
            count += 1;
            if count.is_multiple_of(REPORT) {
                self.visitor.progress(self.done + (at - section.address), self.of);
            }
            while let Some(start) = starts.next_if(|&start| start <= at) {
                if start == at {
                    self.visitor.begin();
                }
            }
            if let Some((behind, kind)) = self.at_site(at) {
                self.not_a_start(at, behind, &mut starts);
                at = behind;
                before = match kind {
                    Some(Kind::Jump) => Before::End,
                    Some(Kind::Call) | None => Before::Call,
                };
                continue;
            }
            let Ok(position) = usize::try_from(at - section.address) else { return };
            let site = self.sites.get(self.next).map(|site| site.site);
            let rest = section.data.get(position..).unwrap_or_default();
            if let Some(padding) = end_of_padding(before, at, rest) {
                // A site in padding has other findings; a function that starts there starts.
                let limits = [site, starts.peek().copied()].into_iter().flatten();
                at = limits.fold(padding, u64::min).max(at + 1);
                before = Before::End;
                continue;
            }
            let site = site.filter(|&site| site < end && site - at < LONGEST);
            let mut cut = false;
            if let Some(site) = site {
                // What the site holds has no say in where it starts: the same is
                // found whether it is patched or not.
                let bytes = section.bytes(at, site - at).unwrap_or_default();
                let mut decoder = decoder(width, at, bytes);
                decoder.decode_out(&mut instruction);
                cut = decoder.last_error() == DecoderError::NoMoreBytes;
            } else {
                if from != at {
                    if decoder_in_line.set_position(position).is_err() {
                        return;
                    }
                    decoder_in_line.set_ip(at);
                }
                decoder_in_line.decode_out(&mut instruction);
                from = at.saturating_add(instruction.len() as u64);
            }
            let behind = match site {
                Some(site) if cut => site,
                _ if instruction.is_invalid() => at + 1,
                _ => at.saturating_add(instruction.len() as u64),
            };
            // Cut where a function starts: this was padding or data.
            if let Some(&start) =
                starts.peek().filter(|&&start| start < behind || start == behind && cut)
            {
                at = start;
                continue;
            }
            before = Before::Code;
            if cut {
                if let Some(site) = self.sites.get(self.next) {
                    self.visitor.site_inside_instruction(site, at);
                }
            } else if !instruction.is_invalid() {
                self.visitor.instruction(at, &instruction);
                before = behind_which(&instruction);
            }
            at = behind;
        }
    }

    /// Passes the sites that are in no section that is swept; the end of the section before
    /// has its last sites.
    fn skip_sites_before(&mut self, at: u64) {
        while self.sites.get(self.next).is_some_and(|site| site.site < at) {
            self.next += 1;
        }
    }

    /// Returns the end of the site that starts here, and what it is.
    fn at_site(&mut self, at: u64) -> Option<(u64, Option<Kind>)> {
        let mut found: Option<(u64, Option<Kind>)> = None;
        while let Some(site) = self.sites.get(self.next).filter(|site| site.site <= at) {
            // One that starts before overlaps its neighbour, which is found
            // elsewhere.
            if site.site == at {
                let end = found.map_or(0, |(end, _)| end).max(end_of(site));
                found = Some((end, site.kind()));
                self.visitor.begin();
            }
            self.next += 1;
        }
        found.filter(|&(end, _)| end > at)
    }

    /// Tells of functions that start inside of the site from `at` to `behind`.
    fn not_a_start(
        &mut self,
        at: u64,
        behind: u64,
        starts: &mut Peekable<impl Iterator<Item = u64>>,
    ) {
        while let Some(start) = starts.next_if(|&start| start < behind) {
            let site = self.sites.get(self.next.saturating_sub(1)).filter(|_| start > at);
            let Some(site) = site else { continue };
            self.visitor.start_inside_site(site, start);
        }
    }
}

/// Returns what an instruction is for what stands behind it.
fn behind_which(instruction: &Instruction) -> Before {
    match instruction.flow_control() {
        FlowControl::Return
        | FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Exception
        | FlowControl::Interrupt => Before::End,
        FlowControl::Call | FlowControl::IndirectCall => Before::Call,
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
            Before::Code
        }
    }
}

/// Returns the address behind a site, with a capacity that is possible: where it is not,
/// that is one finding and not many.
pub(crate) fn end_of(site: &SiteImage) -> u64 {
    let capacity = usize::from(site.capacity).clamp(InsnBuffer::MIN, InsnBuffer::MAX);
    site.site.saturating_add(capacity as u64)
}

/// An address where the sweep starts anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    address: u64,
    /// Number of the section, if it is known.
    section: Option<usize>,
}

/// Returns where the sweep starts anew, by address.
fn starts(model: &Model<'_>) -> Vec<Start> {
    // Behind data there may be code again.
    let code = model.image().symbols().list().iter().map(|symbol| {
        let data = if symbol.kind == SymbolKind::Object { symbol.size } else { 0 };
        Start { address: symbol.address.saturating_add(data), section: Some(symbol.section) }
    });
    let natives = model.patchlets().iter().filter_map(|patchlet| patchlet.native);
    let slots = model.ops.iter().filter_map(|op| op.native);
    let others = natives.chain(slots).chain([model.image().entry()]);
    let others = others.map(|address| Start { address, section: None });
    let mut starts: Vec<Start> = code.chain(others).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}
