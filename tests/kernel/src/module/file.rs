//! The module's file. QEMU's `-initrd` puts it into memory.

use core::{
    ptr, slice,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::start_info::{Module, StartInfo};

const CAPACITY: usize = 64 * 1024;

/// Aligned, because the loader reads the structures of the file in place.
#[repr(C, align(16))]
struct File([u8; CAPACITY]);

static mut FILE: File = File([0; CAPACITY]);
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Copies the file, because the page tables of this kernel will not map its place.
///
/// # Safety
/// - all memory is still mapped at its physical address;
/// - no other function of this module was called before.
pub unsafe fn save(info: &StartInfo) {
    if info.module_count == 0 {
        return;
    }
    // SAFETY: the list has at least one entry.
    let module = unsafe { &*(info.module_list as *const Module) };
    let length = module.size as usize;
    assert!(length <= CAPACITY, "the module has more than {CAPACITY} bytes");
    // SAFETY: the bytes are there, the length was checked, and no other code uses `FILE` yet.
    unsafe {
        ptr::copy_nonoverlapping(module.address as *const u8, (&raw mut FILE).cast(), length);
    }
    LENGTH.store(length, Ordering::Release);
}

/// Returns the bytes of the file; none, if there is no module.
pub fn bytes() -> &'static [u8] {
    let length = LENGTH.load(Ordering::Acquire);
    // SAFETY: only `save` writes to `FILE`, and its contract says that it runs before this.
    unsafe { slice::from_raw_parts((&raw const FILE).cast(), length) }
}
