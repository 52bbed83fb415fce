//! What a site holds: reading text and comparing it with what the site may hold.
//!
//! Unsafe code here reads a site, which was found to lie in the text range that the platform
//! named, or its alias, for which the platform answers.
#![allow(unsafe_code)]

use super::checked_site::{CheckedSite, Run};
use super::memory;
use super::platform::Platform;
use crate::insn::{InsnBuffer, Replacement, Width};
use crate::site::{Record, Records};

/// How many sites ahead text is prefetched: enough for memory to answer in time, and few enough
/// that the bytes are still in the first cache when they are needed.
const AHEAD: usize = 16;

/// The address at which a site is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// At its own address.
    Site,
    /// At its alias. This is for a site that is written right after: the first cache knows lines by
    /// their virtual addresses, so reading a line at one address and writing it at another waits
    /// for memory twice. Allowed between `unlock` and `lock` only, except on a
    /// [`LivePlatform`](crate::live::LivePlatform).
    Alias,
}

/// The contents of a site, compared with what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// What it is to get.
    New,
    /// What the assembler wrote there, and that is not `New`.
    Original,
    /// Something else that it may hold: what it was last patched for, or ahead of boot.
    Known,
    /// Bytes that it may not hold, or an alias that shows other bytes than the site.
    Unknown,
}

