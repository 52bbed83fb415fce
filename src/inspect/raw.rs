//! Raw instructions: sensitive instructions that a kernel, or a library in it, executes directly
//! although an op exists for them. A hypervisor's layer cannot replace them there.
//!
//! The file itself says which instructions have an op: those in its patchlets, the kernel's own
//! included. A sequence of a patchlet's sensitive instructions is raw where it stands in text
//! outside of native functions and sites.
//!
//! The search sees the instructions that the [sweep](super::sweep) sees. It compares control,
//! debug and segment registers but not general ones, since a compiler may choose others. So it
//! can also report an instruction that does something else with the same opcode.

use std::collections::HashMap;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::formats::PatchletImage;
use super::model::Model;
use super::sweep::{Visitor, sites_in_text, sweep};
use crate::disassemble::decoder;
use crate::insn::Width;

/// A raw instruction, or several in a row, that one op would replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawInstruction {
    /// Address of the first byte.
    pub address: u64,
    /// Length of all of them together, in bytes.
    pub len: u8,
    /// Position of the op's patchlet in [`Model::patchlets`].
    pub patchlet: u32,
}

/// Returns all raw instructions, sorted by address. Calls `progress` from time to time with the
/// number of bytes of text that are done and the number of all.
#[must_use]
pub fn raw(model: &Model<'_>, progress: &mut dyn FnMut(u64, u64)) -> Vec<RawInstruction> {
    let patterns = patterns(model.patchlets(), model.image().width());
    let mut natives: Vec<(u64, u64)> = model
        .patchlets()
        .iter()
        .filter_map(|patchlet| {
            let native = patchlet.native?;
            Some((native, native.saturating_add(patchlet.bytes.len() as u64)))
        })
        .collect();
    natives.sort_unstable();
    let (run, found) = (SensitiveRun::default(), vec![]);
    let mut search = RawSearch { patterns, natives, run, found, progress };
    sweep(model, &sites_in_text(model), &mut search);
    search.end_run();
    search.found
}

/// A sensitive instruction without its general registers: opcode and operand kinds, and the
/// control, debug or segment register among its operands, if there is one.
type Fingerprint = (Code, Register);

/// Returns the fingerprint of an instruction if it is sensitive: if it is privileged, or reads or changes
/// state that belongs to the kernel.
fn fingerprint(instruction: &Instruction) -> Option<Fingerprint> {
    // These are not privileged, or only depending on a control register or IOPL (Intel SDM
    // vol. 3A, "Privileged Instructions", and vol. 2 for each). They read or write flags,
    // descriptor tables, the task register and time, or return from an interrupt.
    let sensitive = matches!(
        instruction.mnemonic(),
        Mnemonic::Pushf
            | Mnemonic::Pushfd
            | Mnemonic::Pushfq
            | Mnemonic::Popf
            | Mnemonic::Popfd
            | Mnemonic::Popfq
            | Mnemonic::Cli
            | Mnemonic::Sti
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Iretq
            | Mnemonic::In
            | Mnemonic::Out
            | Mnemonic::Sgdt
            | Mnemonic::Sidt
            | Mnemonic::Sldt
            | Mnemonic::Smsw
            | Mnemonic::Str
            | Mnemonic::Cpuid
            | Mnemonic::Rdtsc
            | Mnemonic::Rdtscp
            | Mnemonic::Rdpmc
            | Mnemonic::Rdfsbase
            | Mnemonic::Rdgsbase
            | Mnemonic::Wrfsbase
            | Mnemonic::Wrgsbase
            | Mnemonic::Vmcall
            | Mnemonic::Vmmcall
    );
    if !sensitive && !instruction.is_privileged() {
        return None;
    }
    let registers = (0..instruction.op_count())
        .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
        .map(|operand| instruction.op_register(operand));
    let mut special = registers.filter(|register| !register.is_gpr());
    Some((instruction.code(), special.next().unwrap_or(Register::None)))
}

