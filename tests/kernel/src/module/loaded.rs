//! A module in memory. Its text is never writable at the address at which it is executed.

use core::{
    ops::Range,
    slice,
    sync::atomic::{AtomicUsize, Ordering},
};

use interface::Interface;
use object::{LittleEndian, elf};
use patchlet::{SecondMapping, Sites, branch::Keys};

use super::{
    exports, file,
    load::{LoadError, PAGE_SIZE, Placed, Region},
};
use crate::{
    image,
    paging::{self, Rights},
    sync,
};

#[cfg(target_arch = "x86_64")]
type Header = elf::FileHeader64<LittleEndian>;
#[cfg(target_arch = "x86")]
type Header = elf::FileHeader32<LittleEndian>;

/// What memory is filled with that was a module's: INT3, and addresses that lead nowhere.
const FREED: u8 = 0xcc;

/// The text of the module that is loaded, one at a time; empty if none is.
static TEXT: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Returns the text of the module that is loaded; nothing, if none is.
pub fn text() -> Range<usize> {
    let [start, end] = TEXT.each_ref().map(|address| address.load(Ordering::Acquire));
    start..end
}

fn set_text(text: Range<usize>) {
    for (address, value) in TEXT.iter().zip([text.start, text.end]) {
        address.store(value, Ordering::Release);
    }
}

/// A module whose sections are in memory and relocated. No page of it can be executed before
/// [`allow`](Self::allow).
pub struct Loaded {
    memory: Range<usize>,
    regions: [Range<usize>; 3],
    /// The sections with the records of sites, of branches and of keys.
    sites: Range<usize>,
    branches: Range<usize>,
    keys: Range<usize>,
    interface: usize,
}

fn addresses(range: Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

impl Loaded {
    /// Loads the module at page number `page` of the region for modules, which has no module there.
    pub fn new(page: usize) -> Result<Self, LoadError<'static>> {
        let area = image::modules();
        let base = area.start + page * PAGE_SIZE as usize;
        let placed = Placed::<Header>::new(file::bytes(), base as u64)?;
        let memory = addresses(placed.memory());
        let room = area.end.saturating_sub(base);
        if memory.len() > room {
            return Err(LoadError::NoRoom { needed: memory.len() as u64, room: room as u64 });
        }
        // SAFETY: the alias of the region is mapped writable, and nobody else uses this part of it.
        let bytes = unsafe { slice::from_raw_parts_mut(paging::alias(base), memory.len()) };
        placed.write(bytes, exports::address)?;
        let regions = [Region::Text, Region::ReadOnly, Region::Data];
        let section = |name| {
            let found = placed.section(name).ok_or(LoadError::Malformed("no such section"));
            found.map(addresses)
        };
        let interface = placed.symbol(Interface::SYMBOL);
        Ok(Self {
            memory,
            regions: regions.map(|region| addresses(placed.region(region))),
            sites: section("patchlet_sites")?,
            branches: section("patchlet_branches")?,
            keys: section("patchlet_keys")?,
            interface: interface.ok_or(LoadError::UnknownSymbol(Interface::SYMBOL))? as usize,
        })
    }

    /// Returns the text.
    pub fn text(&self) -> Range<usize> {
        self.regions[0].clone()
    }

    /// Makes text and read-only data readable, and data writable.
    pub fn allow_data(&self) {
        let rights = [Rights::ReadOnly, Rights::ReadOnly, Rights::ReadWrite];
        for (region, rights) in self.regions.iter().zip(rights) {
            // SAFETY: no right is taken away.
            unsafe { paging::protect(region.clone(), rights) };
        }
        set_text(self.text());
    }

    /// Makes text executable.
    pub fn allow_execution(&self) {
        // SAFETY: text is not written at this address.
        unsafe { paging::protect(self.text(), Rights::ReadExecute) };
        // A CPU may know that the pages could be read only, and may have fetched what was here
        // before.
        sync::all_forget_translations();
    }

    /// Takes all rights away.
    ///
    /// # Safety
    /// - no CPU executes this module, and nobody uses what lies in it.
    pub unsafe fn unload(self) {
        set_text(0..0);
        // SAFETY: by the contract.
        unsafe { paging::protect(self.memory.clone(), Rights::None) };
        sync::all_forget_translations();
        // SAFETY: nobody uses this part of the region, whose alias is mapped writable.
        unsafe { paging::alias(self.memory.start).write_bytes(FREED, self.memory.len()) };
    }

    /// Returns the platform of the text.
    pub fn platform(&self) -> SecondMapping {
        // SAFETY: the text is readable since `allow_data`, and `paging` maps the region for modules
        // a second time, writable.
        unsafe { SecondMapping::new(self.text(), paging::DIRECT_MAP_OFFSET) }
    }

    /// Returns the records of the sites.
    ///
    /// # Safety
    /// - they are not used any more when the module is unloaded.
    pub unsafe fn sites(&self) -> Sites<'static> {
        // SAFETY: the section is a part of read-only memory, and has the alignment of its records.
        unsafe { Sites::between(self.sites.start as *const u8, self.sites.len()) }
    }

    /// Returns the records of the branches.
    ///
    /// # Safety
    /// - they are not used any more when the module is unloaded.
    pub unsafe fn branches(&self) -> Sites<'static> {
        // SAFETY: as for `sites`.
        unsafe {
            Sites::with_targets_between(self.branches.start as *const u8, self.branches.len())
        }
    }

    /// Returns the keys of the module's own.
    ///
    /// # Safety
    /// - they are not used any more when the module is unloaded.
    pub unsafe fn keys(&self) -> Keys {
        // SAFETY: as for `sites`; only `keys!` put something into the section, and it was relocated.
        unsafe { Keys::between(self.keys.start as *const u8, self.keys.len()) }
    }

    /// Returns what the module gives to the kernel.
    ///
    /// # Safety
    /// - it is not used any more when the module is unloaded.
    pub unsafe fn interface(&self) -> &'static Interface {
        // SAFETY: the module has a static of this type under the symbol, and was compiled by the
        // compiler and with the crate that this kernel was compiled with.
        unsafe { &*(self.interface as *const Interface) }
    }
}