impl<P: Platform> Run<'_, P> {
    /// Returns what the site holds.
    ///
    /// An alias that is no alias shows other bytes than the site. With [`View::Alias`] that is
    /// looked for only if the alias shows what the site is to get, for then nothing is written. A
    /// site whose alias shows [`Class::usual`](super::class::Class) is written next and read back
    /// at its own address, which finds a wrong alias anyway, without another read of the site here.
    #[inline(always)]
    pub(crate) fn contents(&self, site: &CheckedSite<'_, '_>, view: View) -> Contents {
        if !site.is_six_bytes() {
            return self.contents_by_bytes(site, view);
        }
        let six = self.read_six(site, view);
        if six == site.new_head {
            let site_agrees = view == View::Site || self.read_six(site, View::Site) == six;
            if site_agrees { Contents::New } else { Contents::Unknown }
        } else if site.class.usual.head_at(Width::NATIVE, site.place) == Some(six) {
            if site.class.usual_is_original { Contents::Original } else { Contents::Known }
        } else {
            self.contents_by_bytes(site, view)
        }
    }

    /// Returns what the site holds, after comparing all its bytes with all that it may hold.
    #[cold]
    #[inline(never)]
    fn contents_by_bytes(&self, site: &CheckedSite<'_, '_>, view: View) -> Contents {
        let present = self.read(site, View::Site);
        if view == View::Alias && self.read(site, View::Alias) != present {
            return Contents::Unknown;
        }
        let Ok(recipe) = &self.recipe(site) else { return Contents::Unknown };
        let all = [
            (&recipe.new, Contents::New),
            (&recipe.original, Contents::Original),
            (&recipe.last_applied, Contents::Known),
            (&recipe.ahead_of_boot, Contents::Known),
        ];
        let mut all = all.into_iter();
        let found = all.find(|(known, _)| self.compose_or_empty(site.record, known) == present);
        found.map_or(Contents::Unknown, |(_, contents)| contents)
    }

    /// Returns where text ends that can be read from the site on: before the next text that was
    /// withdrawn from the set, which may be gone.
    #[inline(never)]
    fn end_of_text(&self, site: &CheckedSite<'_, '_>) -> usize {
        self.set.end_of_present(site.address..self.platform.text_around(site.address).end)
    }

    /// Reads text from the first byte of the site on, until the buffer is full or text ends, and
    /// returns what was read.
    #[inline(always)]
    pub(super) fn read_text<'t>(&self, site: &CheckedSite<'_, '_>, text: &'t mut [u8]) -> &'t [u8] {
        let from = self.at(site.address, View::Site);
        let room = self.end_of_text(site).saturating_sub(site.address);
        let len = text.len().min(room);
        let text = text.get_mut(..len).unwrap_or_default();
        for (at, byte) in text.iter_mut().enumerate() {
            // SAFETY: in text, which the platform says is readable.
            *byte = unsafe { from.add(at).read_volatile() };
        }
        text
    }

    /// Composes all bytes of the site of a record for this replacement. Returns an empty buffer,
    /// which is equal to the bytes of no site, if the site cannot hold it.
    #[inline(never)]
    pub(crate) fn compose_or_empty(
        &self,
        record: &Record,
        replacement: &Replacement<'_>,
    ) -> InsnBuffer {
        self.compose(record, replacement).unwrap_or(InsnBuffer::empty())
    }

    /// Returns all bytes that the site is to get.
    pub(crate) fn new_bytes(&self, site: &CheckedSite<'_, '_>) -> InsnBuffer {
        if site.is_short() {
            // Composed already, when the site was checked.
            return InsnBuffer::of_head(site.new_head, site.record.capacity());
        }
        match &self.recipe(site) {
            Ok(recipe) => self.compose_or_empty(site.record, &recipe.new),
            Err(_) => InsnBuffer::empty(),
        }
    }

    /// Returns all bytes that the site holds.
    pub(crate) fn read(&self, site: &CheckedSite<'_, '_>, view: View) -> InsnBuffer {
        // SAFETY: a checked site lies in text, and its capacity is 1 to 32.
        unsafe { self.read_record(site.record, view) }
    }

    /// Returns all bytes of a short site, as a number; `None` for a longer one, or one of fewer than
    /// five bytes. For writers that ask often: nothing is copied, and no front end is asked.
    #[inline(always)]
    pub(crate) fn head(&self, site: &CheckedSite<'_, '_>, view: View) -> Option<u64> {
        let from = self.at(site.address, view);
        match usize::from(site.record.capacity()) {
            // SAFETY: as in `read`; the site has six bytes.
            InsnBuffer::MIN => Some(unsafe { memory::read_six(from) }),
            // SAFETY: as above; it has five.
            InsnBuffer::JUMP => Some(unsafe { memory::read_five(from) }),
            _ => None,
        }
    }

    /// Returns whether a short site that holds this head holds what is usual in its class.
    #[inline(always)]
    pub(crate) fn is_usual(&self, site: &CheckedSite<'_, '_>, head: u64) -> bool {
        site.class.usual.head_at(Width::NATIVE, site.place) == Some(head)
    }

    /// Returns all bytes that the site of a record holds.
    ///
    /// # Safety
    /// - The site lies in text, and its capacity is 1 to 32.
    pub(super) unsafe fn read_record(&self, record: &Record, view: View) -> InsnBuffer {
        // SAFETY: the platform says that text is readable; so is its alias, where `View::Alias` may
        // be asked for.
        unsafe { memory::read(self.at(record.site(), view), record.capacity()) }
    }

    /// Returns the first six bytes that a site of six bytes holds, as a number.
    #[inline(always)]
    fn read_six(&self, site: &CheckedSite<'_, '_>, view: View) -> u64 {
        // SAFETY: as in `read`; the site has six bytes.
        unsafe { memory::read_six(self.at(site.address, view)) }
    }

    /// Returns the pointer by which the text at an address is read.
    #[inline(always)]
    fn at(&self, address: usize, view: View) -> *const u8 {
        match view {
            View::Site => core::ptr::with_exposed_provenance(address),
            View::Alias => self.platform.alias(address).cast_const(),
        }
    }

    /// Asks memory for the text of a site some places ahead; `following` are the records from the
    /// next one on. A platform is not asked for the alias of text that was withdrawn.
    #[inline(always)]
    pub(super) fn prefetch(&self, following: &Records<'_>, view: View) {
        if let Some(record) = following.peek(AHEAD - 1)
            && (view == View::Site || !self.set.is_withdrawn(record.site()))
        {
            memory::prefetch(self.at(record.site(), view));
        }
    }
}
