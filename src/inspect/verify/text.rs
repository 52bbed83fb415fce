//! A sweep over all instructions of all executable sections, once: each site
//! starts at one, no branch leads into the middle of a site, and nothing goes
//! through an ops table without a record.
//!
//! The sweep goes on in line, and starts anew at each function: what looks like
//! an instruction in data or padding before it does no harm behind. Without
//! symbols it starts anew at what else is known to be a function.

use std::iter::Peekable;

use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    Mnemonic, OpAccess, OpKind, Register,
};

use super::sites::place;
use crate::insn::{InsnBuffer, Width};
use crate::inspect::disassemble::{bitness, branch_target};
use crate::inspect::finding::{Code, Findings};
use crate::inspect::image::{FileKind, Section};
use crate::inspect::model::Model;
use crate::inspect::records::Record;
use crate::inspect::symbols::SymbolKind;

/// How many instructions between two reports of progress.
const REPORT: u64 = 1 << 18;

/// The most bytes that an instruction has.
const LONGEST: u64 = 15;

pub(super) fn check(
    model: &Model<'_>,
    sites: &[&Record],
    progress: &mut dyn FnMut(u64, u64),
    findings: &mut Findings,
) {
    let text = || model.image.by_address.iter().filter_map(|&at| model.image.sections.get(at));
    let text = || text().filter(|section| section.is_executable() && !section.data.is_empty());
    let total = text().map(|section| section.size).sum();
    let mut done = 0;
    let starts = starts(model);
    let mut sweep = Sweep {
        model,
        sites,
        next: 0,
        tables: Extent::of_tables(model),
        loaded: None,
        info: InstructionInfoFactory::new(),
        findings,
    };
    for section in text() {
        let from = starts.partition_point(|&start| start < section.address);
        let to = starts.partition_point(|&start| start < section.end());
        let starts = starts.get(from..to).unwrap_or_default();
        sweep.section(section, starts, &mut |part| progress(done + part, total));
        done += section.size;
    }
}

/// The addresses that all ops tables lie between: a cheap first question.
#[derive(Clone, Copy)]
struct Extent {
    first: u64,
    end: u64,
}

impl Extent {
    fn of_tables(model: &Model<'_>) -> Self {
        let pointer = model.image.width().pointer_size();
        let ends = model.tables.list.iter();
        let ends = ends.map(|table| table.address.saturating_add(table.slots * pointer));
        Self {
            first: model.tables.list.first().map_or(u64::MAX, |table| table.address),
            end: ends.max().unwrap_or(0),
        }
    }

    const fn contains(self, address: u64) -> bool {
        self.first <= address && address < self.end
    }
}

struct Sweep<'s, 'd> {
    model: &'s Model<'d>,
    /// By address.
    sites: &'s [&'s Record],
    /// Position of the first site that the sweep has not passed.
    next: usize,
    tables: Extent,
    /// A register that holds what a slot holds, and the slot.
    loaded: Option<(Register, u64)>,
    info: InstructionInfoFactory,
    findings: &'s mut Findings,
}

