//! The causes of what sites hold, in words.

use super::judge::Judgement;
use super::object::{Running, SiteContent};
use super::sites::{Decider, DeciderSites, RunningSite, RunningSites};

/// The words for each group of sites.
pub(super) struct Words {
    groups: Vec<GroupWords>,
}

struct GroupWords {
    is_op: bool,
    /// The op or the key: `irq.save_fl`.
    name: String,
    /// What decides: `irq.save_fl = guest_save_fl`, `TRACE = on`.
    decides: String,
    /// What the sites hold instead, if they do.
    pending: Option<(SiteContent, String)>,
}

impl Words {
    /// Makes the words for all groups, of which `states` has the state of each site.
    pub fn new(running: &Running<'_, '_>, all: &RunningSites<'_>, states: &[Judgement]) -> Self {
        let groups = all.groups.iter().map(|group| {
            let name = name(running, group);
            let decides = decides(running, group);
            let mut states = group.sites.iter().filter_map(|&at| states.get(at));
            let pending = states.find_map(|state| match state {
                Judgement::Pending(form) => Some((*form, target(running, group, *form))),
                _ => None,
            });
            let is_op = matches!(group.decider, Decider::Op { .. });
            GroupWords { is_op, name, decides, pending }
        });
        Self { groups: groups.collect() }
    }

    /// Returns the name of the cause by which a site in this state is counted, and what the site
    /// depends on.
    pub fn of(&self, site: &RunningSite<'_>, state: Judgement) -> (&'static str, String) {
        let Some(group) = self.groups.get(site.group) else { return ("none", String::new()) };
        let (name, decides) = (&group.name, &group.decides);
        let cause = if group.is_op { "op" } else { "branch" };
        match state {
            Judgement::Patched | Judgement::Unknown => (cause, decides.clone()),
            Judgement::Unpatched => ("unpatched", format!("{name}: none of its sites is patched")),
            Judgement::Pending(_) => {
                let held = group.pending.as_ref().map_or("?", |(_, words)| words);
                ("pending", format!("{decides}; all its sites are as for {held}"))
            }
            Judgement::InBatch(step) => {
                ("live-batch", format!("{decides}; step {step} of a live switch"))
            }
            Judgement::LeftOriginal if group.is_op => {
                ("left-indirect", format!("{decides}; others of its sites are patched"))
            }
            Judgement::LeftOriginal => (cause, decides.clone()),
        }
    }
}

/// Returns what decides what the sites of a group hold: `irq.save_fl = guest_save_fl`.
pub(super) fn decides(running: &Running<'_, '_>, group: &DeciderSites) -> String {
    let name = name(running, group);
    match group.current {
        Some(form) => format!("{name} = {}", target(running, group, form)),
        None => format!("{name}, whose state is not in the dump"),
    }
}

fn name(running: &Running<'_, '_>, group: &DeciderSites) -> String {
    let named = match group.decider {
        Decider::Op { slot, index } => running.op(slot, index).map(|(owner, op)| {
            let name = owner.model.op_name(&op);
            owner.name().map_or_else(|| name.clone(), |module| format!("{module}: {name}"))
        }),
        Decider::Key(key) => running.key(key).map(|(owner, key)| match owner.name() {
            None => key.name.to_owned(),
            Some(module) => format!("{module}: {}", key.name),
        }),
    };
    named.unwrap_or_else(|| match group.decider {
        Decider::Op { slot, .. } => format!("slot at {slot:#x}, which is in no file"),
        Decider::Key(key) => format!("key at {key:#x}, which is in no file"),
    })
}

/// Returns what a slot or a key says in a form.
fn target(running: &Running<'_, '_>, group: &DeciderSites, form: SiteContent) -> String {
    match form {
        SiteContent::Original => "the assembler wrote it".to_owned(),
        SiteContent::Direction(is_on) => if is_on { "on" } else { "off" }.to_owned(),
        SiteContent::Holds(0) => "null".to_owned(),
        SiteContent::Holds(target) => {
            let name = running.name_at(target);
            let Decider::Op { slot, index } = group.decider else { return name };
            let variant = running.op(slot, index).and_then(|(owner, op)| {
                let variants = owner.model.variants_of(op.slot).iter();
                let found = variants.rev().find(|of| owner.running(of.function) == target);
                found.map(|variant| variant.condition)
            });
            match variant {
                Some(condition) if !condition.is_empty() => format!("{name} ({condition})"),
                _ => name,
            }
        }
    }
}
