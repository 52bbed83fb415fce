//! What a slot holds in a model's file, and what its sites get for it: the functions that every op
//! may have, and those of one op.

use super::file::{Model, OpImage, SOME_IDENT, SOME_NOP, SOME_ZERO};
use super::ops_tables::TableImage;
use crate::choose::Choice;
use crate::insn::{Kind, Replacement, Width};
use crate::inspect::formats::{Means, PV_TABLE_STARTS, bytes_of};

/// Stands for the address of a native function that is not known. No function has this address.
const NOWHERE: u64 = 1;

impl<'d> Model<'d> {
    /// Finds the no-op function, the identity function and the one that returns 0, and the patchlets
    /// of these and of the trap.
    pub(super) fn find_functions(&mut self) {
        let symbol = |name| self.image.symbols().find(name).map(|symbol| symbol.address);
        let nop = symbol("patchlet_nop").or_else(|| self.function_of_nothing());
        let ident = match self.image.width() {
            Width::Bits64 => self
                .patchlets
                .iter()
                .find(|patchlet| patchlet.name == "ident_64")
                .and_then(|patchlet| patchlet.native),
            Width::Bits32 => symbol("patchlet_ident").or_else(|| self.builtin_ident()),
        };
        self.nop = nop.unwrap_or(SOME_NOP);
        self.ident = ident.unwrap_or(SOME_IDENT);
        self.zero = symbol("patchlet_zero").unwrap_or(SOME_ZERO);
        let named = |name: &str| {
            let found = self.patchlets.iter().find(|patchlet| patchlet.name == name);
            found.map_or_else(|| bytes_of(self.image.width(), name), |patchlet| patchlet.bytes)
        };
        // On 32 bit there is no patchlet `ident_64`, and its bytes are empty: argument and result
        // are in the same register.
        (self.ident_patchlet, self.trap) = (named("ident_64"), named("ud2"));
        self.zero_patchlet = named("vcpu_is_preempted");
    }

    /// Returns the function of an op or a variant that is nothing, as the file's records say it. It is
    /// the no-op function; in a stripped file nothing else says which one that is.
    fn function_of_nothing(&self) -> Option<u64> {
        let is_nothing = |means| means == Means::Nothing;
        let mut ops = self.op_records.iter();
        let mut variants = self.variants.iter();
        let op = ops.find(|op| is_nothing(op.means)).map(|op| self.image.pointer_at(op.slot));
        let variant = || variants.find(|found| is_nothing(found.means)).map(|found| found.function);
        op.flatten().or_else(variant)
    }

    /// Returns the address that the slot of `ident` in the built-in table holds. In a stripped
    /// file, the built-in table is recognized by its first slots, which stand before this one.
    fn builtin_ident(&self) -> Option<u64> {
        let pointer = self.image.width().pointer_size();
        let starts = |table: &&TableImage<'_>| {
            PV_TABLE_STARTS.iter().zip(0..).all(|(&name, index)| {
                let slot = table.address.checked_add(index * pointer);
                slot.and_then(|slot| self.patchlet_behind(slot)).is_some_and(|at| {
                    self.patchlets.get(at).is_some_and(|patchlet| patchlet.name == name)
                })
            })
        };
        let table = self.tables.list.iter().find(starts)?;
        let slot = PV_TABLE_STARTS.len() as u64 * pointer;
        self.image.pointer_at(table.address.checked_add(slot)?)
    }

    /// Returns the functions that any op may have in its slot: the no-op function, the identity, and
    /// the one that returns 0. One that is not known has a number that is no address.
    pub(crate) const fn functions(&self) -> [u64; 3] {
        [self.nop, self.ident, self.zero]
    }

    /// Returns what a site of this kind of an op gets while the op's slot holds `target`.
    #[must_use]
    pub fn replacement(&self, op: &OpImage, target: u64, kind: Kind) -> Replacement<'d> {
        let choice = Choice {
            nop: self.nop,
            ident: self.ident,
            ident_patchlet: self.ident_patchlet,
            zero: self.zero,
            zero_patchlet: self.zero_patchlet,
            trap: self.trap,
        };
        // A file without records of ops does not say that an op is a function natively.
        let is_function = self.op_record(op.slot).is_some_and(|op| op.means != Means::Patchlet);
        let patchlet = op.patchlet.and_then(|at| self.patchlets.get(at)).filter(|_| !is_function);
        let default = patchlet.map(|patchlet| (op.native.unwrap_or(NOWHERE), patchlet.bytes));
        let mut own = default.into_iter().chain(self.patchlets_of_variants(op));
        choice.replacement(target, kind, |target| {
            own.find(|&(native, _)| native == target).map(|(_, bytes)| bytes)
        })
    }
}