impl Sweep<'_, '_> {
    /// `starts`: where in this section it starts anew, by address.
    fn section(&mut self, section: &Section<'_>, starts: &[u64], progress: &mut dyn FnMut(u64)) {
        let mut starts = starts.iter().copied().peekable();
        let width = bitness(self.model.image.width());
        let options = DecoderOptions::NONE;
        let mut decoder = Decoder::with_ip(width, section.data, section.address, options);
        let mut instruction = Instruction::default();
        let (mut at, end) = (section.address, section.end());
        let mut count: u64 = 0;
        // `from`: where the decoder stands; it need not be told where it is.
        let mut from = at;
        while at < end {
            count += 1;
            if count.is_multiple_of(REPORT) {
                progress(at - section.address);
            }
            while let Some(start) = starts.next_if(|&start| start <= at) {
                if start == at {
                    self.loaded = None;
                }
            }
            if let Some(behind) = self.at_site(at) {
                self.not_a_start(at, behind, &mut starts);
                at = behind;
                continue;
            }
            let Ok(position) = usize::try_from(at - section.address) else { return };
            let site = self.sites.get(self.next).map(|site| site.site);
            let site = site.filter(|&site| site < end && site - at < LONGEST);
            let mut cut = false;
            if let Some(site) = site {
                // What the site holds has no say in where it starts: the same is
                // found whether it is patched or not.
                let before = section.bytes(at, site - at).unwrap_or_default();
                let mut decoder = Decoder::with_ip(width, before, at, options);
                decoder.decode_out(&mut instruction);
                cut = decoder.last_error() == DecoderError::NoMoreBytes;
            } else {
                if from != at {
                    if decoder.set_position(position).is_err() {
                        return;
                    }
                    decoder.set_ip(at);
                }
                decoder.decode_out(&mut instruction);
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
            if cut {
                self.not_at_instruction(at);
            } else if !instruction.is_invalid() {
                self.instruction(at, &instruction);
            }
            at = behind;
        }
    }

    /// The end of the site that starts here.
    fn at_site(&mut self, at: u64) -> Option<u64> {
        let mut end = None;
        while let Some(site) = self.sites.get(self.next).filter(|site| site.site <= at) {
            // One that starts before overlaps its neighbour, which is found
            // elsewhere.
            if site.site == at {
                end = end.max(Some(end_of(site)));
                self.loaded = None;
            }
            self.next += 1;
        }
        end.filter(|&end| end > at)
    }

    /// The next site starts inside of the instruction at `at`.
    fn not_at_instruction(&mut self, at: u64) {
        let Some(site) = self.sites.get(self.next) else { return };
        self.findings.add(
            Code::SiteBoundary,
            Some(site.site),
            place(self.model, site),
            format!("it starts in the middle of the instruction at {at:#x}"),
            "emit sites by the macros of patchlet only; give assembly functions .type and .size",
        );
    }

    /// No function starts inside of the site from `at` to `behind`.
    fn not_a_start(
        &mut self,
        at: u64,
        behind: u64,
        starts: &mut Peekable<impl Iterator<Item = u64>>,
    ) {
        while let Some(start) = starts.next_if(|&start| start < behind) {
            let site = self.sites.get(self.next.saturating_sub(1)).filter(|_| start > at);
            let Some(site) = site else { continue };
            self.findings.add(
                Code::SiteBoundary,
                Some(site.site),
                place(self.model, site),
                format!("{} starts in the middle of it, at {start:#x}", self.model.function(start)),
                "emit sites by the macros of patchlet only, with the capacity they say",
            );
        }
    }

    fn instruction(&mut self, at: u64, instruction: &Instruction) {
        if let Some(target) = branch_target(instruction) {
            self.branch(at, target);
        }
        let through = match instruction.flow_control() {
            FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                match instruction.op0_kind() {
                    OpKind::Memory => self.slot_of(instruction),
                    OpKind::Register => self.loaded_in(instruction.op0_register()),
                    _ => None,
                }
            }
            FlowControl::Call | FlowControl::UnconditionalBranch if self.loaded.is_some() => {
                branch_target(instruction).and_then(|target| self.thunk(target))
            }
            _ => None,
        };
        if let Some(slot) = through {
            self.unrecorded(at, slot);
        }
        self.follow(instruction);
    }

    fn branch(&mut self, at: u64, target: u64) {
        let behind = self.sites.partition_point(|site| site.site < target);
        let Some(site) = behind.checked_sub(1).and_then(|before| self.sites.get(before)) else {
            return;
        };
        if target < end_of(site) {
            self.findings.add(
                Code::SiteBranch,
                Some(site.site),
                place(self.model, site),
                format!(
                    "the branch at {at:#x} ({}) leads into the middle of it, to {target:#x}",
                    self.model.function(at)
                ),
                "put the label before the site or behind it",
            );
        }
    }

