//! The verdict on each site. The sites of one op or key in one object are patched together, so what
//! one of them may hold follows from what the others hold.
//!
//! | all sites hold | they are | verdict |
//! |---|---|---|
//! | what the slot or the key asks for | patched | proven |
//! | what the assembler wrote | not patched yet, or reverted | allowed |
//! | what another target of the slot, or the other state of the key, asks for | patched for that, and not yet again | allowed |
//! | INT3 and a tail, as a live switch leaves them | being switched | allowed, [`batch`](super::batch) |
//!
//! Which of the sites are in one site set, and whether that set is patched, no dump says. So a state
//! in which *all* sites of an op are is allowed; a single site that is in another state than the
//! others is not.

use std::collections::HashSet;

use super::base::{Base, is_int3, own_targets};
use super::batch;
use super::object::{Running, SiteContent};
use super::sites::{Decider, DeciderSites, RunningSites};
use crate::insn::InsnBuffer;
use crate::inspect::explain::Verdict;

/// The state that a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// As its slot or its key asks for.
    Patched,
    /// As the assembler wrote it, together with all others of its op.
    Unpatched,
    /// As another target or state asked for, together with all others of its op.
    Pending(SiteContent),
    /// In a batch of a live switch, after this step of the protocol's list.
    InBatch(u8),
    /// As the assembler wrote it, while others of its op are patched.
    LeftOriginal,
    /// In none that says why.
    Unknown,
}

impl Judgement {
    /// Returns the verdict on a site in this state.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Patched => Verdict::Proven,
            Self::Unpatched | Self::Pending(_) | Self::InBatch(_) => Verdict::Allowed,
            Self::LeftOriginal | Self::Unknown => Verdict::Unexplained,
        }
    }
}

/// The judgement on a site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub state: Judgement,
    /// What it should hold; `None` if nothing can be composed for it.
    pub expected: Option<InsnBuffer>,
}

/// Judges all sites; in their order.
pub(super) fn judge(running: &Running<'_, '_>, all: &RunningSites<'_>) -> Vec<Judged> {
    let unknown = Judged { state: Judgement::Unknown, expected: None };
    let mut judged = vec![unknown; all.sites.len()];
    let bases: Vec<Base> = all.groups.iter().map(|group| Base::new(running, all, group)).collect();
    let patched = Patched::new(running, all, &bases);
    for (group, base) in all.groups.iter().zip(&bases) {
        let is_allowed = patched.allows(running, base, group);
        for (at, site) in all.of_group(group) {
            let form = |form| {
                let object = running.objects.get(group.object)?;
                running.form(object, &site.record, form)
            };
            let current = group.current.and_then(form);
            let state = if Some(site.seen) == current {
                Judgement::Patched
            } else if is_int3(site) {
                Judgement::Unknown
            } else if base.form == Some(SiteContent::Original)
                && form(SiteContent::Original) == Some(site.seen)
            {
                if is_allowed { Judgement::Unpatched } else { Judgement::LeftOriginal }
            } else if let Some(other) = base.form
                && base.form != group.current
                && is_allowed
                && form(other) == Some(site.seen)
            {
                Judgement::Pending(other)
            } else if form(SiteContent::Original) == Some(site.seen) {
                Judgement::LeftOriginal
            } else {
                Judgement::Unknown
            };
            let expected = match state {
                Judgement::LeftOriginal => current,
                Judgement::Unknown if is_allowed => base.form.and_then(form).or(current),
                Judgement::Unknown => current,
                _ => Some(site.seen),
            };
            if let Some(place) = judged.get_mut(at) {
                *place =
                    Judged { state, expected: expected.or_else(|| form(SiteContent::Original)) };
            }
        }
    }
    for (at, step) in batch::find(running, all, &bases) {
        if let (Some(place), Some(site)) = (judged.get_mut(at), all.sites.get(at)) {
            *place = Judged { state: Judgement::InBatch(step), expected: Some(site.seen) };
        }
    }
    judged
}

/// The parts of a kernel that are patched.
struct Patched {
    /// Whether any branch of the kernel has another direction than the assembler wrote.
    has_branches: bool,
    /// The objects in which a site of an op is patched, and the table of the op.
    tables: HashSet<(usize, Option<u64>)>,
}

impl Patched {
    fn new(running: &Running<'_, '_>, all: &RunningSites<'_>, bases: &[Base]) -> Self {
        let mut patched = Self { has_branches: false, tables: HashSet::new() };
        for (group, base) in all.groups.iter().zip(bases) {
            match (group.decider, base.form) {
                (Decider::Key(key), Some(SiteContent::Direction(is_on))) if group.object == 0 => {
                    patched.has_branches |=
                        running.key(key).is_some_and(|(_, key)| key.initially_on != is_on);
                }
                (Decider::Op { slot, .. }, Some(SiteContent::Holds(_))) => {
                    patched.tables.insert((group.object, table_of(running, slot)));
                }
                _ => {}
            }
        }
        patched
    }

    /// Returns whether the sites of a group may have the form of `base`. They may, if it is the one
    /// that the slot or the key asks for.
    fn allows(&self, running: &Running<'_, '_>, base: &Base, group: &DeciderSites) -> bool {
        let Some(form) = base.form.filter(|_| base.form != group.current) else { return true };
        match (group.decider, form) {
            (Decider::Key(key), _) => {
                let last_applied = running.key_state(key).map(|(_, last)| last);
                let original = running.key(key).map(|(_, key)| key.initially_on);
                let direction = match form {
                    SiteContent::Direction(is_on) => Some(is_on),
                    SiteContent::Original | SiteContent::Holds(_) => None,
                };
                // A key says what the kernel's branches were last patched for, and nothing says it of
                // a module's branches.
                let is_of_kernel = group.object == 0;
                if is_of_kernel && self.has_branches {
                    direction == last_applied
                } else {
                    direction == original || (!is_of_kernel && base.sites > 1)
                }
            }
            // The only site of its op could be one that patching left out: it has no others to be
            // compared with, but those of its table.
            (Decider::Op { slot, .. }, SiteContent::Original) => {
                base.sites > 1 || !self.has_patched_op(running, group.object, slot)
            }
            (Decider::Op { .. }, SiteContent::Holds(target)) => {
                let own = own_targets(running, group.decider);
                own.contains(&target) || (base.sites > 1 && running.is_function(target))
            }
            (Decider::Op { .. }, SiteContent::Direction(_)) => false,
        }
    }

    /// Returns whether sites of any op of the table with this slot are patched in an object.
    fn has_patched_op(&self, running: &Running<'_, '_>, object: usize, slot: u64) -> bool {
        self.tables.contains(&(object, table_of(running, slot)))
    }
}

/// Returns the address in memory of the ops table with a slot.
fn table_of(running: &Running<'_, '_>, slot: u64) -> Option<u64> {
    let owner = running.object_at(slot)?;
    let (table, _) = owner.model.tables.slot(owner.of_file(slot))?;
    owner.model.tables().get(table).map(|table| owner.running(table.address))
}
