//! What the boot loader gives to a PVH entry.

/// The structure that a PVH entry gets (Xen, `public/arch-x86/hvm/start_info.h`), as far as it is
/// used here.
#[repr(C)]
pub struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    /// The number of entries in [`module_list`](Self::module_list).
    pub module_count: u32,
    /// Physical address of the list of modules.
    pub module_list: u64,
    /// Physical address of a text that ends with a zero byte; 0 if there is none.
    pub command_line: u64,
}

/// A module: a file that the boot loader has put into memory. QEMU does it for `-initrd`.
#[repr(C)]
pub struct Module {
    /// Physical address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
    command_line: u64,
    reserved: u64,
}

const MAGIC: u32 = 0x336e_c578;

impl StartInfo {
    /// Returns the structure at this address.
    ///
    /// # Safety
    /// - `address` is the one that the PVH entry got;
    /// - all memory is still mapped at its physical address, as long as the structure is in use.
    pub unsafe fn at(address: usize) -> &'static Self {
        // SAFETY: the caller passes the address of a `StartInfo`.
        let info = unsafe { &*(address as *const Self) };
        assert_eq!(info.magic, MAGIC, "no PVH start info");
        info
    }
}
