//! Readers: threads that execute every site in a loop and check every result.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::sync::Gate;
use super::{Function, LiveOp, State, branches, execute, execute_branch, functions, signal};

/// The announcement of what the writer does with an op or a key: number of the switch, old and new
/// state, each a number below 16.
#[derive(Debug)]
pub struct Told(AtomicUsize);

impl Told {
    /// Makes an announcement that all sites are in this state.
    #[must_use]
    pub const fn new(state: usize) -> Self {
        Self(AtomicUsize::new(state << 4 | state))
    }

    /// Announces that the writer begins to switch to this state.
    pub fn begin(&self, to: usize) {
        let now = self.0.load(SeqCst);
        self.0.store((now & !0xff).wrapping_add(0x100) | (now & 0xf) << 4 | to, SeqCst);
    }

    /// Announces that the switch has ended.
    pub fn end(&self) {
        let now = self.0.load(SeqCst);
        self.0.store(now & !0xf0 | (now & 0xf) << 4, SeqCst);
    }
}

/// Returns the old and the new state in an announcement.
const fn states(told: usize) -> [usize; 2] {
    [told >> 4 & 0xf, told & 0xf]
}

/// The state that readers and the writer share.
#[derive(Debug)]
pub struct Shared {
    /// The gate at which readers can be made to wait.
    pub gate: Gate,
    /// The announcements of the writer, by op.
    pub told: [Told; 3],
    /// Those of the key: 0 is off, and 1 is on.
    pub told_key: Told,
    /// Whether readers are to end.
    pub stop: AtomicBool,
    /// The number of sites executed.
    pub executed: AtomicUsize,
    /// The number of these with only one possible result.
    pub exact: AtomicUsize,
    /// The number of impossible results.
    pub wrong: AtomicUsize,
}

impl Shared {
    /// Makes the shared state, with all sites of ops in this state, and the key off.
    #[must_use]
    pub const fn new(state: State) -> Self {
        let state = state as usize;
        Self {
            gate: Gate::new(),
            told: [Told::new(state), Told::new(state), Told::new(state)],
            told_key: Told::new(0),
            stop: AtomicBool::new(false),
            executed: AtomicUsize::new(0),
            exact: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
        }
    }
}

const PRESET: usize = 0x1234_8765;

/// Executes every site again and again until it is told to stop.
pub fn read(shared: &Shared) {
    signal::with_signal_stack(|| {
        let (functions, branches) = (functions(), branches());
        let number = shared.gate.enter();
        let mut argument: usize = 0x0102_8304;
        while !shared.stop.load(SeqCst) {
            shared.gate.pass(number);
            for &function in &functions {
                one(shared, function, argument);
                argument = argument.wrapping_mul(0x0101_0105).wrapping_add(0x8403_0201);
            }
            for &branch in &branches {
                one_branch(shared, branch);
            }
            shared.executed.fetch_add(functions.len() + branches.len(), SeqCst);
        }
    });
}

#[inline(always)]
fn one(shared: &Shared, function: Function, argument: usize) {
    let told = &shared.told[function.op as usize].0;
    // On 32 bit, argument and result are in one register, so the argument is also the preset.
    let preset = if cfg!(target_arch = "x86_64") { PRESET } else { argument };
    let before = told.load(SeqCst);
    let result = execute(function, argument, preset);
    let after = told.load(SeqCst);
    let is =
        |state: usize| State::from_index(state).result(function.op, argument, preset) == result;
    if !is_possible(shared, before, after, State::ALL.len(), is) {
        wrong(shared, function.op, argument, result, before, after);
    }
}

#[inline(always)]
fn one_branch(shared: &Shared, branch: usize) {
    let before = shared.told_key.0.load(SeqCst);
    let is_on = execute_branch(branch);
    let after = shared.told_key.0.load(SeqCst);
    if !is_possible(shared, before, after, 2, |state| state == usize::from(is_on)) {
        shared.wrong.fetch_add(1, SeqCst);
        let ([a, b], [c, d]) = (states(before), states(after));
        eprintln!("a branch is {is_on} between {a} to {b} and {c} to {d}");
    }
}

/// Returns whether a result is possible that was got between these two announcements. `is` says
/// whether it is that of a state, of which there are so many.
#[inline(always)]
fn is_possible(
    shared: &Shared,
    before: usize,
    after: usize,
    all: usize,
    is: impl Fn(usize) -> bool,
) -> bool {
    let [from, to] = states(before);
    if before == after && from == to {
        shared.exact.fetch_add(1, SeqCst);
        is(to)
    } else if (after >> 8).wrapping_sub(before >> 8) <= 1 {
        [from, to].into_iter().chain(states(after)).any(is)
    } else {
        // This thread did not run during several switches, so any state in between is possible.
        (0..all).any(is)
    }
}

#[cold]
#[inline(never)]
fn wrong(shared: &Shared, op: LiveOp, argument: usize, result: usize, before: usize, after: usize) {
    shared.wrong.fetch_add(1, SeqCst);
    let ([a, b], [c, d]) =
        (states(before).map(State::from_index), states(after).map(State::from_index));
    eprintln!("{op:?}({argument:#x}) = {result:#x} between {a:?} to {b:?} and {c:?} to {d:?}");
}
