//! Synchronization: `membarrier`, waiting until each reader was outside, and the
//! place where readers wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use patchlet::live::{StopOthers, Synchronize};

const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 6;

fn membarrier(command: i32) {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    assert_eq!(result, 0, "membarrier: {}", std::io::Error::last_os_error());
}

/// Registered for `membarrier`. Each running thread of this process executes a
/// core-serializing instruction before it returns, the calling one included (since
/// Linux 5.10); the others do so before they run again.
#[derive(Clone, Copy, Debug)]
pub struct Membarrier(());

impl Membarrier {
    /// Registers the process.
    #[must_use]
    pub fn register() -> Self {
        membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE);
        Self(())
    }
}

// SAFETY: membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE.
unsafe impl Synchronize for Membarrier {
    fn sync_all(&self) {
        membarrier(PRIVATE_EXPEDITED_SYNC_CORE);
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// Most readers there are at a time.
const READERS: usize = 8;

/// A place outside every site that each reader passes again and again.
#[derive(Debug)]
pub struct Gate {
    /// How often each reader passed; 0 for those that do not exist.
    passed: [AtomicUsize; READERS],
    readers: AtomicUsize,
    closed: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    /// Open.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            passed: [const { AtomicUsize::new(0) }; READERS],
            readers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A new reader: its number. It passes until [`leave`](Self::leave).
    pub fn enter(&self) -> usize {
        self.readers.fetch_add(1, SeqCst)
    }

    /// How often the readers passed, all together.
    pub fn passed(&self) -> usize {
        self.passed.iter().map(|passed| passed.load(SeqCst)).sum()
    }

    /// Passes the gate, or waits where it is closed.
    #[inline(always)]
    pub fn pass(&self, reader: usize) {
        self.passed[reader].store(self.passed[reader].load(SeqCst).wrapping_add(1), SeqCst);
        if self.closed.load(SeqCst) {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        self.waiting.fetch_add(1, SeqCst);
        while self.closed.load(SeqCst) {
            std::thread::yield_now();
        }
        self.waiting.fetch_sub(1, SeqCst);
        patchlet::Serializer::default().serialize();
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// `membarrier`, and then waits until each reader has passed the gate: it has been
/// outside of every site, and INT3 keeps it from getting in again.
#[derive(Clone, Copy, Debug)]
pub struct Quiescent<'g>(pub Membarrier, pub &'g Gate);

// SAFETY: that of `Membarrier`.
unsafe impl Synchronize for Quiescent<'_> {
    fn sync_all(&self) {
        self.0.sync_all();
        let Self(_, gate) = self;
        let readers = &gate.passed[..gate.readers.load(SeqCst)];
        let before: Vec<_> = readers.iter().map(|passed| passed.load(SeqCst)).collect();
        for (passed, before) in readers.iter().zip(before) {
            while passed.load(SeqCst) == before {
                std::thread::yield_now();
            }
        }
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// The readers wait at the gate.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'g>(pub &'g Gate);

// SAFETY: every thread with sites is a reader, waits at the gate, outside of every
// site, and serializes itself when it goes on. Signal handlers have no site.
unsafe impl StopOthers for Closed<'_> {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        let Self(gate) = self;
        gate.closed.store(true, SeqCst);
        while gate.waiting.load(SeqCst) != gate.readers.load(SeqCst) {
            std::thread::yield_now();
        }
        let result = write();
        gate.closed.store(false, SeqCst);
        // Nobody is counted twice next time.
        while gate.waiting.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
        result
    }
}
