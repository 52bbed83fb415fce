//! Members: the site sets of loaded modules, in a list that CPUs in the hook walk at any time.
//!
//! ```text
//! Live ── first ──→ Member ── next ──→ Member ── next ──→ null
//!                     set, text          set, text
//! ```
//!
//! A new member is linked in front. One that leaves keeps its own link, so that a CPU which has
//! come to it goes on to those behind it. Only writers change links, one at a time. Who walks the
//! list is a writer, or is counted as a CPU in the hook, for which [`Live::leave`] waits:
//!
//! ```text
//! hook    count 1 up ─→ walk the list ─→ … ─→ count 1 down
//! leave   take the member out ─→ wait until the count is 0 ─→ return: it can be freed
//! ```
//!
//! Either the count is up when `leave` looks, and `leave` waits; or the CPU counts up later, and
//! finds the list without the member.
//!
//! Unsafe code here follows the links. What they lead to is there by the contract of
//! [`Live::join`].
//!
//! [`Live::join`]: super::Live::join
//! [`Live::leave`]: super::Live::leave
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::site::Record;
use crate::text::{SiteSet, Source};

/// The place of a loaded module's site set in the list of a [`Live`](super::Live). The kernel
/// keeps it beside what else it keeps of the module, and [joins](super::Live::join) it.
#[derive(Debug)]
pub struct Member<'a> {
    set: &'a SiteSet<'a>,
    text: Range<usize>,
    is_joined: AtomicBool,
    /// The member behind this one.
    next: Link,
}

/// A link of the list: the address of a member, or null. The lifetime is not the member's own,
/// which is only known to be longer than its time in the list.
#[derive(Debug)]
pub(super) struct Link(AtomicPtr<Member<'static>>);

impl<'a> Member<'a> {
    /// Makes a member of the site set of a module whose code is in `text`: all sites are in there.
    #[must_use]
    pub const fn new(set: &'a SiteSet<'a>, text: Range<usize>) -> Self {
        Self { set, text, is_joined: AtomicBool::new(false), next: Link::new() }
    }

    /// Returns the set.
    #[must_use]
    pub const fn set(&self) -> &'a SiteSet<'a> {
        self.set
    }

    /// Returns where the module's code is.
    #[must_use]
    pub const fn text(&self) -> &Range<usize> {
        &self.text
    }

    /// Returns the record of the site whose first byte is at `address`, and the front end that
    /// knows it.
    pub(super) fn find(&self, address: usize) -> Option<(&'a Record, &'a dyn Source)> {
        if self.text.contains(&address) { self.set.find(address) } else { None }
    }

    /// Notes that the member is joined. Returns false if it was before.
    pub(super) fn take(&self) -> bool {
        !self.is_joined.swap(true, Ordering::Acquire)
    }

    /// Notes that the member is joined no more.
    pub(super) fn release(&self) {
        self.is_joined.store(false, Ordering::Release);
    }

    fn address(&self) -> *mut Member<'static> {
        core::ptr::from_ref(self).cast_mut().cast()
    }
}

impl Link {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn get(&self) -> *mut Member<'static> {
        self.0.load(Ordering::SeqCst)
    }

    fn set(&self, member: *mut Member<'static>) {
        self.0.store(member, Ordering::SeqCst);
    }

    /// Returns whether no member is behind this link.
    pub(super) fn is_last(&self) -> bool {
        self.get().is_null()
    }

    /// Returns the members behind this link.
    ///
    /// # Safety
    /// As long as the iterator or one of the members is in use,
    /// - this CPU is the writer, or is counted as one in the hook;
    /// - each member that is not taken out stays where it is; and one that is taken out, until no
    ///   CPU is in the hook any more.
    pub(super) unsafe fn members<'l>(&'l self) -> Members<'l> {
        Members { next: self.get(), walk: PhantomData }
    }

    /// Puts a member in front.
    pub(super) fn push(&self, member: &Member<'_>) {
        member.next.set(self.get());
        self.set(member.address());
    }

    /// Takes a member out, and returns whether it was there.
    ///
    /// # Safety
    /// - as for [`members`](Self::members); this CPU is the writer.
    pub(super) unsafe fn remove(&self, member: &Member<'_>) -> bool {
        // SAFETY: the caller says what `members` asks.
        let members = unsafe { self.members() };
        let mut links = core::iter::once(self).chain(members.map(|other| &other.next));
        let Some(link) = links.find(|link| link.get() == member.address()) else { return false };
        link.set(member.next.get());
        true
    }
}

/// The members behind a link, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Members<'l> {
    next: *mut Member<'static>,
    walk: PhantomData<&'l ()>,
}

impl<'l> Iterator for Members<'l> {
    type Item = &'l Member<'l>;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: by the contract of `Link::members`, a member to which a link leads is there.
        let member: &'l Member<'l> = unsafe { self.next.as_ref() }?;
        self.next = member.next.get();
        Some(member)
    }
}
