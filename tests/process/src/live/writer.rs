//! The writer of the tests. It switches ops from state to state: by INT3 with threads inside where
//! the rule admits that, and otherwise by INT3 with nobody inside or by a rendezvous.

use std::sync::atomic::{AtomicU64, Ordering};

use patchlet::live::{Int3, Rendezvous};
use patchlet::{Error, Goal, Patcher, SecondMapping};

use super::broken::{Broken, Saboteur};
use super::readers::Shared;
use super::sync::{Closed, Membarrier, Quiescent};
use super::{KEY, LiveOp, ProcessLive, State};

/// The numbers of batches by each protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// Batches by INT3 with threads inside.
    pub int3: usize,
    /// Batches by INT3 with nobody inside.
    pub quiescent: usize,
    /// Batches by rendezvous.
    pub rendezvous: usize,
    /// Sites switched, in all batches together.
    pub sites: usize,
}

impl Switches {
    /// Returns the number of all batches.
    #[must_use]
    pub const fn all(&self) -> usize {
        self.int3 + self.quiescent + self.rendezvous
    }
}

/// The writer.
#[derive(Debug)]
pub struct Writer<'w> {
    live: &'static ProcessLive,
    platform: SecondMapping,
    sync: Membarrier,
    shared: &'w Shared,
    /// The state of each op.
    states: [State; 3],
    /// Whether the key is on.
    key_is_on: bool,
    switches: Switches,
    /// Of so many switches that INT3 refuses, one is made by a protocol that waits for the readers,
    /// which takes longer. The others are not made.
    patience: usize,
}

/// Returns a random number below `below`.
pub fn random(below: usize) -> usize {
    static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let mut state = STATE.load(Ordering::Relaxed);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.store(state, Ordering::Relaxed);
    (state >> 11) as usize % below
}

impl<'w> Writer<'w> {
    /// Makes a writer. All sites must be as they were linked.
    ///
    /// # Safety
    /// - each thread with sites is a [reader](super::readers::read) of `shared`;
    /// - [`signal::install`](super::signal::install) was called;
    /// - there is no other writer.
    #[must_use]
    pub unsafe fn new(
        live: &'static ProcessLive,
        platform: SecondMapping,
        sync: Membarrier,
        shared: &'w Shared,
        patience: usize,
    ) -> Self {
        Self {
            live,
            platform,
            sync,
            shared,
            states: [State::Indirect; 3],
            key_is_on: false,
            switches: Switches::default(),
            patience,
        }
    }

    /// Returns the numbers of batches so far.
    #[must_use]
    pub const fn switches(&self) -> Switches {
        self.switches
    }

    /// Switches a random op to another random state, and sometimes the key in the same batch.
    ///
    /// # Errors
    /// Returns an error of the protocol, which a test does not expect.
    pub fn switch(&mut self) -> Result<(), Error> {
        let op = LiveOp::ALL[random(3)];
        let from = self.states[op as usize];
        let to = State::ALL[random(State::ALL.len())];
        // A revert is always of all sites of all ops.
        if to == State::Indirect {
            return self.revert();
        }
        let key_is_on = random(2) != 0;
        if to == from && key_is_on == self.key_is_on {
            return Ok(());
        }
        let mut changes = [if key_is_on { KEY.on() } else { KEY.off() }];
        self.shared.told_key.begin(key_is_on.into());
        // Announced before the slot is set, because a site that is indirect follows the slot at
        // once.
        self.shared.told[op as usize].begin(to as usize);
        to.install(op);
        // SAFETY: by the contract of `new`.
        let mut int3 = unsafe { Int3::new(self.live, self.platform.clone(), self.sync) };
        let report = match int3.change(&mut changes) {
            Ok(report) => {
                self.switches.int3 += 1;
                report
            }
            Err(Error::ThreadInside { .. }) if random(self.patience) != 0 => {
                from.install(op);
                self.shared.told[op as usize].begin(from as usize);
                self.shared.told[op as usize].end();
                // The key has not changed, either.
                assert_eq!(KEY.is_enabled(), self.key_is_on);
                self.shared.told_key.begin(self.key_is_on.into());
                self.shared.told_key.end();
                return Ok(());
            }
            Err(Error::ThreadInside { .. }) if random(2) == 0 => {
                self.switches.quiescent += 1;
                let sync = Quiescent(self.sync, &self.shared.gate);
                // SAFETY: by the contract of `new`; and each reader passes the gate outside of
                // every site.
                unsafe { Int3::with_nobody_inside(self.live, self.platform.clone(), sync) }
                    .change(&mut changes)?
            }
            Err(Error::ThreadInside { .. }) => {
                self.switches.rendezvous += 1;
                let others = Closed(&self.shared.gate);
                // SAFETY: by the contract of `new`.
                unsafe { Rendezvous::new(self.live, self.platform.clone(), others) }
                    .change(&mut changes)?
            }
            Err(error) => return Err(error),
        };
        self.shared.told[op as usize].end();
        self.shared.told_key.end();
        self.states[op as usize] = to;
        self.key_is_on = key_is_on;
        // The batch has patched all ops, also those that were indirect.
        for op in LiveOp::ALL {
            if self.states[op as usize] == State::Indirect {
                self.states[op as usize] = State::Native;
            }
        }
        self.switches.sites += report.changed;
        Ok(())
    }

