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

use std::collections::HashMap;

use super::batch;
use super::object::{Form, Running, SiteRecord};
use super::sites::{Group, RunningSite, RunningSites, Subject};
use crate::insn::{InsnBuffer, Width};
use crate::inspect::explain::Verdict;

/// The state that a site is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As its slot or its key asks for.
    Patched,
    /// As the assembler wrote it, together with all others of its op.
    Unpatched,
    /// As another target or state asked for, together with all others of its op.
    Pending(Form),
    /// In a batch of a live switch, after this step of the protocol's list.
    InBatch(u8),
    /// As the assembler wrote it, while others of its op are patched.
    LeftOriginal,
    /// In none that says why.
    Unknown,
}

impl State {
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
    pub state: State,
    /// What it should hold; `None` if nothing can be composed for it.
    pub expected: Option<InsnBuffer>,
}

/// The first byte of a site that is being switched.
pub(super) const INT3: u8 = 0xcc;

/// Judges all sites; in their order.
pub(super) fn judge(running: &Running<'_, '_>, all: &RunningSites<'_>) -> Vec<Judged> {
    let unknown = Judged { state: State::Unknown, expected: None };
    let mut judged = vec![unknown; all.sites.len()];
    let bases: Vec<Base> = all.groups.iter().map(|group| Base::new(running, all, group)).collect();
    let patched = Patched::new(running, all, &bases);
    for (group, base) in all.groups.iter().zip(&bases) {
        let is_allowed = base.is_allowed(running, &patched, group);
        for (at, site) in all.of_group(group) {
            let form = |form| {
                let object = running.objects.get(group.object)?;
                running.form(object, &site.record, form)
            };
            let current = group.current.and_then(form);
            let state = if Some(site.seen) == current {
                State::Patched
            } else if is_int3(site) {
                State::Unknown
            } else if base.form == Some(Form::Original) && form(Form::Original) == Some(site.seen) {
                if is_allowed { State::Unpatched } else { State::LeftOriginal }
            } else if let Some(other) = base.form
                && base.form != group.current
                && is_allowed
                && form(other) == Some(site.seen)
            {
                State::Pending(other)
            } else if form(Form::Original) == Some(site.seen) {
                State::LeftOriginal
            } else {
                State::Unknown
            };
            let expected = match state {
                State::LeftOriginal => current,
                State::Unknown if is_allowed => base.form.and_then(form).or(current),
                State::Unknown => current,
                _ => Some(site.seen),
            };
            if let Some(place) = judged.get_mut(at) {
                *place = Judged { state, expected: expected.or_else(|| form(Form::Original)) };
            }
        }
    }
    for (at, step) in batch::find(running, all, &bases) {
        if let (Some(place), Some(site)) = (judged.get_mut(at), all.sites.get(at)) {
            *place = Judged { state: State::InBatch(step), expected: Some(site.seen) };
        }
    }
    judged
}

/// Returns whether a site has an INT3 in front, which nothing but a live switch puts there.
pub(super) fn is_int3(site: &RunningSite<'_>) -> bool {
    site.seen.bytes().first() == Some(&INT3)
}

/// The state of the sites of a group that are not being switched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    /// The form that they have: that which is asked for if one has it, else that of most of them;
    /// `None` if none has a form that is known.
    pub form: Option<Form>,
    /// How many have it.
    pub sites: usize,
}

impl Base {
    fn new(running: &Running<'_, '_>, all: &RunningSites<'_>, group: &Group) -> Self {
        let mut counts: HashMap<Form, usize> = HashMap::new();
        let mut candidates = Candidates::new(running, group);
        for (_, site) in all.of_group(group).filter(|(_, site)| !is_int3(site)) {
            if let Some(form) = candidates.form_of(running, group, site) {
                *counts.entry(form).or_default() += 1;
            }
        }
        let asked = group.current.and_then(|form| Some((form, *counts.get(&form)?)));
        // Of two with as many sites, the original.
        let order = |&(form, count): &(Form, usize)| (count, form == Form::Original);
        let most = || counts.iter().map(|(&form, &count)| (form, count)).max_by_key(order);
        let (form, sites) = asked.or_else(most).unzip();
        Self { form, sites: sites.unwrap_or(0) }
    }

