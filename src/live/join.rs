//! Joining and leaving: a module's set is switched with the others for as long as the module is
//! loaded.
//!
//! Unsafe code here takes the kernel's word for a module's text, and for how long a member stays.
#![allow(unsafe_code)]

use core::ops::Range;

use crate::error::Error;
use crate::insn::Nops;
use crate::live::hook::Live;
use crate::live::member::Member;
use crate::text::{self, ClassCache, Follow, OneCpu, Platform, Report};

impl Live<'_> {
    /// Patches the sites of a module for what their slots and keys say now, and joins its set to
    /// those that are switched together: from the next batch on, the sites change with all others.
    /// No batch comes between the two.
    ///
    /// Everything is checked as in [`Patcher::apply`](crate::Patcher::apply), and that the module
    /// shares neither text nor a site with those that are joined. If the sites have been patched
    /// before, those change that are not up to date.
    ///
    /// # Safety
    /// - No CPU executes the text of the module before this has returned; and each CPU executes a
    ///   serializing instruction (Intel SDM vol. 3A §8.1.3) between that and the module's text,
    ///   unless nothing was ever executed at these addresses. No thread and no interrupted context
    ///   is inside a site of it: behind its first byte and before its end.
    /// - If this succeeds, the member, its set and all that this is made of (records, front ends,
    ///   ops tables, keys, their states) stay where they are and readable until
    ///   [`leave`](Self::leave) has succeeded.
    /// - Until then, what the writers of this `Live` are promised for its sets holds for this one,
    ///   too; and their platforms know the text of the module:
    ///   [`text_around`](Platform::text_around) returns it for each address in it, readable, and
    ///   [`alias`](Platform::alias) knows where it can be written.
    /// - This is not called from an NMI, machine-check or #BP handler.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::Busy`] if a writer is at work;
    /// - [`Error::AlreadyJoined`] if the member has joined, here or elsewhere, or its set has joined
    ///   here by another member;
    /// - [`Error::SharedText`] if another member has text at the same addresses;
    /// - [`Error::OutsideText`] if a site is not in the text of the member;
    /// - the others as for [`Patcher::apply`](crate::Patcher::apply).
    ///
    /// The set has not joined then. Text is as after the same error of `apply`.
    pub unsafe fn join<P: Platform>(
        &self,
        member: &Member<'_>,
        platform: &mut P,
    ) -> Result<Report, Error> {
        let writer = self.begin()?;
        let set = member.set();
        if writer.sets().any(|joined| core::ptr::eq(joined, set)) || !member.take() {
            return Err(Error::AlreadyJoined);
        }
        let result = Self::share_no_text(writer.members(), member).and_then(|()| {
            let platform = &mut Within { platform, text: member.text() };
            set.begin();
            let follow = Follow::Batch;
            text::check(core::iter::once(set), platform, follow, &mut ClassCache::new())?;
            // Not those that are joined with each other: their writers check that, and this
            // platform knows the text of the module only.
            text::check_against(platform, set, writer.sets())?;
            // SAFETY: by the contract no CPU executes the text that has these sites.
            unsafe {
                OneCpu::assume(|cpu| text::write_sets(core::iter::once(set), platform, follow, cpu))
            }
        });
        match result {
            Ok(_) => self.first_member.push(member),
            Err(_) => member.release(),
        }
        result
    }

    /// Takes the set of a module out of those that are switched together, before the module is
    /// unloaded. Returns only when no other CPU has anything of it in hand: none is in the hook
    /// that could have found it. The sites keep what they have.
    ///
    /// `relax` lets some time pass while CPUs are in the hook, as
    /// [`Synchronize::relax`](super::Synchronize::relax) does.
    ///
    /// # Safety
    /// - No CPU executes the text of the module, or will return to it, or has taken a #BP in it
    ///   that it has not handled; unless it is executed only after the set has joined again.
    /// - This is not called from an NMI, machine-check or #BP handler.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::Busy`] if a writer is at work, that of a batch for example, or one had to leave
    ///   its INT3s in text;
    /// - [`Error::NotJoined`] if the member has not joined here.
    ///
    /// The set is then joined as before.
    pub unsafe fn leave(&self, member: &Member<'_>, relax: impl Fn()) -> Result<(), Error> {
        let writer = self.begin()?;
        // SAFETY: this is the writer, and by the contract of `join` members stay.
        if !unsafe { self.first_member.remove(member) } {
            return Err(Error::NotJoined);
        }
        writer.wait_for_hook(relax);
        member.release();
        Ok(())
    }

    /// Checks that no other member has text where this one has.
    fn share_no_text<'m>(
        mut members: impl Iterator<Item = &'m Member<'m>>,
        member: &Member<'_>,
    ) -> Result<(), Error> {
        let &Range { start, end } = member.text();
        let shares = |other: &&Member<'_>| other.text().start < end && start < other.text().end;
        match members.find(shares) {
            Some(other) => Err(Error::SharedText { start, end, other: other.text().start }),
            None => Ok(()),
        }
    }
}

/// A platform as far as a part of its text: that of one module.
struct Within<'p, P> {
    platform: &'p mut P,
    text: &'p Range<usize>,
}

impl<P> Within<'_, P> {
    fn part_of(&self, text: Range<usize>) -> Range<usize> {
        text.start.max(self.text.start)..text.end.min(self.text.end)
    }
}

// SAFETY: the text is a part of the platform's, and all else is the platform's own.
unsafe impl<P: Platform> Platform for Within<'_, P> {
    fn text(&self) -> Range<usize> {
        self.part_of(self.platform.text())
    }

    fn text_around(&self, address: usize) -> Range<usize> {
        self.part_of(self.platform.text_around(address))
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.platform.alias(address)
    }

    fn unlock(&mut self) {
        self.platform.unlock();
    }

    fn lock(&mut self) {
        self.platform.lock();
    }

    fn serialize(&self) {
        self.platform.serialize();
    }

    fn nops(&self) -> Nops {
        self.platform.nops()
    }
}