/// Returns a map from a sequence of sensitive instructions to the patchlet that has this
/// sequence. If several patchlets have it, the shortest is taken.
fn patterns(patchlets: &[PatchletImage<'_>], width: Width) -> HashMap<Vec<Fingerprint>, u32> {
    let mut found: HashMap<Vec<Fingerprint>, u32> = HashMap::new();
    // No op has the instructions of a blob.
    for (at, patchlet) in (0..).zip(patchlets).filter(|(_, patchlet)| !patchlet.is_blob) {
        let instructions = decoder(width, patchlet.address, patchlet.bytes).into_iter();
        let sequence: Vec<Fingerprint> =
            instructions.filter_map(|instruction| fingerprint(&instruction)).collect();
        if sequence.is_empty() || sequence.len() > LONGEST {
            continue;
        }
        let len = |at: u32| {
            usize::try_from(at).ok().and_then(|at| patchlets.get(at)).map_or(0, |of| of.bytes.len())
        };
        found
            .entry(sequence)
            .and_modify(|known| {
                if len(at) < len(*known) {
                    *known = at;
                }
            })
            .or_insert(at);
    }
    found
}

/// The largest number of sensitive instructions in a sequence that is looked for.
const LONGEST: usize = 4;

/// A run of sensitive instructions, each directly behind the one before.
#[derive(Default)]
struct SensitiveRun {
    fingerprints: Vec<Fingerprint>,
    /// Of each instruction, its address and the address behind it.
    bounds: Vec<(u64, u64)>,
}

/// The search for raw instructions, which visits all instructions of the text.
struct RawSearch<'s> {
    patterns: HashMap<Vec<Fingerprint>, u32>,
    /// Start and end address of each native function, sorted.
    natives: Vec<(u64, u64)>,
    run: SensitiveRun,
    found: Vec<RawInstruction>,
    progress: &'s mut dyn FnMut(u64, u64),
}

impl Visitor for RawSearch<'_> {
    fn begin(&mut self) {
        self.end_run();
    }

    fn instruction(&mut self, at: u64, instruction: &Instruction) {
        let Some(fingerprint) = fingerprint(instruction).filter(|_| !self.in_native(at)) else {
            self.end_run();
            return;
        };
        if self.run.bounds.last().is_some_and(|&(_, end)| end != at) {
            self.end_run();
        }
        self.run.fingerprints.push(fingerprint);
        self.run.bounds.push((at, at.saturating_add(instruction.len() as u64)));
        if self.run.fingerprints.len() == LONGEST {
            self.first_of_run();
        }
    }

    fn progress(&mut self, done: u64, of: u64) {
        (self.progress)(done, of);
    }
}

impl RawSearch<'_> {
    fn in_native(&self, at: u64) -> bool {
        let behind = self.natives.partition_point(|&(start, _)| start <= at);
        let before = behind.checked_sub(1).and_then(|before| self.natives.get(before));
        before.is_some_and(|&(_, end)| at < end)
    }

    fn end_run(&mut self) {
        while !self.run.fingerprints.is_empty() {
            self.first_of_run();
        }
    }

    /// Removes the longest sequence of a patchlet from the front of the run and adds it to the
    /// list of raw instructions. If the run begins with no such sequence, its first instruction
    /// has no op and is removed.
    fn first_of_run(&mut self) {
        let known = |len| self.patterns.get(self.run.fingerprints.get(..len)?).copied();
        let longest =
            (1..=self.run.fingerprints.len()).rev().find_map(|len| Some((len, known(len)?)));
        let taken = longest.map_or(1, |(len, _)| len);
        let first = self.run.bounds.first();
        let last = taken.checked_sub(1).and_then(|last| self.run.bounds.get(last));
        if let (Some((_, patchlet)), Some(&(address, _)), Some(&(_, end))) = (longest, first, last)
        {
            // At most LONGEST instructions of 15 bytes.
            let len = u8::try_from(end - address).unwrap_or(u8::MAX);
            self.found.push(RawInstruction { address, len, patchlet });
        }
        self.run.fingerprints.drain(..taken);
        self.run.bounds.drain(..taken);
    }
}
