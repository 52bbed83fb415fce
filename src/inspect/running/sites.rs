//! The sites of a running kernel, and which of them are patched together.

use std::collections::HashMap;

use super::object::{Object, Running, SiteContent, SiteRecord};
use crate::insn::InsnBuffer;

/// The slot or key that decides what a site holds, by its address in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Decider {
    Op { slot: u64, index: u16 },
    Key(u64),
}

/// A site in memory.
#[derive(Clone, Debug)]
pub(super) struct RunningSite<'a> {
    /// Address in the file.
    pub address: u64,
    /// Size in bytes.
    pub len: u8,
    pub record: SiteRecord<'a>,
    /// Position of its group.
    pub group: usize,
    /// What it holds.
    pub seen: InsnBuffer,
}

/// The sites of one op or key in one object. They are patched together, so that all hold the same
/// unless they are just being written.
#[derive(Clone, Debug)]
pub(super) struct DeciderSites {
    /// Position of the object.
    pub object: usize,
    pub decider: Decider,
    /// Positions of the sites, in the order of their records.
    pub sites: Vec<usize>,
    /// The form that the op's slot, or the key, asks for; `None` if the dump does not have it.
    pub current: Option<SiteContent>,
}

/// The sites of all objects.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningSites<'a> {
    /// Sorted by address, those of each object in one piece.
    pub sites: Vec<RunningSite<'a>>,
    pub groups: Vec<DeciderSites>,
    /// Sites that are not in the dump.
    pub missing: usize,
}

impl<'a> RunningSites<'a> {
    /// Finds the sites of all objects in the dump.
    pub fn new(running: &Running<'a, '_>) -> Self {
        let mut all = Self::default();
        let mut groups = HashMap::new();
        for (number, object) in running.objects.iter().enumerate() {
            all.add(running, number, object, &mut groups);
        }
        all
    }

    fn add(
        &mut self,
        running: &Running<'a, '_>,
        number: usize,
        object: &Object<'a, '_>,
        groups: &mut HashMap<(usize, Decider), usize>,
    ) {
        let model = object.model;
        let ops = model.records().iter().filter_map(|record| {
            let slot = object.running(record.slot);
            let decider = Decider::Op { slot, index: record.op };
            Some((SiteRecord::Op(record, record.kind()?), decider))
        });
        let branches = model.branches().iter().filter(|branch| branch.jumps_when().is_some());
        let branches = branches
            .map(|record| (SiteRecord::Branch(record), Decider::Key(object.running(record.key))));
        let mut list: Vec<(usize, SiteRecord<'a>, Decider)> = ops
            .chain(branches)
            .enumerate()
            .map(|(order, (record, decider))| (order, record, decider))
            .collect();
        list.sort_by_key(|(order, record, _)| (record.place(), *order));
        let mut orders = Vec::with_capacity(list.len());
        let mut end = 0;
        for (order, record, decider) in list {
            let (address, len) = record.place();
            // A second record of a site, or one of a site that overlaps another. `verify` finds these;
            // here one range of text must have one answer.
            if address < end {
                continue;
            }
            let seen = running.bytes(object, address, len.into());
            let Some(seen) = seen.and_then(|bytes| InsnBuffer::copy_of(&bytes)) else {
                self.missing += 1;
                continue;
            };
            end = address.saturating_add(len.into());
            let group = *groups.entry((number, decider)).or_insert_with(|| {
                let current = current(running, decider);
                self.groups.push(DeciderSites { object: number, decider, sites: vec![], current });
                self.groups.len() - 1
            });
            orders.push((order, self.sites.len()));
            self.sites.push(RunningSite { address, len, record, group, seen });
        }
        orders.sort_unstable();
        for (_, at) in orders {
            let Some(site) = self.sites.get(at) else { continue };
            if let Some(group) = self.groups.get_mut(site.group) {
                group.sites.push(at);
            }
        }
    }

    /// Returns the sites of a group, in the order of their records.
    pub fn of_group<'s>(
        &'s self,
        group: &'s DeciderSites,
    ) -> impl Iterator<Item = (usize, &'s RunningSite<'a>)> {
        group.sites.iter().filter_map(|&at| Some((at, self.sites.get(at)?)))
    }
}

/// Returns the form that an op's slot, or a key, asks for.
fn current(running: &Running<'_, '_>, decider: Decider) -> Option<SiteContent> {
    match decider {
        Decider::Op { slot, .. } => running.slot(slot).map(SiteContent::Holds),
        Decider::Key(key) => running.key_state(key).map(|(is_on, _)| SiteContent::Direction(is_on)),
    }
}
