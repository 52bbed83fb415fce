//! The sweep: one pass over all instructions of all executable sections.
//!
//! The sweep decodes one instruction after the other and starts anew at each function, so that
//! data or padding, decoded as an instruction, cannot shift the instructions of the function
//! behind it. Without symbols it starts anew at the other addresses that are known to be
//! functions, and skips [padding](super::padding). It does not decode sites: it skips each by its
//! capacity, so that it finds the same whether the site is patched or not.
//!
//! The sweep misses code that is reached only by jumping into the middle of another instruction.
//! Without symbols it also misses code behind data in text, up to the first instruction that the
//! decoder meets at its start again.

use std::iter::Peekable;

use iced_x86::{DecoderError, FlowControl, Instruction};

use super::padding::{Before, FILLS, ZEROS, end_of_padding};
use super::text_site::TextSite;
use crate::disassemble::{LONGEST_INSTRUCTION, decoder};
use crate::insn::Width;
use crate::inspect::elf::{Image, Section, SymbolKind};
use crate::inspect::model::Model;

/// The number of instructions between two reports of progress.
const REPORT: u64 = 1 << 18;

/// A receiver of what the sweep finds.
pub(crate) trait Visitor {
    /// Receives an instruction outside of sites, at address `at`.
    fn instruction(&mut self, at: u64, instruction: &Instruction);

    /// Learns that the next instruction is not reached from the one before: a function or a site
    /// starts here. Knowledge about the contents of registers must be dropped.
    fn begin(&mut self) {}

    /// Learns that an instruction or a site starts at `at`.
    fn boundary(&mut self, _at: u64) {}

    /// Learns that a site starts inside of the instruction at `at`.
    fn site_inside_instruction(&mut self, _site: &TextSite<'_>, _at: u64) {}

    /// Learns that a function starts inside of a site, at `start`.
    fn start_inside_site(&mut self, _site: &TextSite<'_>, _start: u64) {}

    /// Learns, from time to time, that `done` of `of` bytes of text are done.
    fn progress(&mut self, _done: u64, _of: u64) {}
}

/// Sweeps all text of a kernel with this crate. `sites` are the sites in executable sections, sorted
/// by address, each once.
pub(crate) fn sweep(model: &Model<'_>, sites: &[TextSite<'_>], visitor: &mut dyn Visitor) {
    let natives = model.patchlets().iter().filter_map(|patchlet| patchlet.native);
    let slots = model.ops.iter().filter_map(|op| op.native);
    let variants = model.variants().iter().map(|variant| variant.function);
    let functions = natives.chain(slots).chain(variants).chain([model.image().entry()]);
    let mut targets: Vec<u64> = model.branches().iter().map(|branch| branch.target).collect();
    targets.sort_unstable();
    sweep_image(model.image(), functions, (sites, &targets), FILLS, visitor);
}

/// Sweeps all text of a Linux kernel, which has no sites of the crate. `functions` are the addresses that are
/// known to be instructions beside those that symbols name.
pub(crate) fn sweep_text(
    image: &Image<'_>,
    functions: impl Iterator<Item = u64>,
    visitor: &mut dyn Visitor,
) {
    sweep_image(image, functions, (&[], &[]), ZEROS, visitor);
}

fn sweep_image(
    image: &Image<'_>,
    functions: impl Iterator<Item = u64>,
    (sites, targets): (&[TextSite<'_>], &[u64]),
    fills: &[&[u8]],
    visitor: &mut dyn Visitor,
) {
    let text = || {
        let sections = image.sections().iter();
        sections.filter(|section| section.is_executable() && !section.data.is_empty())
    };
    let of = text().map(|section| section.size).sum();
    let mut by_address: Vec<&Section<'_>> = text().collect();
    by_address.sort_by_key(|section| section.address);
    let starts = starts(image, functions);
    let width = image.width();
    let mut sweep = Sweep { width, sites, targets, fills, next: 0, done: 0, of, visitor };
    for section in by_address {
        let from = starts.partition_point(|start| start.address < section.address);
        let to = starts.partition_point(|start| start.address < section.end());
        let starts = starts.get(from..to).unwrap_or_default().iter();
        // Where sections share addresses, a function belongs to the section that its symbol names.
        let own = starts.filter(|start| start.section.is_none_or(|own| own == section.index));
        sweep.section(section, own.map(|start| start.address));
        sweep.done += section.size;
    }
}

/// The state of a sweep.
struct Sweep<'s> {
    width: Width,
    /// The sites, sorted by address.
    sites: &'s [TextSite<'s>],
    /// The targets of branch sites, sorted.
    targets: &'s [u64],
    /// What padding can repeat.
    fills: &'s [&'s [u8]],
    /// Position of the first site that the sweep has not passed.
    next: usize,
    /// Size of the sections that are done, in bytes.
    done: u64,
    /// Size of all sections, in bytes.
    of: u64,
    visitor: &'s mut dyn Visitor,
}

