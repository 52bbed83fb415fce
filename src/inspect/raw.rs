//! Privileged instructions that a kernel, or a library that it uses, executes by itself
//! where it has an op: no hypervisor's layer can replace them there.
//!
//! Which instructions these are the file says itself. A patchlet holds the instructions of
//! an op; where one of them that is *sensitive* stands in text outside of native functions
//! and sites, it is raw. So a kernel's own patchlets count as the built-in ones do, and an
//! instruction that has no op does not.
//!
//! What this cannot see is what the [sweep](super::sweep) cannot, and an instruction in a
//! function that only looks like it: registers are not compared, since compilers choose
//! others, but for control, debug and segment registers.

use std::collections::HashMap;

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::formats::PatchletImage;
use super::model::Model;
use super::sweep::{Visitor, sites_in_text, sweep};
use crate::disassemble::decoder;
use crate::insn::Width;

/// One instruction, or several in a row, that an op would replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawInstruction {
    /// Address of the first byte.
    pub address: u64,
    /// In bytes.
    pub len: u8,
    /// Position of the op's patchlet among those of the model.
    pub patchlet: u32,
}

/// Returns all raw instructions, by address. `progress` is told from time to time how many
/// bytes of text are done, of how many.
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

/// What a sensitive instruction is, whatever its general registers.
type Key = (Code, Register);

/// Returns the key of an instruction whose result depends on the privilege of who executes it, or
/// that changes what only a kernel may change.
fn key(instruction: &Instruction) -> Option<Key> {
    // Not privileged by themselves, but they read or write what belongs to the kernel (Intel
    // SDM vol. 3A, "Privileged Instructions", and vol. 2 for each): flags, descriptor
    // tables, the task register, time, and the way out of an interrupt.
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

/// Returns sensitive instructions in a row → the patchlet that has them and as little as
/// possible beside them.
fn patterns(patchlets: &[PatchletImage<'_>], width: Width) -> HashMap<Vec<Key>, u32> {
    let mut found: HashMap<Vec<Key>, u32> = HashMap::new();
    for (at, patchlet) in (0..).zip(patchlets) {
        let instructions = decoder(width, patchlet.address, patchlet.bytes).into_iter();
        let keys: Vec<Key> = instructions.filter_map(|instruction| key(&instruction)).collect();
        if keys.is_empty() || keys.len() > LONGEST {
            continue;
        }
        let len = |at: u32| {
            usize::try_from(at).ok().and_then(|at| patchlets.get(at)).map_or(0, |of| of.bytes.len())
        };
        found
            .entry(keys)
            .and_modify(|known| {
                if len(at) < len(*known) {
                    *known = at;
                }
            })
            .or_insert(at);
    }
    found
}

/// The most sensitive instructions in a row that are looked for.
const LONGEST: usize = 4;

/// Sensitive instructions in a row.
#[derive(Default)]
struct SensitiveRun {
    keys: Vec<Key>,
    /// The address of each, and the address behind.
    bounds: Vec<(u64, u64)>,
}

struct RawSearch<'s> {
    patterns: HashMap<Vec<Key>, u32>,
    /// The native functions, by address: start and end.
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
        let Some(key) = key(instruction).filter(|_| !self.in_native(at)) else {
            self.end_run();
            return;
        };
        if self.run.bounds.last().is_some_and(|&(_, end)| end != at) {
            self.end_run();
        }
        self.run.keys.push(key);
        self.run.bounds.push((at, at.saturating_add(instruction.len() as u64)));
        if self.run.keys.len() == LONGEST {
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
        while !self.run.keys.is_empty() {
            self.first_of_run();
        }
    }

    /// Takes the longest patchlet that the run begins with off it; without one, the first
    /// instruction, which has no op.
    fn first_of_run(&mut self) {
        let known = |len| self.patterns.get(self.run.keys.get(..len)?).copied();
        let longest = (1..=self.run.keys.len()).rev().find_map(|len| Some((len, known(len)?)));
        let taken = longest.map_or(1, |(len, _)| len);
        let first = self.run.bounds.first();
        let last = taken.checked_sub(1).and_then(|last| self.run.bounds.get(last));
        if let (Some((_, patchlet)), Some(&(address, _)), Some(&(_, end))) = (longest, first, last)
        {
            // At most LONGEST instructions of 15 bytes.
            let len = u8::try_from(end - address).unwrap_or(u8::MAX);
            self.found.push(RawInstruction { address, len, patchlet });
        }
        self.run.keys.drain(..taken);
        self.run.bounds.drain(..taken);
    }
}
