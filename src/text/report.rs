//! What patching is to make of the sites, and what it made of them.

use crate::choose::Replacement;
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

/// The counts of a [`Report`] that each site is in one of, in the order of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Patchlets,
    Calls,
    Jumps,
    Nops,
    Identities,
    Traps,
    Indirect,
}

impl Count {
    const ALL: usize = 7;

    /// That of a site with this replacement.
    pub(crate) const fn of(replacement: Option<&Replacement<'_>>) -> Self {
        match replacement {
            Some(Replacement::Patchlet(_)) => Self::Patchlets,
            Some(Replacement::Call(_)) => Self::Calls,
            Some(Replacement::Jump(_)) => Self::Jumps,
            Some(Replacement::Nops) => Self::Nops,
            Some(Replacement::Identity(_)) => Self::Identities,
            Some(Replacement::Trap(_)) => Self::Traps,
            None => Self::Indirect,
        }
    }
}

/// A [`Report`] in the making.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// All sites so far.
    pub(crate) sites: usize,
    changed: usize,
    /// By [`Count`]. Not its fields: a branch for each would be one that no CPU can
    /// predict.
    by: [usize; Count::ALL],
}

impl Counts {
    pub(crate) fn add(&mut self, count: Count, changed: bool) {
        self.sites += 1;
        self.changed += usize::from(changed);
        if let Some(by) = self.by.get_mut(count as usize) {
            *by += 1;
        }
    }

    pub(crate) const fn report(&self) -> Report {
        let Self { sites, changed, by } = *self;
        let [patchlets, calls, jumps, nops, identities, traps, indirect] = by;
        Report { sites, changed, patchlets, calls, jumps, nops, identities, traps, indirect }
    }
}