impl Sweep<'_> {
    /// Sweeps one section. `starts` are the addresses in this section at which the sweep starts
    /// anew, sorted.
    fn section(&mut self, section: &Section<'_>, starts: impl Iterator<Item = u64>) {
        let mut starts = starts.peekable();
        let width = self.width;
        let mut decoder_in_line = decoder(width, section.address, section.data);
        let mut instruction = Instruction::default();
        let (mut at, end) = (section.address, section.end());
        let mut before = Before::End;
        let mut count: u64 = 0;
        // The address at which `decoder_in_line` stands. Setting its position costs time, so it
        // is set only if the next instruction is elsewhere.
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
            if let Some((behind, what)) = self.at_site(at) {
                self.visitor.boundary(at);
                self.not_a_start(at, behind, &mut starts);
                at = behind;
                before = what;
                continue;
            }
            let Ok(position) = usize::try_from(at - section.address) else { return };
            let site = self.sites.get(self.next).map(|site| site.start);
            let rest = section.data.get(position..).unwrap_or_default();
            let is_target = || self.targets.binary_search(&at).is_ok();
            if let Some(padding) = end_of_padding(self.fills, before, at, rest)
                && !is_target()
            {
                // Padding ends where a site or a function is known to start, or a branch site
                // jumps to.
                let behind = self.targets.partition_point(|&target| target <= at);
                let target = self.targets.get(behind).copied();
                let limits = [site, starts.peek().copied(), target].into_iter().flatten();
                at = limits.fold(padding, u64::min).max(at + 1);
                before = Before::End;
                continue;
            }
            let site = site.filter(|&site| site < end && site - at < LONGEST_INSTRUCTION as u64);
            let mut cut = false;
            if let Some(site) = site {
                // A site may start within the next 15 bytes. The decoder gets only the bytes
                // before it: the result must not depend on whether the site is patched. If they
                // are too few for an instruction, the site starts in the middle of one.
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
            // A function starts inside of this instruction, or right behind it while the site
            // cut it: the instruction was padding or data. Go on at the function.
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
                self.visitor.boundary(at);
                self.visitor.instruction(at, &instruction);
                before = behind_which(&instruction);
            }
            at = behind;
        }
    }

    /// Skips the sites that start before address `at`. They are behind the end of the section
    /// before, in no section that is swept.
    fn skip_sites_before(&mut self, at: u64) {
        while self.sites.get(self.next).is_some_and(|site| site.start < at) {
            self.next += 1;
        }
    }

    /// Returns the first address behind the site that starts at `at`, and which kind of code it is
    /// for the bytes behind it. Of several sites that start there, the longest counts.
    fn at_site(&mut self, at: u64) -> Option<(u64, Before)> {
        let mut found: Option<(u64, Before)> = None;
        while let Some(site) = self.sites.get(self.next).filter(|site| site.start <= at) {
            // A site that starts before `at` overlaps the site before it, which
            // `verify/overlap.rs` finds.
            if site.start == at {
                let end = found.map_or(0, |(end, _)| end).max(site.end);
                found = Some((end, site.before));
                self.visitor.begin();
            }
            self.next += 1;
        }
        found.filter(|&(end, _)| end > at)
    }

    /// Tells the visitor of functions that start inside of the site from `at` to `behind`.
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

/// Returns which kind of code an instruction is for the bytes behind it.
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

/// An address where the sweep starts anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    address: u64,
    /// Number of the section, if it is known.
    section: Option<usize>,
}

/// Returns the addresses where the sweep starts anew, sorted: the symbols, and other addresses that
/// are known to be functions.
fn starts(image: &Image<'_>, functions: impl Iterator<Item = u64>) -> Vec<Start> {
    // Of a data symbol in text the end counts: code may follow the data.
    let code = image.symbols().list().iter().map(|symbol| {
        let data = if symbol.kind == SymbolKind::Object { symbol.size } else { 0 };
        Start { address: symbol.address.saturating_add(data), section: Some(symbol.section) }
    });
    let others = functions.map(|address| Start { address, section: None });
    let mut starts: Vec<Start> = code.chain(others).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}
