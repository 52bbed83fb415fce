//! The platform: where text is, where it can be written, and what the CPU is like.
//!
//! Unsafe code here is that of the ready-made platforms, sound by the contracts of their
//! constructors.
#![allow(unsafe_code)]

use core::ops::Range;

use super::serialize::Serializer;
use crate::insn::Nops;

/// A kernel as the patcher sees it: where its text is, how that can be written, and what its CPUs
/// can do. [`SecondMapping`], [`WriteProtectOff`] and [`Writable`] are ready-made.
///
/// # Safety
/// As long as the implementation is in use by a [`Patcher`](crate::Patcher) or a writer of
/// [`live`](crate::live),
/// - every address in a range that [`text`](Self::text) or [`text_around`](Self::text_around)
///   returns is readable, but for text whose sites were
///   [withdrawn](crate::SiteSet::withdraw);
/// - between [`unlock`](Self::unlock) and [`lock`](Self::lock), the bytes from
///   [`alias`](Self::alias)`(address)` on are the same memory as those from `address` on, and may
///   be read and written, for as many as the site there has;
/// - after [`serialize`](Self::serialize) this CPU executes what was written;
/// - the CPUs execute each of [`nops`](Self::nops) as one instruction that does nothing;
/// - none of its functions executes a patch site.
pub unsafe trait Platform {
    /// Returns where sites may be: the first address of text and the address behind it.
    fn text(&self) -> Range<usize>;

    /// Returns the piece of text that `address` lies in; [`text`](Self::text), if it lies in none.
    /// To be implemented where text is in several pieces, and quick: it is called for each site.
    fn text_around(&self, address: usize) -> Range<usize> {
        let _ = address;
        self.text()
    }

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

/// The facts and choices that all ready-made platforms have in common.
#[derive(Clone, Debug)]
struct Common {
    text: Range<usize>,
    /// Empty, if all text is one piece.
    init_text: Range<usize>,
    nops: Nops,
    serializer: Serializer,
}

impl Common {
    const fn new(text: Range<usize>) -> Self {
        let (nops, serializer) = (Nops::of_target(), Serializer::Iret);
        Self { text, init_text: 0..0, nops, serializer }
    }

    #[inline]
    fn text_around(&self, address: usize) -> Range<usize> {
        let text = if self.init_text.contains(&address) { &self.init_text } else { &self.text };
        text.clone()
    }
}

/// A ready-made platform: what the three of them do not have in common.
///
/// # Safety
/// - as for [`Platform`], whose functions these become.
unsafe trait ReadyMade {
    fn common(&self) -> &Common;

    /// Returns how much higher the alias of text is, wrapping.
    fn alias_offset(&self) -> usize {
        0
    }

    fn unlock(&mut self) {}

    fn lock(&mut self) {}
}

// SAFETY: by the contract of `ReadyMade`; nothing here executes a site.
unsafe impl<T: ReadyMade> Platform for T {
    fn text(&self) -> Range<usize> {
        self.common().text.clone()
    }

    #[inline]
    fn text_around(&self, address: usize) -> Range<usize> {
        self.common().text_around(address)
    }

    fn alias(&self, address: usize) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(address.wrapping_add(self.alias_offset()))
    }

    fn unlock(&mut self) {
        ReadyMade::unlock(self);
    }

    fn lock(&mut self) {
        ReadyMade::lock(self);
    }

    fn serialize(&self) {
        self.common().serializer.serialize();
    }

    fn nops(&self) -> Nops {
        self.common().nops
    }
}

/// Defines the choices that all ready-made platforms offer.
macro_rules! choices {
    () => {
        /// Adds a second range of text: code that runs once at boot and is freed then, for example,
        /// and lies apart from the rest. Its sites are withdrawn before it is freed:
        /// [`SiteSet::withdraw`](crate::SiteSet::withdraw).
        ///
        /// # Safety
        /// - what the constructor asks for its text holds for `init_text` as well.
        #[must_use]
        pub const unsafe fn with_init_text(mut self, init_text: Range<usize>) -> Self {
            self.common.init_text = init_text;
            self
        }

        /// Chooses the NOPs; those of every CPU of the target, unless this is called.
        ///
        /// # Safety
        /// - every CPU executes each of them as one instruction that does nothing.
        #[must_use]
        pub const unsafe fn with_nops(mut self, nops: Nops) -> Self {
            self.common.nops = nops;
            self
        }

        /// Chooses how this CPU serializes itself; by [`Serializer::Iret`], unless this is called.
        #[must_use]
        pub const fn with_serializer(mut self, serializer: Serializer) -> Self {
            self.common.serializer = serializer;
            self
        }
    };
}

/// Text that is mapped a second time, writable and not executable: in a direct map of physical
/// memory, or by a shared mapping of a user process.
#[derive(Clone, Debug)]
pub struct SecondMapping {
    offset: usize,
    common: Common,
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
        Self { offset, common: Common::new(text) }
    }

    choices!();
}

// SAFETY: by the contract of `new`; nothing here executes a site.
unsafe impl ReadyMade for SecondMapping {
    fn common(&self) -> &Common {
        &self.common
    }

    fn alias_offset(&self) -> usize {
        self.offset
    }
}

/// Text that is still writable at its own address, early at boot.
#[derive(Clone, Debug)]
pub struct Writable {
    common: Common,
}

impl Writable {
    /// Makes the platform of the text at `text`.
    ///
    /// # Safety
    /// - all of `text` is readable and writable.
    #[must_use]
    pub const unsafe fn new(text: Range<usize>) -> Self {
        Self { common: Common::new(text) }
    }

    choices!();
}

// SAFETY: by the contract of `new`; nothing here executes a site.
unsafe impl ReadyMade for Writable {
    fn common(&self) -> &Common {
        &self.common
    }
}

/// Text that is read-only at its own address. While it is written CR0.WP is off on this one CPU,
/// so that supervisor writes ignore read-only mappings (Intel SDM vol. 3A, "Access Rights").
#[derive(Clone, Debug)]
pub struct WriteProtectOff {
    /// The value of CR0 before [`Platform::unlock`].
    cr0: usize,
    common: Common,
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
        Self { cr0: 0, common: Common::new(text) }
    }

    choices!();
}

// SAFETY: by the contract of `new`, WP being clear between `unlock` and `lock`; nothing here
// executes a site.
unsafe impl ReadyMade for WriteProtectOff {
    fn common(&self) -> &Common {
        &self.common
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
