//! The test of modules.

use patchlet::{OneCpu, Patcher, SiteSet, ops::OpSource, ops::OpState, pv, text::Part};

use super::{file, loaded::Loaded};
use crate::{own, println};

/// The most ops that the module's own table can have.
const OWN_OPS: usize = 8;
const OPS: usize = pv::COUNT + own::ops::COUNT + OWN_OPS;

pub fn run() {
    println!("test module: {} bytes", file::bytes().len());
    for page in [0, 3] {
        let module = Loaded::new(page).unwrap_or_else(|error| panic!("{error}"));
        module.allow_data();
        // SAFETY: the module is unloaded last.
        let (interface, sites) = unsafe { (module.interface(), module.sites()) };
        let states = [const { OpState::new() }; OPS];
        let tables = [&pv::TABLE, &own::ops::TABLE, interface.table];
        let source = OpSource::new(&tables, &states);
        let parts = [Part::new(sites, &source)];
        let set = SiteSet::new(&parts);
        let mut patcher = Patcher::new(&set, module.platform());
        // SAFETY: the text cannot be executed yet.
        let report = unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) };
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        println!("  at {:#x?}: {report}", module.text());
        module.allow_execution();
        assert_eq!((interface.work)(3), 6 ^ 0x2a2a2a2a ^ 3);
        // SAFETY: nobody uses it any more.
        unsafe { module.unload() };
    }
}
