//! Synchronization of threads: by `membarrier`, by waiting until each reader has been outside every
//! site, and by a gate at which readers wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use patchlet::live::{StopOthers, Synchronize};

const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 1 << 6;

fn membarrier(command: i32) {
    // SAFETY: the system call takes no pointer.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    assert_eq!(result, 0, "membarrier: {}", std::io::Error::last_os_error());
}

/// A synchronizer by `membarrier`; the value proves that the process is registered for it. Before a
/// call returns, each running thread of this process executes a core-serializing instruction, the
/// calling thread included (since Linux 5.10). Threads that do not run do so before they run again.
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

// SAFETY: the command MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE does what the contract asks for,
// see membarrier(2).
unsafe impl Synchronize for Membarrier {
    fn sync_all(&self) {
        membarrier(PRIVATE_EXPEDITED_SYNC_CORE);
    }

    fn relax(&self) {
        std::thread::yield_now();
    }
}

/// The largest number of readers at a time.
const READERS: usize = 8;

/// A place outside every site that each reader passes again and again.
#[derive(Debug)]
pub struct Gate {
    /// The number of times that each reader passed; 0 for a reader that does not exist.
    passed: [AtomicUsize; READERS],
    readers: AtomicUsize,
    closed: AtomicBool,
    waiting: AtomicUsize,
}

impl Gate {
    /// Makes an open gate without readers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            passed: [const { AtomicUsize::new(0) }; READERS],
            readers: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Adds a reader and returns its number. It must pass again and again until
    /// [`leave`](Self::leave).
    pub fn enter(&self) -> usize {
        self.readers.fetch_add(1, SeqCst)
    }

    /// Returns the number of times that all readers together passed.
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

/// A synchronizer that calls `membarrier` and then waits until each reader has passed the gate.
/// Each has then been outside of every site, and INT3 keeps it from entering one again.
#[derive(Clone, Copy, Debug)]
pub struct Quiescent<'g>(pub Membarrier, pub &'g Gate);

// SAFETY: `Membarrier` does what the contract asks for; waiting for readers does no harm.
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

/// A way to stop the other threads: the readers wait at the closed gate.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'g>(pub &'g Gate);

// SAFETY: every thread with sites is a reader. It waits at the gate, outside of every site, and
// serializes itself before it goes on. Signal handlers have no site.
unsafe impl StopOthers for Closed<'_> {
    fn stop_others<R>(&self, write: impl FnOnce() -> R) -> R {
        let Self(gate) = self;
        gate.closed.store(true, SeqCst);
        while gate.waiting.load(SeqCst) != gate.readers.load(SeqCst) {
            std::thread::yield_now();
        }
        let result = write();
        gate.closed.store(false, SeqCst);
        // Without this wait, a slow reader could be counted again by the next call.
        while gate.waiting.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
        result
    }
}
