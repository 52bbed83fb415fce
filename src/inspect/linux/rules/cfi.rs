//! Checks of indirect calls by hashes of types: kCFI, which the compiler makes, and FineIBT, into
//! which the kernel rewrites it on CPUs with IBT.
//!
//! | | in front of a function | in front of an indirect call |
//! |---|---|---|
//! | kCFI | `__cfi_f:` MOV $hash, %eax, and 11 NOPs | MOV $-hash, %r10d; ADD -15(%r11), %r10d; a jump; UD2 |
//! | FineIBT | ENDBR; a check of the hash; NOPs | MOV $hash; a change of %r11 by 16; NOPs |
//!
//! What FineIBT writes differs between versions, but the kernel has both texts as templates in its
//! file. The kernel makes the hashes random when it starts, by a seed that it keeps.

use super::Rules;
use super::boot::ENDBR64;
use crate::inspect::elf::little_endian;
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, Depends, Text};

/// The way in which calls are checked, as `cfi_mode` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CfiMode {
    Off,
    Kcfi,
    FineIbt,
}

/// The state that decides about checks of calls, and where it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct CfiState {
    mode: CfiMode,
    /// The seed that hashes are mixed with.
    seed: Option<u32>,
    /// The address of the variable that says the mode, if it was read.
    variable: Option<u64>,
}

/// The hash that the templates have where the hash goes.
const TEMPLATE_HASH: [u8; 4] = 0x1234_5678_u32.to_le_bytes();

/// How far before a function its preamble starts.
pub(in crate::inspect::linux) const PREAMBLE: u64 = 16;

/// Length of what stands in front of a checked call, but for the call itself.
pub(in crate::inspect::linux) const CALLER: u64 = 14;

/// MOV $number, %r10d, and the jump to the call that stands over it while calls are not checked.
const MOV_R10D: [u8; 2] = [0x41, 0xba];
const JMP_TO_CALL: [u8; 2] = [0xeb, CALLER as u8 - 2];

/// MOV $number, %eax.
const MOV_EAX: u8 = 0xb8;

impl Rules<'_, '_> {
    /// Writes preambles of functions, and what stands in front of indirect calls.
    pub(super) fn cfi(&self, text: &mut Text<'_>) {
        let Some(state) = self.cfi_state() else { return };
        for record in self.records(TableKind::Cfi) {
            self.preamble(text, record.site, state);
        }
        for record in self.records(TableKind::Retpolines) {
            self.caller(text, record.site.wrapping_sub(CALLER), state);
        }
    }

    /// Returns how the kernel checks calls; `None` if it has no preambles.
    pub(super) fn cfi_state(&self) -> Option<CfiState> {
        self.records(TableKind::Cfi).next()?;
        let variable = self.names.address("cfi_mode");
        let known = variable.and_then(|variable| match self.state.number(variable)? {
            1 => Some(CfiMode::Off),
            2 => Some(CfiMode::Kcfi),
            3 => Some(CfiMode::FineIbt),
            _ => None,
        });
        let flag = |name: &str| {
            let address = self.names.address(name)?;
            Some(self.state.located.bytes(address, 1)? != [0])
        };
        let seed = self.names.address("cfi_seed").and_then(|seed| self.state.number(seed));
        let mode = known.unwrap_or_else(|| self.mode_of_most());
        Some(CfiState {
            mode,
            seed: seed.filter(|_| flag("cfi_rand") != Some(false)),
            variable: variable.filter(|_| known.is_some()),
        })
    }

    /// Returns the mode in which most preambles are in the dump.
    fn mode_of_most(&self) -> CfiMode {
        let seen = self.records(TableKind::Cfi);
        let seen = seen.filter_map(|record| self.state.located.bytes(record.site, 4));
        let (fine, all) =
            seen.fold((0, 0), |(fine, all), seen| (fine + usize::from(seen == ENDBR64), all + 1));
        if fine * 2 > all { CfiMode::FineIbt } else { CfiMode::Kcfi }
    }

    /// Answers for a range that depends on the mode.
    fn answer_cfi(state: CfiState, text: &mut Text<'_>, address: u64, len: u64) {
        match state.variable {
            Some(variable) => {
                let cause = Cause::Record(TableKind::Cfi, Depends::Variable(variable));
                text.answer(address, len, cause);
            }
            None => {
                let cause = Cause::Record(TableKind::Cfi, Depends::RunTime);
                text.answer_undecided(address, len, cause);
            }
        }
    }

