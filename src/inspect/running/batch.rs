//! A batch of a live switch by INT3 that the dump caught half-way. The writer goes through the sites
//! three times, in the order of their records (the steps are those of [`live`](crate::live)):
//!
//! | step | sites that were written | those that come later |
//! |---|---|---|
//! | 2 | INT3, old tail | old |
//! | 3 | INT3, new tail | INT3, old tail |
//! | 4 | new | INT3, new tail |
//!
//! All sites of one op held the same before, so either all of them are in the batch or none is. All
//! sites of a batch are in the same step. All get what slots and keys ask for, or all get what the
//! assembler wrote. An INT3 that fits none of this is unexplained.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::base::{Base, branch_target, is_int3, own_targets};
use super::object::{Running, SiteContent};
use super::sites::{Decider, DeciderSites, RunningSite, RunningSites};
use crate::insn::InsnBuffer;

/// The steps of the protocol in which there are INT3s.
const STEPS: [u8; 3] = [2, 3, 4];

/// How many targets of calls are tried as the old form.
const MOST_CALLS: usize = 4;

/// Returns the sites that are in a batch, with the step: the step and the goal with which most
/// sites with an INT3 agree.
pub(super) fn find(
    running: &Running<'_, '_>,
    all: &RunningSites<'_>,
    bases: &[Base],
) -> Vec<(usize, u8)> {
    let in_batch: Vec<(&DeciderSites, &Base)> = all
        .groups
        .iter()
        .zip(bases)
        .filter(|(group, _)| all.of_group(group).any(|(_, site)| is_int3(site)))
        .collect();
    let mut best: Vec<(usize, u8)> = vec![];
    for original in [false, true] {
        for step in STEPS {
            let mut fitting = vec![];
            for (group, base) in &in_batch {
                let goal = if original { Some(SiteContent::Original) } else { group.current };
                let Some(goal) = goal else { continue };
                let attempt = Attempt { running, all, group, base, goal, step };
                fitting.extend(attempt.best().into_iter().map(|at| (at, step)));
            }
            if fitting.len() > best.len() {
                best = fitting;
            }
        }
    }
    best
}

/// The assumption that the sites of a group are in a batch, which is in this step and gives them the
/// form `goal`.
struct Attempt<'g, 'a, 'd> {
    running: &'g Running<'a, 'd>,
    all: &'g RunningSites<'a>,
    group: &'g DeciderSites,
    base: &'g Base,
    goal: SiteContent,
    step: u8,
}

/// The tails that are under an INT3.
#[derive(Clone, Copy)]
struct Tails {
    old: bool,
    new: bool,
}

impl Attempt<'_, '_, '_> {
    /// Returns the sites with an INT3 that fit, with that old form with which most do.
    fn best(&self) -> Vec<usize> {
        let mut best = vec![];
        for old in self.old_forms() {
            let fitting = self.fitting(old);
            if fitting.len() > best.len() {
                best = fitting;
            }
        }
        best
    }

    /// Returns the sites with an INT3 that fit, if the old form was this one.
    fn fitting(&self, old: SiteContent) -> Vec<usize> {
        let sites: Vec<(usize, &RunningSite<'_>)> = self.all.of_group(self.group).collect();
        let others = sites.iter().filter(|(_, site)| !is_int3(site));
        let hold_goal = others.clone().filter(|(_, site)| self.holds(site, self.goal)).count();
        let others = others.count();
        let fits = match self.step {
            // What is not yet written holds the old form, which is another one.
            2 => hold_goal == 0 && (others == 0 || self.base.sites == others),
            3 => others == 0,
            _ => hold_goal == others,
        };
        if !fits {
            return vec![];
        }
        // Whether the writer has been at the sites that come now.
        let mut behind_writer = false;
        let mut fitting = vec![];
        for (at, site) in sites {
            if !is_int3(site) {
                // In step 2 the writer has not come here yet, in step 4 it has been here.
                behind_writer = self.step == 2;
                if self.step == 4 && !fitting.is_empty() {
                    return vec![];
                }
                continue;
            }
            let tails = self.tails(site, old);
            let is_right = match self.step {
                2 => tails.old && !behind_writer,
                3 if tails.new && tails.old => true,
                3 if tails.new => !behind_writer,
                3 => {
                    behind_writer |= tails.old;
                    tails.old
                }
                _ => tails.new,
            };
            if is_right {
                fitting.push(at);
            }
        }
        fitting
    }

    fn form(&self, site: &RunningSite<'_>, form: SiteContent) -> Option<InsnBuffer> {
        let object = self.running.objects.get(self.group.object)?;
        self.running.form(object, &site.record, form)
    }

    fn holds(&self, site: &RunningSite<'_>, form: SiteContent) -> bool {
        self.form(site, form) == Some(site.seen)
    }

    /// Returns which tails a site with an INT3 has.
    fn tails(&self, site: &RunningSite<'_>, old: SiteContent) -> Tails {
        let (old, new) = (self.form(site, old), self.form(site, self.goal));
        let is_under = |bytes: Option<InsnBuffer>| {
            bytes.is_some_and(|bytes| bytes.bytes().get(1..) == site.seen.bytes().get(1..))
        };
        Tails { old: old != new && is_under(old), new: is_under(new) }
    }

    /// Returns the forms that the sites can have had before: in step 2, that of the sites which the
    /// writer has not reached.
    fn old_forms(&self) -> Vec<SiteContent> {
        if let (2, Some(form)) = (self.step, self.base.form) {
            return vec![form];
        }
        let mut forms = vec![SiteContent::Original];
        forms.extend(self.group.current);
        match self.group.decider {
            Decider::Key(_) => forms.extend([true, false].map(SiteContent::Direction)),
            Decider::Op { .. } => {
                let own = own_targets(self.running, self.group.decider);
                forms.extend(own.into_iter().map(SiteContent::Holds));
                forms.extend(self.calls().map(SiteContent::Holds));
            }
        }
        forms
    }

    /// Returns where the tails under INT3s lead if they are those of calls or jumps.
    fn calls(&self) -> impl Iterator<Item = u64> {
        let object = self.running.objects.get(self.group.object);
        let sites = self.all.of_group(self.group).filter(|(_, site)| is_int3(site));
        let targets = sites.filter_map(move |(_, site)| {
            branch_target(self.running, object?.running(site.address), site)
        });
        // They all lead to the same function, but for those that have another tail by now: the old
        // form is among those with the most sites.
        let mut counts: HashMap<u64, usize> = HashMap::new();
        for target in targets {
            *counts.entry(target).or_default() += 1;
        }
        counts.retain(|&target, _| self.running.is_function(target));
        let mut counts: Vec<(u64, usize)> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|&(target, count)| (Reverse(count), target));
        counts.into_iter().take(MOST_CALLS).map(|(target, _)| target)
    }
}
