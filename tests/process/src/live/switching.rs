//! Runs readers beside a writer, for the test of switching with the real writer and with broken
//! ones.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering::SeqCst;

use super::readers::{Shared, read};
use super::sync::Membarrier;
use super::writer::Writer;
use super::{State, TABLE, live_with_branches, signal, sites};
use crate::remap;

/// The number of readers: one for the other core, and one more, so that one is often suspended
/// inside of a site or of a function that a site called.
pub const READERS: usize = 2;

/// Runs readers beside `work`, which gets the writer. Can be called once in a process.
///
/// # Panics
/// Panics if a system call fails. Ends the process if a reader sees a register change.
pub fn beside_readers(
    patience: usize,
    work: impl FnOnce(&mut Writer<'_>, &Shared),
) -> &'static Shared {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("second mapping");
    let live = live_with_branches(sites(), &TABLE);
    signal::install(live);
    let sync = Membarrier::register();
    let shared: &Shared = Box::leak(Box::new(Shared::new(State::Indirect)));
    // SAFETY: the readers below are the only threads with sites.
    let mut writer = unsafe { Writer::new(live, platform, sync, shared, patience) };
    let readers: Vec<_> = (0..READERS).map(|_| std::thread::spawn(|| read(shared))).collect();
    while shared.executed.load(SeqCst) < READERS * sites().records().len() {
        std::thread::yield_now();
    }
    work(&mut writer, shared);
    shared.stop.store(true, SeqCst);
    for reader in readers {
        reader.join().expect("a reader saw a register change");
    }
    shared
}
