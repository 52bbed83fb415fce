//! What a site holds: reading text and comparing it with what the site may hold.
//!
//! Unsafe code here reads a site, which was found to lie in the text range that the platform
//! named, or its alias, for which the platform answers.
#![allow(unsafe_code)]

use super::checked_site::{CheckedSite, Run};
use super::memory;
use super::platform::Platform;
use super::source::Recipe;
use crate::error::Error;
use crate::insn::{InsnBuffer, Replacement, Width};

/// So many sites ahead, text is asked for: enough for memory to answer in time, and few enough
/// that the bytes are still in the first cache when they are needed.
const AHEAD: usize = 16;

/// Where a site is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// At its own address.
    Site,
    /// At its alias. Only between `unlock` and `lock`, except on a
    /// [`LivePlatform`](crate::live::LivePlatform). For a site that is written right after: the
    /// first cache knows lines by their virtual address, and to read a line at one address and
    /// write it at another is to wait twice.
    Alias,
}

/// What a site holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// What it is to get.
    New,
    /// Something else that it may hold.
    Known,
    /// Bytes that it may not hold, or an alias that shows other bytes than the site.
    Unknown,
}

impl<P: Platform> Run<'_, P> {
    /// Returns what the site holds.
    ///
    /// Read by way of the alias, an alias that shows [`Class::usual`](super::class::Class) is
    /// believed to be one: comparing it with the site would nearly always read the site in vain.
    /// What was written is read back at the site, which finds an alias that is none.
    #[inline(always)]
    pub(crate) fn contents(&self, site: &CheckedSite<'_, '_>, view: View) -> Contents {
        if !site.is_six_bytes() {
            return self.contents_by_bytes(site, view);
        }
        let six = self.read_six(site, view);
        if six == site.new_head {
            let is_alias = view == View::Site || self.read_six(site, View::Site) == six;
            if is_alias { Contents::New } else { Contents::Unknown }
        } else if site.class.usual.head_at(Width::NATIVE, site.address as u64) == Some(six) {
            Contents::Known
        } else {
            self.contents_by_bytes(site, view)
        }
    }

    /// Returns what the site holds, after comparing all its bytes with all that it may hold.
    #[cold]
    #[inline(never)]
    pub(super) fn contents_by_bytes(&self, site: &CheckedSite<'_, '_>, view: View) -> Contents {
        let present = self.read(site, View::Site);
        if view == View::Alias && self.read(site, View::Alias) != present {
            return Contents::Unknown;
        }
        let Some(recipe) = self.recipe(site) else { return Contents::Unknown };
        match self.place_of(site, &recipe, &present) {
            Some(Recipe::NEW) => Contents::New,
            Some(_) => Contents::Known,
            None => Contents::Unknown,
        }
    }

    /// Returns whether the site holds what the assembler wrote.
    #[inline(always)]
    pub(super) fn holds_original(&self, site: &CheckedSite<'_, '_>) -> bool {
        if site.is_six_bytes() && site.class.usual_is_original {
            let original = site.class.usual.head_at(Width::NATIVE, site.address as u64);
            if original == Some(self.read_six(site, View::Site)) {
                return true;
            }
        }
        self.recipe(site)
            .is_some_and(|recipe| self.bytes(site, &recipe.original) == self.read(site, View::Site))
    }

    /// Returns eight bytes of text from the site on, as a number; `None` at the end of text.
    #[inline(always)]
    pub(super) fn read_eight(&self, site: &CheckedSite<'_, '_>) -> Option<u64> {
        let room = self.platform.text().end.checked_sub(site.address)?;
        // SAFETY: in text, which the platform says is readable.
        (room >= 8).then(|| unsafe { memory::read_eight(self.at(site.address, View::Site)) })
    }

    /// Returns `len` bytes of text from the site on, in front of zeros.
    ///
    /// `len` is at most `N`, and so many bytes lie between the site and the end of text.
    #[inline(always)]
    pub(super) fn read_text<const N: usize>(
        &self,
        site: &CheckedSite<'_, '_>,
        len: usize,
    ) -> [u8; N] {
        let from = self.at(site.address, View::Site);
        let room = self.platform.text().end.saturating_sub(site.address);
        let mut text = [0; N];
        for (at, byte) in text.iter_mut().enumerate().take(len.min(room)) {
            // SAFETY: in text, which the platform says is readable.
            *byte = unsafe { from.add(at).read_volatile() };
        }
        text
    }

    /// Returns the place in [`Recipe::known`] of what these bytes of the site are; `None` if the
    /// site may not hold them.
    pub(super) fn place_of(
        &self,
        site: &CheckedSite<'_, '_>,
        recipe: &Recipe<'_>,
        present: &InsnBuffer,
    ) -> Option<usize> {
        recipe.known().iter().position(|known| self.bytes(site, known) == *present)
    }

    /// Returns all bytes of the site if it holds this; none, if it cannot.
    #[inline(never)]
    pub(crate) fn bytes(&self, site: &CheckedSite<'_, '_>, held: &Replacement<'_>) -> InsnBuffer {
        self.compose(site.address, site.record.capacity(), held).unwrap_or(InsnBuffer::nothing())
    }

    /// Returns all bytes that the site is to get.
    pub(crate) fn new_bytes(&self, site: &CheckedSite<'_, '_>) -> InsnBuffer {
        self.recipe(site).map_or(InsnBuffer::nothing(), |recipe| self.bytes(site, &recipe.new))
    }

    /// Returns all bytes that the site holds.
    #[inline(never)]
    pub(crate) fn read(&self, site: &CheckedSite<'_, '_>, view: View) -> InsnBuffer {
        // SAFETY: the site lies in text, which the platform says is readable; so is its alias,
        // where `View::Alias` may be asked for. A checked capacity is 1 to 32.
        unsafe { memory::read(self.at(site.address, view), site.record.capacity()) }
    }

    /// Returns the first six bytes that a site of six bytes holds, as a number.
    #[inline(always)]
    fn read_six(&self, site: &CheckedSite<'_, '_>, view: View) -> u64 {
        // SAFETY: as in `read`; the site has six bytes.
        unsafe { memory::read_six(self.at(site.address, view)) }
    }

    #[inline(always)]
    fn at(&self, address: usize, view: View) -> *const u8 {
        match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform.alias(address).cast_const(),
        }
    }

    /// Asks memory for the text of a site some places behind the one at this index.
    #[inline(always)]
    pub(super) fn prefetch(&self, records: &[crate::site::Record], index: usize, view: View) {
        if let Some(record) = records.get(index + AHEAD) {
            memory::prefetch(self.at(record.site(), view));
        }
    }

    /// Makes the error of a site that holds bytes which it may not hold.
    #[cold]
    #[inline(never)]
    pub(super) fn old_bytes(&self, site: &CheckedSite<'_, '_>) -> Error {
        let found = self.read(site, View::Site);
        let Some(recipe) = self.recipe(site) else { return Error::Busy };
        let expected = self.bytes(site, &recipe.original);
        Error::OldBytes { site: site.address, name: recipe.name, expected, found }
    }

    /// Makes the error of a site that does not show what was written.
    #[cold]
    #[inline(never)]
    pub(crate) fn read_back(&self, site: &CheckedSite<'_, '_>, wrote: &InsnBuffer) -> Error {
        let found = self.read(site, View::Site);
        let (site, name) = (site.address, self.name(site));
        Error::ReadBack { site, name, wrote: *wrote, found }
    }

    /// Makes the error of a site whose alias shows something else than the site.
    #[cold]
    #[inline(never)]
    pub(crate) fn no_alias(&self, site: &CheckedSite<'_, '_>) -> Error {
        let alias = self.platform.alias(site.address).addr();
        Error::Alias { site: site.address, alias, name: self.name(site) }
    }

    /// Returns the name of what the site belongs to.
    #[cold]
    pub(crate) fn name(&self, site: &CheckedSite<'_, '_>) -> &'static str {
        self.recipe(site).map_or("", |recipe| recipe.name)
    }
}
