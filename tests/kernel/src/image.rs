//! The regions of the image, from the symbols of `kernel.ld`. Each starts and ends on a page
//! boundary.

use core::ops::Range;

unsafe extern "C" {
    static __image_start: [u8; 0];
    static __image_end: [u8; 0];
    static __text_start: [u8; 0];
    static __text_end: [u8; 0];
    static __user_text_start: [u8; 0];
    static __user_text_end: [u8; 0];
    static __scratch_start: [u8; 0];
    static __scratch_end: [u8; 0];
    static __modules_start: [u8; 0];
    static __modules_end: [u8; 0];
    static __rodata_start: [u8; 0];
    static __rodata_end: [u8; 0];
    static __data_start: [u8; 0];
    static __data_end: [u8; 0];
}

pub fn whole() -> Range<usize> {
    range(&raw const __image_start, &raw const __image_end)
}

pub fn text() -> Range<usize> {
    range(&raw const __text_start, &raw const __text_end)
}

pub fn user_text() -> Range<usize> {
    range(&raw const __user_text_start, &raw const __user_text_end)
}

pub fn scratch() -> Range<usize> {
    range(&raw const __scratch_start, &raw const __scratch_end)
}

/// Returns the region in which modules are loaded.
pub fn modules() -> Range<usize> {
    range(&raw const __modules_start, &raw const __modules_end)
}

pub fn rodata() -> Range<usize> {
    range(&raw const __rodata_start, &raw const __rodata_end)
}

/// Returns the region of writable data, `.bss` included.
pub fn data() -> Range<usize> {
    range(&raw const __data_start, &raw const __data_end)
}

fn range(start: *const [u8; 0], end: *const [u8; 0]) -> Range<usize> {
    start.addr()..end.addr()
}
