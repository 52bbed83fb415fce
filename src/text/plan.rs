//! A plan: what patching would do, site by site.

use super::checked_site::{CheckedSite, Run};
use super::class::ClassCache;
use super::contents::View;
use super::platform::Platform;
use super::report::Report;
use crate::insn::{InsnBuffer, Replacement};

/// The part of a plan for one site: what it holds, and what it would get.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// Address of the first byte of the site.
    pub address: usize,
    /// Address of what the site belongs to: the slot of its op.
    pub subject: usize,
    /// The name of what the site belongs to: that of its op.
    pub name: &'static str,
    /// What the assembler wrote.
    pub original: Replacement<'a>,
    /// What the site gets.
    pub new: Replacement<'a>,
    /// What the site has before that.
    pub old: Replacement<'a>,
    /// The bytes of the site before.
    pub old_bytes: InsnBuffer,
    /// The bytes of the site after.
    pub new_bytes: InsnBuffer,
    /// Whether a CPU can trap at the site, so that the INT3 protocol may be used.
    pub may_trap: bool,
}

impl<P: Platform> Run<'_, P> {
    /// Returns what happens to a site; `None` if it holds nothing known.
    pub(crate) fn outcome<'s>(&self, site: &CheckedSite<'s, '_>) -> Option<Outcome<'s>> {
        let old_bytes = self.read(site, View::Site);
        let Ok(recipe) = &self.recipe(site) else { return None };
        let mut known = recipe.known().into_iter();
        let old = *known.find(|known| self.compose_or_empty(site.record, known) == old_bytes)?;
        Some(Outcome {
            address: site.address,
            subject: site.record.subject(),
            name: recipe.name,
            original: recipe.original,
            new: recipe.new,
            old,
            old_bytes,
            new_bytes: self.compose_or_empty(site.record, &recipe.new),
            may_trap: recipe.may_trap,
        })
    }
}

/// A checked plan: everything would work, nothing is written.
#[derive(Debug)]
pub struct Plan<'p, P> {
    pub(super) run: Run<'p, P>,
}

impl<'p, P: Platform> Plan<'p, P> {
    /// Returns what happens to each site, in the order of the tables.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome<'p>> {
        // Each site was checked when the plan was made. One that is wrong now was changed by
        // somebody since, and `apply` will say so.
        let run = self.run;
        run.records().filter_map(move |(part, record)| {
            run.outcome(&run.site(part, record, &mut ClassCache::new())?)
        })
    }

    /// Returns the counts over all sites.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut counts = self.report_where(|_| true);
        counts.withdrawn = self.run.set.len().saturating_sub(self.run.records().count());
        counts
    }

    /// Returns the counts of the sites that belong to the subject at this address, which for an
    /// op is its slot. Reads all sites.
    #[must_use]
    pub fn report_of(&self, subject: usize) -> Report {
        self.report_where(|outcome| outcome.subject == subject)
    }

    fn report_where(&self, wanted: impl Fn(&Outcome<'_>) -> bool) -> Report {
        let mut counts = Report::default();
        for outcome in self.outcomes().filter(wanted) {
            counts.add(outcome.new.name(), outcome.old_bytes != outcome.new_bytes);
        }
        counts
    }
}
