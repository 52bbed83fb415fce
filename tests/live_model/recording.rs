//! The recorder: a platform and a synchronizer that write down what the real
//! writer does to text, in its order.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use patchlet::live::{BatchStep, LivePlatform, Synchronize};
use patchlet::{Nops, Platform};

use crate::image::Image;

/// What the writer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The hook answers for the batch from here on.
    Published,
    /// These bytes (offset in the site, value) were stored, in an order nobody
    /// knows.
    Store(Vec<(usize, u8)>),
    /// Each CPU has serialized itself.
    Sync,
    /// The hook does not answer any more.
    Retired,
}

#[derive(Debug)]
struct Log {
    watched: Range<usize>,
    last: Vec<u8>,
    events: Vec<Event>,
}

/// Clones write into the same log.
#[derive(Clone, Debug)]
pub struct Recorder {
    text: Range<usize>,
    offset: usize,
    pub nops: Nops,
    log: Rc<RefCell<Log>>,
}

/// The bytes at these addresses.
pub fn bytes(range: &Range<usize>) -> Vec<u8> {
    let read = |address| {
        let pointer = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: in an arena, which is readable for ever.
        unsafe { pointer.read_volatile() }
    };
    range.clone().map(read).collect()
}

impl Recorder {
    /// Of this site's bytes.
    pub fn new(image: &Image, watched: Range<usize>, nops: Nops) -> Self {
        let log = Log { last: bytes(&watched), watched, events: Vec::new() };
        Self {
            text: image.text(),
            offset: image.arena.alias_offset(),
            nops,
            log: Rc::new(RefCell::new(log)),
        }
    }

    /// What was stored since the last time.
    fn flush(&self) {
        let log = &mut *self.log.borrow_mut();
        let now = bytes(&log.watched);
        let stored: Vec<_> =
            (0..now.len()).filter(|&at| now[at] != log.last[at]).map(|at| (at, now[at])).collect();
        if !stored.is_empty() {
            log.events.push(Event::Store(stored));
        }
        log.last = now;
    }

    fn event(&self, event: Event) {
        self.flush();
        self.log.borrow_mut().events.push(event);
    }

    /// The whole of it, after the writer has returned.
    pub fn finish(&self) -> Vec<Event> {
        self.event(Event::Retired);
        self.log.borrow().events.clone()
    }
}

// SAFETY: the arena is mapped twice; no function here has a site.
unsafe impl Platform for Recorder {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        self.flush();
        std::ptr::with_exposed_provenance_mut(address.wrapping_add(self.offset))
    }

    fn nops(&self) -> Nops {
        self.nops
    }
}

// SAFETY: the second mapping of an arena is always writable.
unsafe impl LivePlatform for Recorder {}

// SAFETY: nobody executes an arena.
unsafe impl Synchronize for Recorder {
    fn sync_all(&self) {
        self.event(Event::Sync);
    }

    fn between_steps(&self, step: BatchStep) {
        if step == BatchStep::Published {
            self.event(Event::Published);
        }
    }
}
