//! A loaded module whose sites are switched with the kernel's.

use interface::Interface;
use patchlet::{
    SiteSet,
    branch::{BranchSource, BranchState, Keys},
    live::Member,
    ops::{OpSource, OpState},
    pv,
    text::Part,
};

use super::loaded::Loaded;
use crate::{
    live::Shared,
    live_readers,
    live_sites::{self, Kind},
    own,
};

// How much memory the states take is known when the module is loaded. A kernel with an allocator
// would allocate it then.
/// The most ops that the module's own table can have.
const OWN_OPS: usize = 8;
const OPS: usize = pv::COUNT + own::ops::COUNT + OWN_OPS;
/// The most keys of the kernel and the module together.
const KEYS: usize = 32;

/// The number of the module's branches.
pub const BRANCHES: usize = 2;

/// Returns the page number at which the module is loaded for the time after `number`: first here,
/// then there.
pub fn page(number: usize) -> usize {
    number * 7 % 20
}

/// What a test wants to know of a module that has joined.
pub struct Joined {
    pub interface: &'static Interface,
    /// The number of all its sites and branches.
    pub sites: usize,
    /// The number of those that are switched when a kind is.
    pub switched: usize,
}

/// Loads the module at page number `page` of the region for modules, patches it, has it join, and
/// calls `body`; then it leaves and is unloaded. The other CPUs may run their sites all the while.
/// `kind` is what the kernel's sites have now.
pub fn while_joined<R>(
    live: &'static Shared,
    page: usize,
    kind: Kind,
    body: impl FnOnce(&Joined) -> R,
) -> R {
    // 1. Load, relocate; nothing of it can be executed.
    let module = Loaded::new(page).unwrap_or_else(|error| panic!("{error}"));
    module.allow_data();
    // SAFETY: the module is unloaded at the end of this function, and nothing of it outlives that.
    let (interface, sites, branches, own_keys) =
        unsafe { (module.interface(), module.sites(), module.branches(), module.keys()) };
    kind.select_of(interface);

    // 2. Make the site set: all tables and keys that sites of the module belong to.
    let tables = [&pv::TABLE, &own::ops::TABLE, interface.table];
    let op_states = [const { OpState::new() }; OPS];
    // SAFETY: only this uses the states.
    let ops = unsafe { OpSource::new(&tables, &op_states) };
    let keys = [Keys::linked(), own_keys];
    let branch_states = [const { BranchState::new() }; KEYS];
    // SAFETY: these are all branches of the module, and only this uses the states.
    let by_keys = unsafe { BranchSource::new(branches, &keys, &branch_states) };
    // SAFETY: only this part has the front end.
    let parts = [unsafe { Part::new(sites, &ops) }, by_keys.part()];
    let set = SiteSet::new(&parts);

    // 3. Patch, and join those that are switched together. Then let CPUs in.
    let member = Member::new(&set, module.text());
    // SAFETY: the text cannot be executed yet, and `allow_execution` serializes all CPUs. All that
    // the set is made of stays until it has left. `live::platform` knows the text.
    let report = unsafe { live.join(&member, &mut module.platform()) };
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((report.sites, report.indirect), (set.len(), 0));
    module.allow_execution();
    live_sites::set_module(Some(interface));

    let joined =
        Joined { interface, sites: set.len(), switched: live_sites::in_module(interface).len() };
    let result = body(&joined);

    // 4. See to it that nobody is in the module's code. Leave, and unload.
    live_sites::set_module(None);
    live_readers::wait_until_outside();
    // SAFETY: no CPU executes the module any more: this one does not, and the readers were outside.
    let left = unsafe { live.leave(&member, core::hint::spin_loop) };
    left.unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: nor is anything else of it used.
    unsafe { module.unload() };
    result
}
