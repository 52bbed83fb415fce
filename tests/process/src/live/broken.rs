//! Writers that break the protocol on purpose, so that tests can be seen to notice it.
//!
//! A broken writer stands in for the synchronization of the real writer. When the real writer has
//! published a batch and synchronizes first, the broken one writes the new bytes in its own way.
//! The real writer then finds nothing left to write. Everything else, the hook included, is
//! unchanged.

use std::time::Duration;

use patchlet::live::{BatchStep, INT3, Synchronize};
use patchlet::{Platform, SecondMapping};

use super::sync::Quiescent;
use super::writer::random;

/// A way in which a writer breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Keeps to the protocol, which is written here once more. It shows that tests of the other
    /// ways do not fail for another reason.
    Nothing,
    /// Copies the new bytes one after the other, and synchronizes once.
    PlainCopy,
    /// Copies the new bytes one after the other, and synchronizes behind each.
    SlowCopy,
    /// Does not synchronize between INT3 and the tail.
    NoFirstSync,
    /// Does not synchronize between the tail and the first byte.
    NoMiddleSync,
    /// Writes the tail before INT3.
    TailBeforeInt3,
    /// Writes the first byte before the tail.
    FirstBeforeTail,
}

impl Broken {
    /// All ways, the correct one first.
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::PlainCopy,
        Self::SlowCopy,
        Self::NoFirstSync,
        Self::NoMiddleSync,
        Self::TailBeforeInt3,
        Self::FirstBeforeTail,
    ];
}

/// A synchronizer that writes the new bytes, in a broken way.
#[derive(Debug)]
pub struct Saboteur<'g> {
    broken: Broken,
    platform: SecondMapping,
    sync: Quiescent<'g>,
    /// Address and new bytes of each site that changes.
    sites: Vec<(usize, Vec<u8>)>,
    /// Whether to pause between stores. A writer without a synchronization is noticed only if it
    /// does not pause.
    pauses: bool,
}

impl<'g> Saboteur<'g> {
    /// Makes a synchronizer that will write these bytes.
    ///
    /// # Safety
    /// - the sites are in the text of the platform;
    /// - the bytes are those that the batch gives them;
    /// - the process may crash, unless the way is [`Broken::Nothing`].
    pub unsafe fn new(
        broken: Broken,
        platform: SecondMapping,
        sync: Quiescent<'g>,
        sites: Vec<(usize, Vec<u8>)>,
    ) -> Self {
        let pauses = !matches!(broken, Broken::NoFirstSync | Broken::NoMiddleSync);
        Self { broken, platform, sync, sites, pauses }
    }

    /// Stores a byte, and sometimes pauses, so that a reader runs between two stores.
    fn store(&self, address: usize, byte: u8) {
        // SAFETY: by the contract of `new`, the address is in the text of the platform.
        unsafe { self.platform.alias(address).write_volatile(byte) };
        if self.pauses && random(8) == 0 {
            std::thread::sleep(Duration::from_micros(10));
        }
    }

    fn int3(&self) {
        self.sites.iter().for_each(|&(at, _)| self.store(at, INT3));
    }

    fn first(&self) {
        self.sites.iter().for_each(|(at, new)| self.store(*at, new[0]));
    }

    fn tails(&self) {
        for (at, new) in &self.sites {
            (1..new.len()).for_each(|index| self.store(at + index, new[index]));
        }
    }

    fn write(&self) {
        let sync = || self.sync.sync_all();
        match self.broken {
            Broken::Nothing => {
                self.int3();
                sync();
                self.tails();
                sync();
                self.first();
            }
            Broken::PlainCopy => {
                for (at, new) in &self.sites {
                    (0..new.len()).for_each(|index| self.store(at + index, new[index]));
                }
            }
            Broken::SlowCopy => {
                let longest = self.sites.iter().map(|(_, new)| new.len()).max().unwrap_or(0);
                for index in 0..longest {
                    for (at, new) in &self.sites {
                        self.store(at + index, new[index]);
                    }
                    sync();
                }
            }
            Broken::NoFirstSync => {
                self.int3();
                self.tails();
                sync();
                self.first();
            }
            Broken::NoMiddleSync => {
                self.int3();
                sync();
                self.tails();
                self.first();
            }
            Broken::TailBeforeInt3 => {
                self.tails();
                sync();
                self.int3();
                sync();
                self.first();
            }
            Broken::FirstBeforeTail => {
                self.int3();
                sync();
                self.first();
                sync();
                self.tails();
            }
        }
        sync();
    }
}

// SAFETY: `Quiescent` does the synchronizations. That some are left out, and that bytes are written
// here, breaks the contract on purpose; the caller of `new` accepts that the process may crash.
unsafe impl Synchronize for Saboteur<'_> {
    fn sync_all(&self) {
        self.sync.sync_all();
    }

    fn relax(&self) {
        self.sync.relax();
    }

    fn between_steps(&self, step: BatchStep) {
        if step == BatchStep::Published {
            self.write();
        }
    }
}
