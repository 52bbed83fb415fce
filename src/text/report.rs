//! What patching is to make of the sites, and what it made of them.

use crate::choose::{Replacement, What};
use crate::insn::InsnBuffer;
use crate::ops::Op;
use crate::site::Kind;

/// What patching is to make of the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Each site gets the replacement for what its slot holds.
    Patched,
    /// Each site gets its indirect call or jump back.
    Indirect,
}

/// What the sites are to follow: a [`Goal`], and while they are written, what the
/// slots held when that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The slots.
    Slots,
    /// What [`Table::keep`] kept of them.
    Kept,
    /// No slot: the indirect call or jump.
    Indirect,
}

impl From<Goal> for Aim {
    fn from(goal: Goal) -> Self {
        match goal {
            Goal::Patched => Self::Slots,
            Goal::Indirect => Self::Indirect,
        }
    }
}

/// What happens, or would happen, to one site.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Address of its first byte.
    pub address: usize,
    /// Its op.
    pub op: &'static Op,
    /// Call or jump.
    pub kind: Kind,
    /// What it gets; `None` is the indirect call or jump.
    pub replacement: Option<Replacement<'static>>,
    /// What it has before that; `None` is the indirect call or jump.
    pub held: Option<Replacement<'static>>,
    /// Its bytes before.
    pub old: InsnBuffer,
    /// Its bytes after.
    pub new: InsnBuffer,
}

/// Counts of sites, by what they have in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All of them. One whose record is there twice, because a linker folded
    /// functions of the same code, counts twice.
    pub sites: usize,
    /// Those whose bytes change. One whose record is there twice can count twice.
    pub changed: usize,
    /// Those with their op's patchlet.
    pub patchlets: usize,
    /// Those with a direct call.
    pub calls: usize,
    /// Those with a direct jump.
    pub jumps: usize,
    /// Those with NOPs.
    pub nops: usize,
    /// Those with the identity patchlet.
    pub identities: usize,
    /// Those with the trap.
    pub traps: usize,
    /// Those that still have, or have again, an indirect call or jump. After
    /// applying this is 0: where branches must not be indirect, one that is left
    /// is a hole (CVE-2018-15594).
    pub indirect: usize,
}

impl Report {
    /// One more site, which has this in the end.
    pub(crate) fn add(&mut self, what: What, changed: bool) {
        self.sites += 1;
        self.changed += usize::from(changed);
        *match what {
            What::Patchlet => &mut self.patchlets,
            What::Call => &mut self.calls,
            What::Jump => &mut self.jumps,
            What::Nops => &mut self.nops,
            What::Identity => &mut self.identities,
            What::Trap => &mut self.traps,
            What::Indirect => &mut self.indirect,
        } += 1;
    }
}