    fn preamble(&self, text: &mut Text<'_>, address: u64, state: CfiState) {
        let Some(&[MOV_EAX, a, b, c, d]) = text.expected(address, 5) else { return };
        let hash = mixed(u32::from_le_bytes([a, b, c, d]), state.seed);
        let template = self.template("fineibt_preamble_start", "fineibt_preamble_end", hash);
        match (state.mode, template) {
            (CfiMode::FineIbt, Some(preamble)) => {
                // Newer templates have what becomes of the function's ENDBR at their end.
                let len = preamble.len().min(PREAMBLE as usize);
                let (preamble, endbr) = preamble.split_at(len);
                Self::answer_cfi(state, text, address, PREAMBLE);
                text.write(address, preamble);
                // The function itself is no target any more: the preamble is.
                let function = address.wrapping_add(PREAMBLE);
                if text.expected(function, 4) == Some(&ENDBR64) {
                    Self::answer_cfi(state, text, function, 4);
                    let sealed = if endbr.is_empty() { &self.habits.sealed_endbr } else { endbr };
                    text.write(function, sealed);
                }
            }
            _ => {
                Self::answer_cfi(state, text, address, 5);
                text.write(address.wrapping_add(1), &hash.to_le_bytes());
            }
        }
    }

    fn caller(&self, text: &mut Text<'_>, address: u64, state: CfiState) {
        let Some(&[x, y, a, b, c, d]) = text.expected(address, 6) else { return };
        if [x, y] != MOV_R10D {
            // Not every indirect call is checked.
            return;
        }
        let negative = u32::from_le_bytes([a, b, c, d]);
        let hash = mixed(negative.wrapping_neg(), state.seed);
        let template = self.template("fineibt_caller_start", "fineibt_caller_end", hash);
        match (state.mode, template) {
            (CfiMode::FineIbt, Some(caller)) if caller.len() as u64 == CALLER => {
                Self::answer_cfi(state, text, address, CALLER);
                text.write(address, &caller);
            }
            (mode, _) => {
                Self::answer_cfi(state, text, address, 6);
                let start = if mode == CfiMode::Off { JMP_TO_CALL } else { MOV_R10D };
                text.write(address, &start);
                text.write(address.wrapping_add(2), &hash.wrapping_neg().to_le_bytes());
            }
        }
    }

    /// Returns a template of the kernel's file with a hash in it.
    fn template(&self, start: &str, end: &str, hash: u32) -> Option<Vec<u8>> {
        let (start, end) = (self.names.address(start)?, self.names.address(end)?);
        let len = end.checked_sub(start).filter(|&len| len <= PREAMBLE + 4)?;
        let mut template = self.image.bytes_at(start, len)?.to_vec();
        let at = template.windows(4).position(|part| part == TEMPLATE_HASH)?;
        template.get_mut(at..at + 4)?.copy_from_slice(&hash.to_le_bytes());
        Some(template)
    }

    /// Writes the preamble of a function that nothing calls indirectly: its hash is zero, and the
    /// ENDBR of FineIBT is sealed, too.
    pub(super) fn seal_preamble(&self, text: &mut Text<'_>, function: u64, state: CfiState) {
        let address = function.wrapping_sub(PREAMBLE);
        match text.expected(address, 5) {
            Some(&[MOV_EAX, ..]) if self.habits.hash_is_sealed => {
                Self::answer_cfi(state, text, address, 5);
                text.write(address.wrapping_add(1), &[0; 4]);
            }
            Some(&[a, b, c, d, _]) if [a, b, c, d] == ENDBR64 => {
                let template = self.template("fineibt_preamble_start", "fineibt_preamble_end", 0);
                let template = template.as_ref().and_then(|template| template.get(..16));
                let Some(template) = template else { return };
                Self::answer_cfi(state, text, address, PREAMBLE);
                if self.habits.hash_is_sealed {
                    text.write(address, template);
                }
                text.write(address, &self.habits.sealed_endbr);
            }
            _ => {}
        }
    }
}

/// Returns the hash that a kernel with a seed has for one of the compiler: neither it nor its
/// negative is an ENDBR, which a CPU with IBT would take for one.
fn mixed(hash: u32, seed: Option<u32>) -> u32 {
    let Some(seed) = seed else { return hash };
    let mut hash = hash ^ seed;
    let is_endbr = |hash: u32| {
        [hash, hash.wrapping_neg()].iter().any(|hash| *hash == little_endian(&ENDBR64) as u32)
    };
    while is_endbr(hash) {
        let lowest = hash & 1;
        hash >>= 1;
        if lowest == 1 {
            hash ^= 0x8020_0003;
        }
    }
    hash
}
