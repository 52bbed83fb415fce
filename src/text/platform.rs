//! The platform: where text is, and where it can be written.
//!
//! Unsafe code here is that of the ready-made platforms, sound by the contracts of
//! their constructors.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::insn::Nops;

/// What the patcher needs of a kernel. [`SecondMapping`], [`WriteProtectOff`] and
/// [`Writable`] are ready-made.
///
/// # Safety
/// The implementation answers for this, for as long as it is in a
/// [`Patcher`](crate::Patcher):
/// - every address in [`text`](Self::text) is readable;
/// - between [`unlock`](Self::unlock) and [`lock`](Self::lock), the bytes from
///   [`alias`](Self::alias)`(address)` on are the same memory as those from
///   `address` on and may be read and written, for as many as the site there has;
/// - after [`serialize`](Self::serialize) this CPU executes what was written;
/// - none of its functions uses a patch site.
pub unsafe trait Platform {
    /// Where sites may be: first address of text and the address behind it. Asked for with
    /// each site.
    fn text(&self) -> Range<usize>;

    /// Where the bytes at an address of text can be written.
    fn alias(&self, address: usize) -> *mut u8;

    /// Makes the aliases writable. Called once before the first write.
    fn unlock(&mut self) {}

    /// Undoes [`unlock`](Self::unlock). Called once after the last write.
    fn lock(&mut self) {}

    /// Executes a serializing instruction on this CPU (Intel SDM vol. 3A, "Handling
    /// Self- and Cross-Modifying Code"). Called once after [`lock`](Self::lock).
    fn serialize(&self) {
        serialize();
    }

    /// The NOPs this CPU has.
    fn nops(&self) -> Nops {
        Nops::Long
    }
}

/// Executes CPUID, which serializes in every mode and privilege level (Intel SDM
/// vol. 3A, "Serializing Instructions"); under a hypervisor it costs an exit.
pub fn serialize() {
    #[cfg(target_arch = "x86")]
    use core::arch::x86::__cpuid;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::__cpuid;
    // What it answers is of no use; it stays all the same, as it is an `asm!` that is
    // not `pure`. SAFETY: every CPU since the Pentium has CPUID.
    #[allow(unused_unsafe, reason = "newer libraries call it safe")]
    let _ = unsafe { __cpuid(0) };
}

/// Text that is mapped a second time, writable and not executable: a direct map
/// of physical memory, or a shared mapping in a user process.
#[derive(Clone, Debug)]
pub struct SecondMapping {
    text: Range<usize>,
    offset: usize,
}

impl SecondMapping {
    /// Text at `text`, whose second mapping is `offset` bytes higher (wrapping,
    /// so it can be lower as well).
    ///
    /// # Safety
    /// - all of `text` is readable;
    /// - for every address in it, `address + offset` is the same memory,
    ///   readable and writable.
    #[must_use]
    pub const unsafe fn new(text: Range<usize>, offset: usize) -> Self {
        Self { text, offset }
    }
}

// SAFETY: by the contract of `new`; nothing here uses a site.
unsafe impl Platform for SecondMapping {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address.wrapping_add(self.offset))
    }
}

/// Text that is still writable at its own address, early at boot.
#[derive(Clone, Debug)]
pub struct Writable {
    text: Range<usize>,
}

impl Writable {
    /// Text at `text`.
    ///
    /// # Safety
    /// - all of `text` is readable and writable.
    #[must_use]
    pub const unsafe fn new(text: Range<usize>) -> Self {
        Self { text }
    }
}

// SAFETY: by the contract of `new`; nothing here uses a site.
unsafe impl Platform for Writable {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address)
    }
}

/// Text that is read-only at its own address: CR0.WP is off for the moment, on
/// this one CPU, in which supervisor writes ignore read-only mappings (Intel SDM
/// vol. 3A, "Access Rights").
#[derive(Clone, Debug)]
pub struct WriteProtectOff {
    text: Range<usize>,
    cr0: usize,
}

/// CR0 bit 16, write protect.
const CR0_WP: usize = 1 << 16;

impl WriteProtectOff {
    /// Text at `text`.
    ///
    /// # Safety
    /// - all of `text` is mapped and readable;
    /// - the code runs in ring 0;
    /// - CR4.CET is clear: with it, CR0.WP cannot be cleared (#GP).
    #[must_use]
    pub const unsafe fn new(text: Range<usize>) -> Self {
        Self { text, cr0: 0 }
    }
}

// SAFETY: by the contract of `new`, WP being clear between `unlock` and `lock`;
// nothing here uses a site.
unsafe impl Platform for WriteProtectOff {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address)
    }

    fn unlock(&mut self) {
        // SAFETY: ring 0, by the contract of `new`. `lock` restores the value.
        unsafe {
            core::arch::asm!("mov {}, cr0", out(reg) self.cr0, options(nostack, preserves_flags));
            core::arch::asm!("mov cr0, {}", in(reg) self.cr0 & !CR0_WP, options(nostack, preserves_flags));
        }
    }

    fn lock(&mut self) {
        // SAFETY: ring 0, and the value that was there before `unlock`.
        unsafe {
            core::arch::asm!("mov cr0, {}", in(reg) self.cr0, options(nostack, preserves_flags));
        }
    }
}
