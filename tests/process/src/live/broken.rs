//! Writers that are broken on purpose, for tests that must see them fail.
//!
//! Each does its writing when the real writer has published the batch. The real
//! one then finds nothing left to write, and all else, the hook included, is as it
//! should be.

use std::time::Duration;

use patchlet::live::{BatchStep, INT3, Synchronize};
use patchlet::{Platform, SecondMapping};

use super::sync::Quiescent;
use super::writer::random;

/// What is wrong with a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing: the protocol, written once more. It shows that the test does not
    /// fail for another reason.
    Nothing,
    /// The new bytes one after the other, and one synchronization.
    PlainCopy,
    /// The same with a synchronization behind each.
    SlowCopy,
    /// No synchronization between INT3 and the tail.
    NoFirstSync,
    /// No synchronization between the tail and the first byte.
    NoMiddleSync,
    /// The tail before INT3.
    TailBeforeInt3,
    /// The first byte before the tail.
    FirstBeforeTail,
}

impl Broken {
    /// All of them, the sound one first.
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

/// A synchronizer that does the writing.
#[derive(Debug)]
pub struct Saboteur<'g> {
    broken: Broken,
    platform: SecondMapping,
    sync: Quiescent<'g>,
    /// Address and new bytes of each site that changes.
    sites: Vec<(usize, Vec<u8>)>,
    /// Whether it pauses between stores: without a synchronization it is caught
    /// only if it does not.
    pauses: bool,
}

impl<'g> Saboteur<'g> {
    /// Will write these bytes.
    ///
    /// # Safety
    /// - the sites are in the text of the platform, and their bytes are those that
    ///   the batch gives them; all but [`Broken::Nothing`] is wrong, and the
    ///   process is to die of it.
    pub unsafe fn new(
        broken: Broken,
        platform: SecondMapping,
        sync: Quiescent<'g>,
        sites: Vec<(usize, Vec<u8>)>,
    ) -> Self {
        let pauses = !matches!(broken, Broken::NoFirstSync | Broken::NoMiddleSync);
        Self { broken, platform, sync, sites, pauses }
    }

    /// Now and then with a pause, so that a reader gets in between two stores.
    fn store(&self, address: usize, byte: u8) {
        // SAFETY: in the text of the platform, by the contract of `new`.
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

// SAFETY: that of `Quiescent`. What it writes is wrong on purpose.
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
