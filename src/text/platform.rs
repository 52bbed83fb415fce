//! The platform: where text is, where it can be written, and what the CPU is like.
//!
//! Unsafe code here is that of the ready-made platforms, sound by the contracts of their
//! constructors.
#![allow(unsafe_code)]

use core::ops::Range;

use super::serialize::Serializer;
use crate::insn::Nops;

/// What the patcher needs of a kernel. [`SecondMapping`], [`WriteProtectOff`] and [`Writable`] are
/// ready-made.
///
/// # Safety
/// As long as the implementation is in use by a [`Patcher`](crate::Patcher) or a writer of
/// [`live`](crate::live),
/// - every address in [`text`](Self::text) is readable;
/// - between [`unlock`](Self::unlock) and [`lock`](Self::lock), the bytes from
///   [`alias`](Self::alias)`(address)` on are the same memory as those from `address` on, and may
///   be read and written, for as many as the site there has;
/// - after [`serialize`](Self::serialize) this CPU executes what was written;
/// - the CPUs execute each of [`nops`](Self::nops) as one instruction that does nothing;
/// - none of its functions executes a patch site.
pub unsafe trait Platform {
    /// Returns where sites may be: the first address of text and the address behind it. Called
    /// for each site.
    fn text(&self) -> Range<usize>;

    /// Returns where the bytes at an address of text can be written.
    fn alias(&self, address: usize) -> *mut u8;

    /// Makes the aliases writable. Called once before the first write.
    fn unlock(&mut self) {}

    /// Undoes [`unlock`](Self::unlock). Called once after the last write.
    fn lock(&mut self) {}

    /// Executes a serializing instruction on this CPU. Called once after [`lock`](Self::lock).
    fn serialize(&self) {
        Serializer::default().serialize();
    }

    /// Returns the NOPs that all CPUs have.
    fn nops(&self) -> Nops {
        Nops::of_target()
    }
}

/// What the ready-made platforms are told of the CPU.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    nops: Nops,
    serializer: Serializer,
}

impl Cpu {
    const DEFAULT: Self = Self { nops: Nops::of_target(), serializer: Serializer::Iret };
}

/// The choices that all ready-made platforms offer.
macro_rules! cpu_choices {
    () => {
        /// Chooses the NOPs; those of every CPU of the target, unless this is called.
        ///
        /// # Safety
        /// - every CPU executes each of them as one instruction that does nothing.
        #[must_use]
        pub const unsafe fn with_nops(mut self, nops: Nops) -> Self {
            self.cpu.nops = nops;
            self
        }

        /// Chooses how this CPU serializes itself; by [`Serializer::Iret`], unless this is called.
        #[must_use]
        pub const fn with_serializer(mut self, serializer: Serializer) -> Self {
            self.cpu.serializer = serializer;
            self
        }
    };
}

/// Text that is mapped a second time, writable and not executable: in a direct map of physical
/// memory, or by a shared mapping of a user process.
#[derive(Clone, Debug)]
pub struct SecondMapping {
    text: Range<usize>,
    offset: usize,
    cpu: Cpu,
}

impl SecondMapping {
    /// Makes the platform of the text at `text`, whose second mapping is `offset` bytes higher
    /// (wrapping, so it can be lower as well).
    ///
    /// # Safety
    /// - all of `text` is readable;
    /// - for every address in it, `address + offset` is the same memory, readable and writable.
    #[must_use]
    pub const unsafe fn new(text: Range<usize>, offset: usize) -> Self {
        Self { text, offset, cpu: Cpu::DEFAULT }
    }

    cpu_choices!();
}

// SAFETY: by the contract of `new`; nothing here executes a site.
unsafe impl Platform for SecondMapping {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address.wrapping_add(self.offset))
    }

    fn serialize(&self) {
        self.cpu.serializer.serialize();
    }

    fn nops(&self) -> Nops {
        self.cpu.nops
    }
}

/// Text that is still writable at its own address, early at boot.
#[derive(Clone, Debug)]
pub struct Writable {
    text: Range<usize>,
    cpu: Cpu,
}

impl Writable {
    /// Makes the platform of the text at `text`.
    ///
    /// # Safety
    /// - all of `text` is readable and writable.
    #[must_use]
    pub const unsafe fn new(text: Range<usize>) -> Self {
        Self { text, cpu: Cpu::DEFAULT }
    }

    cpu_choices!();
}

// SAFETY: by the contract of `new`; nothing here executes a site.
unsafe impl Platform for Writable {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address)
    }

    fn serialize(&self) {
        self.cpu.serializer.serialize();
    }

    fn nops(&self) -> Nops {
        self.cpu.nops
    }
}

/// Text that is read-only at its own address. While it is written CR0.WP is off on this one CPU,
/// so that supervisor writes ignore read-only mappings (Intel SDM vol. 3A, "Access Rights").
#[derive(Clone, Debug)]
pub struct WriteProtectOff {
    text: Range<usize>,
    /// The value of CR0 before [`Platform::unlock`].
    cr0: usize,
    cpu: Cpu,
}

/// CR0 bit 16, write protect.
const CR0_WP: usize = 1 << 16;

impl WriteProtectOff {
    /// Makes the platform of the text at `text`.
    ///
    /// # Safety
    /// - all of `text` is mapped and readable;
    /// - the code runs in ring 0;
    /// - CR4.CET is clear: while it is set, CR0.WP cannot be cleared (#GP).
    #[must_use]
    pub const unsafe fn new(text: Range<usize>) -> Self {
        Self { text, cr0: 0, cpu: Cpu::DEFAULT }
    }

    cpu_choices!();
}

// SAFETY: by the contract of `new`, WP being clear between `unlock` and `lock`; nothing here
// executes a site.
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

    fn serialize(&self) {
        self.cpu.serializer.serialize();
    }

    fn nops(&self) -> Nops {
        self.cpu.nops
    }
}
