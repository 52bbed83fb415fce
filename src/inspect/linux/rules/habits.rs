//! The points in which kernels of different age differ.

use crate::insn::Width;
use crate::inspect::linux::nops::NopFamily;

/// The way in which alternatives are put in and filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// Only padding becomes longer NOPs; a first CALL or JMP is relocated. Records have 13 bytes.
    Padding,
    /// All runs of one-byte NOPs become longer ones. Records have 12 bytes.
    Runs,
    /// NOPs of any length in a row become one, or a jump over INT3; every branch and every operand
    /// relative to the instruction pointer is relocated. Records have 14 bytes.
    Instructions,
}

/// The filling of a retpoline's site that has become the indirect branch itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BranchFilling {
    /// NOPs.
    Nops,
    /// Behind a jump one INT3; then NOPs.
    Int3,
    /// Behind a jump nothing but INT3; in front of a call CS prefixes, if they are few enough for a
    /// CPU to decode them without a delay. From Linux 6.18 on.
    Prefixes,
}

/// The points in which kernels of different age differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    pub filling: Filling,
    pub nops: &'static NopFamily,
    /// Whether a call of a native function in `pv_ops` becomes its instructions.
    pub native_sequences: bool,
    pub branch_filling: BranchFilling,
    /// Whether a jump over NOPs is joined with them. From Linux 6.4 on, and not from 6.9 on.
    pub joins_jumps: bool,
    /// What a sealed ENDBR becomes.
    pub sealed_endbr: [u8; 4],
    /// Whether the hash in front of a function that nothing calls indirectly becomes zero.
    pub hash_is_sealed: bool,
}

/// The forms of a sealed ENDBR: NOPs of four bytes that nothing else uses.
pub(crate) const SEALED_ENDBR: &[[u8; 4]] = &[[0x66, 0x0f, 0x1f, 0x00], [0x0f, 0x1f, 0x40, 0xd6]];

impl Habits {
    /// Returns the length of the longest NOP of one instruction.
    pub(super) fn longest(&self, width: Width) -> usize {
        match (self.filling, width) {
            (Filling::Instructions, Width::Bits64) => 11,
            _ => 8,
        }
    }
}
