//! Platforms that write down what the patcher asks of them.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use patchlet::text::Report;
use patchlet::{Nops, OneCpu, Patcher, Platform};

use crate::arena::Arena;
use crate::image::Image;

/// What happened, and what the arena held then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    InterruptsOff,
    Unlock(Vec<u8>),
    Lock(Vec<u8>),
    Serialize(Vec<u8>),
    InterruptsOn,
}

pub type Log = Rc<RefCell<Vec<Event>>>;

/// Text through the second mapping, written down.
#[derive(Clone, Debug)]
pub struct Recorder {
    arena: Arena,
    text: Range<usize>,
    pub nops: Nops,
    pub log: Log,
}

impl Recorder {
    pub fn new(image: &Image) -> Self {
        Self { arena: image.arena, text: image.text(), nops: Nops::Long, log: Log::default() }
    }

    fn note(&self, event: impl FnOnce(Vec<u8>) -> Event) {
        self.log.borrow_mut().push(event(self.arena.bytes()));
    }
}

// SAFETY: the arena is mapped twice; no function here has a site.
unsafe impl Platform for Recorder {
    fn text(&self) -> Range<usize> {
        self.text.clone()
    }

    fn alias(&self, address: usize) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(address.wrapping_add(self.arena.alias_offset()))
    }

    fn unlock(&mut self) {
        self.note(Event::Unlock);
    }

    fn lock(&mut self) {
        self.note(Event::Lock);
    }

    fn serialize(&self) {
        self.note(Event::Serialize);
    }

    fn nops(&self) -> Nops {
        self.nops
    }
}

/// Applies, with "interrupts off" around it in the log.
pub fn apply_logged(
    patcher: &mut Patcher<'_, Recorder>,
    log: &Log,
) -> Result<Report, patchlet::Error> {
    one_cpu(|cpu| {
        log.borrow_mut().push(Event::InterruptsOff);
        let result = patcher.apply(cpu);
        log.borrow_mut().push(Event::InterruptsOn);
        result
    })
}

/// A test's thread alone knows its arena, and nothing in it is ever executed.
pub fn one_cpu<R>(f: impl FnOnce(&OneCpu<'_>) -> R) -> R {
    // SAFETY: as above.
    unsafe { OneCpu::assume(f) }
}