    fn unrecorded(&mut self, at: u64, slot: u64) {
        let Some((table, offset)) = self.model.tables.containing(slot) else { return };
        let index = offset / self.model.image.width().pointer_size();
        let op = self.model.name_of_slot(slot, u16::try_from(index).unwrap_or(u16::MAX));
        let table = self
            .model
            .tables
            .list
            .get(table)
            .map_or_else(String::new, |found| found.words().into());
        self.findings.add(
            Code::Unrecorded,
            Some(at),
            format!("{at:#x} ({op}, {})", self.model.function(at)),
            format!(
                "it calls or jumps through slot {slot:#x} of {table}, and no record says so: it stays indirect"
            ),
            "use the op's function, `site_asm!`, or PATCHLET_CALL and PATCHLET_JMP of patchlet.h",
        );
    }

    /// The slot that a memory operand names.
    fn slot_of(&self, instruction: &Instruction) -> Option<u64> {
        let image = &self.model.image;
        let address = if instruction.is_ip_rel_memory_operand() {
            instruction.ip_rel_memory_address()
        } else if image.kind() == FileKind::PositionIndependent && image.width() == Width::Bits64 {
            // An address that does not move cannot be a slot's.
            return None;
        } else {
            // With an index register as well: the table's address is there.
            instruction.memory_displacement64()
        };
        let inside =
            self.tables.contains(address) && self.model.tables.containing(address).is_some();
        (inside && !matches!(instruction.memory_segment(), Register::FS | Register::GS))
            .then_some(address)
    }

    /// The slot whose content a register holds.
    fn loaded_in(&self, register: Register) -> Option<u64> {
        self.loaded.filter(|loaded| loaded.0 == register.full_register()).map(|loaded| loaded.1)
    }

    /// Compilers call through a register by a thunk, where branches must not be
    /// indirect (`-mretpoline`, `-mindirect-branch`): `__x86_indirect_thunk_rax`.
    fn thunk(&self, target: u64) -> Option<u64> {
        /// Of those that a thunk may have.
        const NAMES: usize = 16;
        let (register, slot) = self.loaded?;
        let symbols = self.model.image.symbols();
        let names = symbols.at(target).iter().take(NAMES).map(|symbol| symbols.name(symbol));
        let register = format!("{register:?}").to_lowercase();
        names
            .filter_map(|name| name.strip_prefix("__x86_indirect_thunk_"))
            .any(|name| {
                name == register || format!("r{}", name.trim_start_matches('e')) == register
            })
            .then_some(slot)
    }

    /// Follows what a slot held from a load to a call, in a straight line.
    fn follow(&mut self, instruction: &Instruction) {
        if instruction.mnemonic() == Mnemonic::Mov
            && instruction.op0_kind() == OpKind::Register
            && instruction.op1_kind() == OpKind::Memory
            && let Some(slot) = self.slot_of(instruction)
        {
            self.loaded = Some((instruction.op0_register().full_register(), slot));
            return;
        }
        let Some((register, _)) = self.loaded else { return };
        let goes_on = matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        );
        let writes = |access| {
            !matches!(
                access,
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            )
        };
        let overwritten = self
            .info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| used.register().full_register() == register && writes(used.access()));
        if !goes_on || overwritten {
            self.loaded = None;
        }
    }
}

/// The address behind a site, with a capacity that is possible: where it is not,
/// that is one finding and not many.
fn end_of(site: &Record) -> u64 {
    let capacity = usize::from(site.capacity).clamp(InsnBuffer::MIN, InsnBuffer::MAX);
    site.site.saturating_add(capacity as u64)
}

/// Where the sweep starts anew, by address.
fn starts(model: &Model<'_>) -> Vec<u64> {
    // Behind data there may be code again.
    let code = model.image.symbols().list().iter().map(|symbol| {
        let data = if symbol.kind == SymbolKind::Object { symbol.size } else { 0 };
        symbol.address.saturating_add(data)
    });
    let natives = model.patchlets.iter().filter_map(|patchlet| patchlet.native);
    let slots = model.ops.iter().filter_map(|op| op.native);
    let mut starts: Vec<u64> =
        code.chain(natives).chain(slots).chain([model.image.entry]).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}
