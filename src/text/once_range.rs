//! A range of addresses that one CPU sets once and all CPUs read.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// A range of addresses that is not known at first, and never changes once it is.
#[derive(Debug)]
pub(super) struct OnceRange {
    start: AtomicUsize,
    /// The address behind the range; 0 until the range is set.
    end: AtomicUsize,
}

impl OnceRange {
    /// Makes a range that is not known.
    pub(super) const fn new() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0) }
    }

    /// Sets the range, whose end is not 0.
    #[inline(always)]
    pub(super) fn set(&self, range: Range<usize>) {
        self.start.store(range.start, Ordering::Relaxed);
        // Stored last, and loaded first: who sees an end sees the start that belongs to it.
        self.end.store(range.end, Ordering::Release);
    }

    /// Returns whether the range is set.
    #[inline(always)]
    pub(super) fn is_set(&self) -> bool {
        self.end.load(Ordering::Acquire) != 0
    }

    /// Returns the range, if it is set.
    #[inline(always)]
    pub(super) fn get(&self) -> Option<Range<usize>> {
        let end = self.end.load(Ordering::Acquire);
        (end != 0).then(|| self.start.load(Ordering::Relaxed)..end)
    }
}
