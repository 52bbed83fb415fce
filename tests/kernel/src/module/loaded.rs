//! A module in memory. Its text is never writable at the address at which it is executed.

use core::{ops::Range, slice};

use object::{LittleEndian, elf};
use patchlet::{SecondMapping, Sites};

use super::{
    exports, file,
    interface::Interface,
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

/// A module whose sections are in memory and relocated. No page of it can be executed before
/// [`allow`](Self::allow).
pub struct Loaded {
    memory: Range<usize>,
    regions: [Range<usize>; 3],
    sites: Range<usize>,
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
        let sites = placed.section("patchlet_sites").ok_or(LoadError::Malformed("no sites"))?;
        let interface = placed.symbol(Interface::SYMBOL);
        Ok(Self {
            memory,
            regions: regions.map(|region| addresses(placed.region(region))),
            sites: addresses(sites),
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
        // SAFETY: by the contract.
        unsafe { paging::protect(self.memory, Rights::None) };
        sync::all_forget_translations();
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
