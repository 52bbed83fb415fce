//! The global allocator that the crate `object` cannot be linked without. It has no memory: what
//! the loader reads of an object is never allocated.

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};

struct Nothing;

#[global_allocator]
static NOTHING: Nothing = Nothing;

// SAFETY: every allocation fails, so there is nothing to free.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
