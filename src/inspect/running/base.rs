//! What sites hold that are not being switched. What most of those of one op or key hold decides what
//! each of them may hold.

use std::collections::HashMap;

use super::object::{Running, SiteContent, SiteRecord, wrapped};
use super::sites::{Decider, DeciderSites, RunningSite, RunningSites};
use crate::insn::Width;

/// The first byte of a site while a live switch writes it.
pub(super) const INT3: u8 = 0xcc;

/// Returns whether a site begins with INT3. A live switch puts it there; so does whoever sets a
/// breakpoint.
pub(super) fn is_int3(site: &RunningSite<'_>) -> bool {
    site.seen.bytes().first() == Some(&INT3)
}

/// The state of the sites of a group that are not being switched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    /// The form that they have: that which is asked for if one has it, else that of most of them;
    /// `None` if none has a form that is known.
    pub form: Option<SiteContent>,
    /// How many have it.
    pub sites: usize,
}

impl Base {
    pub fn new(running: &Running<'_, '_>, all: &RunningSites<'_>, group: &DeciderSites) -> Self {
        let mut counts: HashMap<SiteContent, usize> = HashMap::new();
        let candidates = Candidates::new(running, group);
        for (_, site) in all.of_group(group).filter(|(_, site)| !is_int3(site)) {
            if let Some(form) = candidates.form_of(running, group, site) {
                *counts.entry(form).or_default() += 1;
            }
        }
        let asked = group.current.and_then(|form| Some((form, *counts.get(&form)?)));
        // Of two with as many sites, the original.
        let order = |&(form, count): &(SiteContent, usize)| (count, form == SiteContent::Original);
        let most = || counts.iter().map(|(&form, &count)| (form, count)).max_by_key(order);
        let (form, sites) = asked.or_else(most).unzip();
        Self { form, sites: sites.unwrap_or(0) }
    }
}

/// The forms that the sites of a group can have.
struct Candidates {
    list: Vec<SiteContent>,
}

impl Candidates {
    fn new(running: &Running<'_, '_>, group: &DeciderSites) -> Self {
        let mut list: Vec<SiteContent> = group.current.into_iter().collect();
        match group.current {
            Some(SiteContent::Direction(is_on)) => list.push(SiteContent::Direction(!is_on)),
            _ => list.push(SiteContent::Original),
        }
        list.extend(own_targets(running, group.decider).into_iter().map(SiteContent::Holds));
        Self { list }
    }

    /// Returns the form that a site has.
    fn form_of(
        &self,
        running: &Running<'_, '_>,
        group: &DeciderSites,
        site: &RunningSite<'_>,
    ) -> Option<SiteContent> {
        let object = running.objects.get(group.object)?;
        let has = |form: &SiteContent| running.form(object, &site.record, *form) == Some(site.seen);
        if let Some(form) = self.list.iter().find(|form| has(form)) {
            return Some(*form);
        }
        let SiteRecord::Op(..) = site.record else { return None };
        let form = SiteContent::Holds(branch_target(running, object.running(site.address), site)?);
        has(&form).then_some(form)
    }
}

/// Returns the targets that every kernel may put into the slot of an op: the functions of the op
/// itself and of its variants, the crate's own, and null.
pub(super) fn own_targets(running: &Running<'_, '_>, decider: Decider) -> Vec<u64> {
    let Decider::Op { slot, index } = decider else { return vec![] };
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
    Some(wrapped(width, target))
}
