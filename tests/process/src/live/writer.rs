//! The writer of the tests: switches ops from state to state, by INT3 where the
//! rule admits it, and otherwise by one of the two ways for the rest.

use std::sync::atomic::{AtomicU64, Ordering};

use patchlet::live::{Int3, Rendezvous};
use patchlet::{Error, Goal, Patcher, SecondMapping};

use super::broken::{Broken, Saboteur};
use super::readers::Shared;
use super::sync::{Closed, Membarrier, Quiescent};
use super::{LiveOp, ProcessLive, State};

/// How many batches there were, by what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// INT3 with threads inside.
    pub int3: usize,
    /// INT3 with nobody inside.
    pub quiescent: usize,
    /// Rendezvous.
    pub rendezvous: usize,
    /// Switches of a site, in all of them.
    pub sites: usize,
}

impl Switches {
    /// All batches.
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
    /// By op.
    states: [State; 3],
    switches: Switches,
    /// One in how many of the switches that INT3 refuses is done by one of the
    /// ways that wait for the readers, and so take longer; the others are not done.
    patience: usize,
}

/// A number below `below`, another one each time.
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
    /// All sites are as they were linked.
    ///
    /// # Safety
    /// - each thread with sites is a [reader](super::readers::read) of `shared`;
    /// - [`signal::install`](super::signal::install) was called;
    /// - it is the only writer.
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
            switches: Switches::default(),
            patience,
        }
    }

    /// How often it switched.
    #[must_use]
    pub const fn switches(&self) -> Switches {
        self.switches
    }

    /// One op to another state, both taken at random.
    ///
    /// # Errors
    /// None that the test expects.
    pub fn switch(&mut self) -> Result<(), Error> {
        let op = LiveOp::ALL[random(3)];
        let from = self.states[op as usize];
        let to = State::ALL[random(State::ALL.len())];
        // Reverting is for all sites of all ops.
        if to == State::Indirect {
            return self.revert();
        }
        if to == from {
            return Ok(());
        }
        // Said first: a site that is indirect follows the slot at once.
        self.shared.told[op as usize].begin(to);
        to.install(op);
        // SAFETY: by the contract of `new`.
        let mut int3 = unsafe { Int3::new(self.live, self.platform.clone(), self.sync) };
        let report = match int3.apply() {
            Ok(report) => {
                self.switches.int3 += 1;
                report
            }
            Err(Error::ThreadInside { .. }) if random(self.patience) != 0 => {
                from.install(op);
                self.shared.told[op as usize].begin(from);
                self.shared.told[op as usize].end();
                return Ok(());
            }
            Err(Error::ThreadInside { .. }) if random(2) == 0 => {
                self.switches.quiescent += 1;
                let sync = Quiescent(self.sync, &self.shared.gate);
                // SAFETY: and each reader passes the gate, outside of every site.
                unsafe { Int3::with_nobody_inside(self.live, self.platform.clone(), sync) }
                    .apply()?
            }
            Err(Error::ThreadInside { .. }) => {
                self.switches.rendezvous += 1;
                let others = Closed(&self.shared.gate);
                // SAFETY: by the contract of `new`.
                unsafe { Rendezvous::new(self.live, self.platform.clone(), others) }.apply()?
            }
            Err(error) => return Err(error),
        };
        self.shared.told[op as usize].end();
        self.states[op as usize] = to;
        // Ops that were indirect have become what their slots hold.
        for op in LiveOp::ALL {
            if self.states[op as usize] == State::Indirect {
                self.states[op as usize] = State::Native;
            }
        }
        self.switches.sites += report.changed;
        Ok(())
    }

    /// Indirect, through the native functions.
    fn revert(&mut self) -> Result<(), Error> {
        if self.states == [State::Indirect; 3] {
            return Ok(());
        }
        for op in LiveOp::ALL {
            self.shared.told[op as usize].begin(State::Indirect);
            State::Indirect.install(op);
        }
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
                    self.shared.told[op as usize].begin(from);
                    self.shared.told[op as usize].end();
                }
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
        self.states = [State::Indirect; 3];
        self.switches.sites += report.changed;
        Ok(())
    }

    /// Two ops to other states, taken at random, written by a broken writer.
    ///
    /// # Safety
    /// - all but [`Broken::Nothing`] is wrong, and the process is to die of it.
    ///
    /// # Errors
    /// None that the test expects.
    pub unsafe fn switch_broken(&mut self, broken: Broken) -> Result<(), Error> {
        for op in [LiveOp::Probe, LiveOp::Leap] {
            let to = State::ALL[1 + random(State::ALL.len() - 1)];
            self.shared.told[op as usize].begin(to);
            to.install(op);
            self.states[op as usize] = to;
        }
        let patcher = Patcher::new(self.live.sets()[0], self.platform.clone());
        let changes = patcher
            .plan(Goal::Patched)?
            .outcomes()
            .filter(|outcome| outcome.old_bytes != outcome.new_bytes)
            .map(|outcome| (outcome.address, outcome.new_bytes.bytes().to_vec()))
            .collect::<Vec<_>>();
        self.switches.sites += changes.len();
        let sync = Quiescent(self.sync, &self.shared.gate);
        // SAFETY: the sites are in text; the rest is the caller's.
        let saboteur = unsafe { Saboteur::new(broken, self.platform.clone(), sync, changes) };
        // SAFETY: as in `switch`, but for the writing.
        unsafe { Int3::with_nobody_inside(self.live, self.platform.clone(), saboteur) }.apply()?;
        for op in [LiveOp::Probe, LiveOp::Leap] {
            self.shared.told[op as usize].end();
        }
        self.switches.quiescent += 1;
        Ok(())
    }
}
