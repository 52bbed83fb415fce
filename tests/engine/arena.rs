//! Memory in place of a kernel: four pages, mapped twice. At its own address text
//! can be read-only; the second mapping is always writable.

use std::ops::Range;
use std::ptr;

/// Size of the arena, in bytes.
pub const SIZE: usize = 0x4000;

/// The pages that text is in; what a platform calls text may be less.
pub const TEXT_PAGES: Range<usize> = 0..0x2000;

/// Never unmapped: ops tables lie in it, and those are static.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    base: *mut u8,
    alias: *mut u8,
    file: i32,
}

impl Arena {
    /// In the lower 2 GiB on 64-bit, so that a record can reach below address 0.
    #[cfg(target_arch = "x86_64")]
    pub fn low() -> Self {
        Self::map(0, libc::MAP_32BIT)
    }

    /// Anywhere: on 32-bit everything reaches everything.
    #[cfg(target_arch = "x86")]
    pub fn low() -> Self {
        Self::map(0, 0)
    }

    /// Where records reach that address.
    pub fn near(address: usize) -> Self {
        if cfg!(target_arch = "x86") {
            return Self::low();
        }
        // Below a program and its heap nothing else is.
        let arena = Self::map((address & !0xfff).wrapping_sub(0x1000_0000), 0);
        assert!(arena.base.addr().abs_diff(address) < 0x7000_0000, "no room near the program");
        arena
    }

    fn map(hint: usize, flags: i32) -> Self {
        // SAFETY: maps new memory; a hint replaces no other mapping.
        unsafe {
            let file = libc::memfd_create(c"arena".as_ptr(), libc::MFD_CLOEXEC);
            assert!(file >= 0 && libc::ftruncate(file, SIZE as libc::off_t) == 0);
            let map = |hint, flags| {
                let access = libc::PROT_READ | libc::PROT_WRITE;
                let flags = libc::MAP_SHARED | flags;
                let at =
                    libc::mmap(ptr::without_provenance_mut(hint), SIZE, access, flags, file, 0);
                assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
                at.cast::<u8>()
            };
            let arena = Self { base: map(hint, flags), alias: map(0, 0), file };
            arena.base.expose_provenance();
            arena.alias.expose_provenance();
            arena
        }
    }

    /// Makes text read-only at its own address.
    pub fn protect_text(&self) {
        self.protect(self.base, libc::PROT_READ);
    }

    /// Makes text writable at its own address, as it is at first.
    pub fn open_text(&self) {
        self.protect(self.base, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Access to text through the second mapping: none, `PROT_READ`, …
    pub fn protect_alias(&self, access: i32) {
        self.protect(self.alias, access);
    }

    /// Makes the second page of the second mapping a copy of its own, as if only
    /// one page had been mapped.
    pub fn detach_second_page(&self) {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        // SAFETY: replaces a page of the mapping; no reference to it is in use.
        unsafe {
            let page = self.alias.add(0x1000);
            let at = libc::mmap(page.cast(), 0x1000, access, flags, self.file, 0x1000);
            assert_eq!(at, page.cast());
        }
    }

    /// Takes the second page away from both views: to read it is to die.
    #[allow(dead_code, reason = "for the tests of the engine alone")]
    pub fn take_second_page(&self) {
        for view in [self.base, self.alias] {
            // SAFETY: a page of this arena, to which no reference is in use.
            let done = unsafe { libc::mprotect(view.add(0x1000).cast(), 0x1000, libc::PROT_NONE) };
            assert_eq!(done, 0);
        }
    }

    fn protect(&self, view: *mut u8, access: i32) {
        // SAFETY: pages of this arena; a test that then writes there is to die.
        let done = unsafe { libc::mprotect(view.cast(), TEXT_PAGES.end, access) };
        assert_eq!(done, 0);
    }

    /// Address of an offset.
    pub fn address(&self, offset: usize) -> usize {
        self.base.addr() + offset
    }

    /// A pointer to an offset, at its own address.
    pub fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset <= SIZE);
        // SAFETY: inside of the mapping.
        unsafe { self.base.add(offset) }
    }

    /// How much higher the second mapping is.
    pub fn alias_offset(&self) -> usize {
        self.alias.addr().wrapping_sub(self.base.addr())
    }

    /// Every byte.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        // SAFETY: the whole mapping, which is readable for ever.
        unsafe { ptr::copy_nonoverlapping(self.base, bytes.as_mut_ptr(), SIZE) };
        bytes
    }

    /// Writes, through the second mapping.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= SIZE);
        // SAFETY: inside of the mapping; no reference to these bytes is in use.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.alias.add(offset), bytes.len()) };
    }
}
