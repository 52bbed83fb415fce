//! A plan: what patching would do, site by site.

use super::patcher::Patcher;
use super::platform::Platform;
use super::report::{Goal, Outcome, Report};
use crate::choose::What;
use crate::ops::Op;

/// A checked plan: everything would work, nothing is written.
#[derive(Debug)]
pub struct Plan<'p, 'a, P, const TABLES: usize> {
    pub(super) patcher: &'p Patcher<'a, P, TABLES>,
    pub(super) goal: Goal,
}

impl<P: Platform, const TABLES: usize> Plan<'_, '_, P, TABLES> {
    /// What happens to each site, in the order of the table.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        // Every one of these was checked; one that fails now was changed by
        // somebody since, and `apply` will say so.
        let patcher = self.patcher;
        patcher.all().filter_map(|index| patcher.outcome_of(index, self.goal.into()))
    }

    /// The counts over all sites.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report_where(|_| true)
    }

    /// The counts of each op, in the order of the tables. Reads all sites once
    /// for each op.
    pub fn by_op(&self) -> impl Iterator<Item = (&'static Op, Report)> {
        self.patcher
            .tables()
            .iter()
            .flat_map(|table| table.ops())
            .map(|op| (op, self.report_where(|outcome| core::ptr::eq(outcome.op, op))))
    }

    fn report_where(&self, wanted: impl Fn(&Outcome) -> bool) -> Report {
        let mut counts = Report::default();
        for outcome in self.outcomes().filter(wanted) {
            counts.add(What::of(outcome.replacement.as_ref()), outcome.old != outcome.new);
        }
        counts
    }
}
