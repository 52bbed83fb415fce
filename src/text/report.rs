//! What patching is to make of the sites, and the counts of what it made of them.

use super::source::Follow;
use crate::insn::ReplacementName;

/// The goal of patching: what all sites are to hold in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Each site gets the replacement for what its slot holds.
    Patched,
    /// Each site gets back what the assembler wrote: its indirect call or jump.
    Original,
}

impl Goal {
    /// Returns what a plan for this goal follows.
    pub(super) const fn present(self) -> Follow {
        match self {
            Self::Patched => Follow::Present,
            Self::Original => Follow::Original,
        }
    }

    /// Returns what a batch for this goal follows.
    pub(crate) const fn batch(self) -> Follow {
        match self {
            Self::Patched => Follow::Batch,
            Self::Original => Follow::Original,
        }
    }
}

/// Counts of sites, by what they have in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// All records. A site whose record is there twice, because a linker folded functions of the
    /// same code, counts twice here and in all counts below but `changed`.
    pub sites: usize,
    /// The sites whose bytes were written. A plan writes nothing: it counts the records whose
    /// site would change, and a site whose record is there twice counts twice.
    pub changed: usize,
    /// The sites with the patchlet of their op.
    pub patchlets: usize,
    /// The sites with a direct call.
    pub calls: usize,
    /// The sites with a direct jump.
    pub jumps: usize,
    /// The sites with NOPs.
    pub nops: usize,
    /// The sites with the identity patchlet.
    pub identities: usize,
    /// The sites with the patchlet that returns 0.
    pub zeros: usize,
    /// The sites with the trap.
    pub traps: usize,
    /// The sites that still have, or have again, an indirect call or jump. After applying this
    /// is 0: where branches must not be indirect, one that is left is a hole (CVE-2018-15594).
    pub indirect: usize,
    /// The records whose sites were [withdrawn](crate::SiteSet::withdraw), which no other count
    /// has. 0 in the counts of a [`Plan`](crate::text::Plan), which are those of its outcomes.
    pub withdrawn: usize,
}

impl Report {
    /// Counts one more site, which has this in the end.
    pub(super) fn add(&mut self, name: ReplacementName, changes: bool) {
        self.sites += 1;
        self.changed += usize::from(changes);
        *match name {
            ReplacementName::Patchlet => &mut self.patchlets,
            ReplacementName::Call => &mut self.calls,
            ReplacementName::Jump => &mut self.jumps,
            ReplacementName::Nops => &mut self.nops,
            ReplacementName::Identity => &mut self.identities,
            ReplacementName::Zero => &mut self.zeros,
            ReplacementName::Trap => &mut self.traps,
            ReplacementName::Indirect => &mut self.indirect,
        } += 1;
    }
}

/// Adds up the counts of several site sets.
impl core::ops::AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.sites += other.sites;
        self.changed += other.changed;
        self.patchlets += other.patchlets;
        self.calls += other.calls;
        self.jumps += other.jumps;
        self.nops += other.nops;
        self.identities += other.identities;
        self.zeros += other.zeros;
        self.traps += other.traps;
        self.indirect += other.indirect;
        self.withdrawn += other.withdrawn;
    }
}

/// Prints the counts that are not 0, in one line.
impl core::fmt::Display for Report {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let sites = if self.sites == 1 { "site" } else { "sites" };
        write!(f, "{} {sites}, {} changed", self.sites, self.changed)?;
        let counts = [
            (self.patchlets, "patchlet", "patchlets"),
            (self.calls, "direct call", "direct calls"),
            (self.jumps, "direct jump", "direct jumps"),
            (self.nops, "NOPs", "NOPs"),
            (self.identities, "identity", "identities"),
            (self.zeros, "zero", "zeros"),
            (self.traps, "trap", "traps"),
            (self.indirect, "indirect", "indirect"),
            (self.withdrawn, "withdrawn", "withdrawn"),
        ];
        let mut separator = ": ";
        for (count, one, several) in counts.into_iter().filter(|(count, ..)| *count > 0) {
            let name = if count == 1 { one } else { several };
            write!(f, "{separator}{count} {name}")?;
            separator = ", ";
        }
        Ok(())
    }
}