    /// Reverts all sites to their indirect calls and jumps, through the native functions, and the
    /// branches to where their key starts.
    fn revert(&mut self) -> Result<(), Error> {
        if self.states == [State::Indirect; 3] {
            return Ok(());
        }
        for op in LiveOp::ALL {
            self.shared.told[op as usize].begin(State::Indirect as usize);
            State::Indirect.install(op);
        }
        self.shared.told_key.begin(0);
        // SAFETY: by the contract of `new`.
        let mut int3 = unsafe { Int3::new(self.live, self.platform.clone(), self.sync) };
        let report = match int3.revert() {
            Ok(report) => {
                self.switches.int3 += 1;
                report
            }
            Err(Error::ThreadInside { .. }) if random(self.patience) != 0 => {
                for op in LiveOp::ALL {
                    let from = self.states[op as usize];
                    from.install(op);
                    self.shared.told[op as usize].begin(from as usize);
                    self.shared.told[op as usize].end();
                }
                self.shared.told_key.begin(self.key_is_on.into());
                self.shared.told_key.end();
                return Ok(());
            }
            Err(Error::ThreadInside { .. }) => {
                self.switches.quiescent += 1;
                let sync = Quiescent(self.sync, &self.shared.gate);
                // SAFETY: as in `switch`.
                unsafe { Int3::with_nobody_inside(self.live, self.platform.clone(), sync) }
                    .revert()?
            }
            Err(error) => return Err(error),
        };
        for op in LiveOp::ALL {
            self.shared.told[op as usize].end();
        }
        self.shared.told_key.end();
        self.states = [State::Indirect; 3];
        // A revert leaves keys as they are.
        assert_eq!(KEY.is_enabled(), self.key_is_on);
        KEY.preset(false);
        self.key_is_on = false;
        self.switches.sites += report.changed;
        Ok(())
    }

    /// Switches two random ops to other random states, and the key, by a broken writer.
    ///
    /// # Safety
    /// - the process may crash, unless the way is [`Broken::Nothing`].
    ///
    /// # Errors
    /// Returns an error of the protocol, which a test does not expect.
    pub unsafe fn switch_broken(&mut self, broken: Broken) -> Result<(), Error> {
        for op in [LiveOp::Probe, LiveOp::Leap] {
            let to = State::ALL[1 + random(State::ALL.len() - 1)];
            self.shared.told[op as usize].begin(to as usize);
            to.install(op);
            self.states[op as usize] = to;
        }
        self.key_is_on = !self.key_is_on;
        self.shared.told_key.begin(self.key_is_on.into());
        KEY.preset(self.key_is_on);
        let patcher = Patcher::new(self.live.sets()[0], self.platform.clone());
        let changes = patcher
            .plan(Goal::Patched)?
            .outcomes()
            .filter(|outcome| outcome.old_bytes != outcome.new_bytes)
            .map(|outcome| (outcome.address, outcome.new_bytes.bytes().to_vec()))
            .collect::<Vec<_>>();
        self.switches.sites += changes.len();
        let sync = Quiescent(self.sync, &self.shared.gate);
        // SAFETY: the sites are in text, and the bytes are those of the batch; the caller accepts
        // that the process may crash.
        let saboteur = unsafe { Saboteur::new(broken, self.platform.clone(), sync, changes) };
        // SAFETY: as in `switch`, except that the synchronizer writes, which the caller accepts.
        unsafe { Int3::with_nobody_inside(self.live, self.platform.clone(), saboteur) }.apply()?;
        for op in [LiveOp::Probe, LiveOp::Leap] {
            self.shared.told[op as usize].end();
        }
        self.shared.told_key.end();
        self.switches.quiescent += 1;
        Ok(())
    }
}