    /// Returns whether all sites of a group may be in this form, another one than is asked for.
    fn is_allowed(&self, running: &Running<'_, '_>, patched: &Patched, group: &Group) -> bool {
        let Some(form) = self.form.filter(|_| self.form != group.current) else { return true };
        match (group.subject, form) {
            (Subject::Key(key), _) => {
                let last_applied = running.key_state(key).map(|(_, last)| last);
                let original = running.key(key).map(|(_, key)| key.initially_on);
                let direction = match form {
                    Form::Direction(is_on) => Some(is_on),
                    Form::Original | Form::Holds(_) => None,
                };
                // The state of branches of a module is where no dump tells.
                let is_of_kernel = group.object == 0;
                if is_of_kernel && patched.has_branches {
                    direction == last_applied
                } else {
                    direction == original || (!is_of_kernel && self.sites > 1)
                }
            }
            // A site alone could be one that was left out.
            (Subject::Op { slot, .. }, Form::Original) => {
                self.sites > 1 || !patched.has_op_near(running, group.object, slot)
            }
            (Subject::Op { .. }, Form::Holds(target)) => {
                let own = own_targets(running, group.subject);
                own.contains(&target) || (self.sites > 1 && running.is_function(target))
            }
            (Subject::Op { .. }, Form::Direction(_)) => false,
        }
    }
}

/// What of a kernel is patched.
struct Patched {
    /// Whether any branch of the kernel has another direction than the assembler wrote.
    has_branches: bool,
    /// The objects and slots of ops with a patched site.
    ops: Vec<(usize, u64)>,
}

impl Patched {
    fn new(running: &Running<'_, '_>, all: &RunningSites<'_>, bases: &[Base]) -> Self {
        let mut patched = Self { has_branches: false, ops: vec![] };
        for (group, base) in all.groups.iter().zip(bases) {
            match (group.subject, base.form) {
                (Subject::Key(key), Some(Form::Direction(is_on))) if group.object == 0 => {
                    patched.has_branches |=
                        running.key(key).is_some_and(|(_, key)| key.initially_on != is_on);
                }
                (Subject::Op { slot, .. }, Some(Form::Holds(_))) => {
                    patched.ops.push((group.object, slot));
                }
                _ => {}
            }
        }
        patched
    }

    /// Returns whether a site of another op of the same table is patched in an object.
    fn has_op_near(&self, running: &Running<'_, '_>, object: usize, slot: u64) -> bool {
        let table = |slot: u64| {
            let owner = running.object_at(slot)?;
            let (table, _) = owner.model.tables.slot(owner.of_file(slot))?;
            Some((owner.slide, owner.name(), table))
        };
        let wanted = table(slot);
        self.ops.iter().any(|&(of, other)| of == object && table(other) == wanted)
    }
}

/// The forms that the sites of a group can have.
struct Candidates {
    list: Vec<Form>,
}

impl Candidates {
    fn new(running: &Running<'_, '_>, group: &Group) -> Self {
        let mut list: Vec<Form> = group.current.into_iter().collect();
        match group.current {
            Some(Form::Direction(is_on)) => list.push(Form::Direction(!is_on)),
            _ => list.push(Form::Original),
        }
        list.extend(own_targets(running, group.subject).into_iter().map(Form::Holds));
        Self { list }
    }

    /// Returns the form that a site has.
    fn form_of(
        &mut self,
        running: &Running<'_, '_>,
        group: &Group,
        site: &RunningSite<'_>,
    ) -> Option<Form> {
        let object = running.objects.get(group.object)?;
        let has = |form: &Form| running.form(object, &site.record, *form) == Some(site.seen);
        if let Some(form) = self.list.iter().find(|form| has(form)) {
            return Some(*form);
        }
        let SiteRecord::Op(..) = site.record else { return None };
        let form = Form::Holds(branch_target(running, object.running(site.address), site)?);
        has(&form).then(|| {
            self.list.push(form);
            form
        })
    }
}

/// Returns the targets that every kernel may put into the slot of an op: the functions of the op
/// itself and of its variants, the crate's own, and null.
pub(super) fn own_targets(running: &Running<'_, '_>, subject: Subject) -> Vec<u64> {
    let Subject::Op { slot, index } = subject else { return vec![] };
    let Some((owner, op)) = running.op(slot, index) else { return vec![] };
    let model = owner.model;
    let variants = model.variants_of(op.slot).iter().map(|variant| variant.function);
    let of_op = op.native.into_iter().chain(variants).map(|target| owner.running(target));
    let of_crate = running
        .kernel()
        .into_iter()
        .flat_map(|kernel| kernel.model.functions().map(|target| kernel.running(target)));
    of_op.chain(of_crate).chain([0]).collect()
}

/// Returns where the direct call or jump leads that a site at this address in memory begins with.
/// Under an INT3, it is that of the record's kind.
pub(super) fn branch_target(
    running: &Running<'_, '_>,
    address: u64,
    site: &RunningSite<'_>,
) -> Option<u64> {
    let [0xe8 | 0xe9 | INT3, distance @ ..] = site.seen.bytes().first_chunk::<5>()? else {
        return None;
    };
    let distance = i64::from(i32::from_le_bytes(*distance));
    let target = address.wrapping_add(5).wrapping_add_signed(distance);
    let width = running.kernel().map_or(Width::Bits64, |kernel| kernel.model.image.width());
    Some(super::object::wrapped(width, target))
}
