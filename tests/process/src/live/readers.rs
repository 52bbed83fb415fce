//! Readers: threads that execute every site in a loop and check every result.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::sync::Gate;
use super::{Function, LiveOp, State, execute, functions, signal};

/// What the writer is doing with an op: number of the switch, from, to.
#[derive(Debug)]
pub struct Told(AtomicUsize);

impl Told {
    /// All sites are in this state.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self(AtomicUsize::new((state as usize) << 4 | state as usize))
    }

    /// The writer begins to switch.
    pub fn begin(&self, to: State) {
        let now = self.0.load(SeqCst);
        self.0.store((now & !0xff).wrapping_add(0x100) | (now & 0xf) << 4 | to as usize, SeqCst);
    }

    /// It has ended.
    pub fn end(&self) {
        let now = self.0.load(SeqCst);
        self.0.store(now & !0xf0 | (now & 0xf) << 4, SeqCst);
    }
}

/// From, to.
const fn states(told: usize) -> [State; 2] {
    [State::from_index(told >> 4 & 0xf), State::from_index(told & 0xf)]
}

/// What readers and the writer share.
#[derive(Debug)]
pub struct Shared {
    /// Where readers can be made to wait.
    pub gate: Gate,
    /// By op.
    pub told: [Told; 3],
    /// Readers are to come to an end.
    pub stop: AtomicBool,
    /// Sites executed.
    pub executed: AtomicUsize,
    /// Of these, those whose result was known beforehand to be one value.
    pub exact: AtomicUsize,
    /// Results that were none of the possible ones.
    pub wrong: AtomicUsize,
}

impl Shared {
    /// All sites are in this state.
    #[must_use]
    pub const fn new(state: State) -> Self {
        Self {
            gate: Gate::new(),
            told: [Told::new(state), Told::new(state), Told::new(state)],
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
        let functions = functions();
        let number = shared.gate.enter();
        let mut argument: usize = 0x0102_8304;
        while !shared.stop.load(SeqCst) {
            shared.gate.pass(number);
            for &function in &functions {
                one(shared, function, argument);
                argument = argument.wrapping_mul(0x0101_0105).wrapping_add(0x8403_0201);
            }
            shared.executed.fetch_add(functions.len(), SeqCst);
        }
    });
}

#[inline(always)]
fn one(shared: &Shared, function: Function, argument: usize) {
    let told = &shared.told[function.op as usize].0;
    // What is not the argument of this op is its preset.
    let preset = if cfg!(target_arch = "x86_64") { PRESET } else { argument };
    let before = told.load(SeqCst);
    let result = execute(function, argument, preset);
    let after = told.load(SeqCst);
    let is = |state: State| state.result(function.op, argument, preset) == result;
    let [from, to] = states(before);
    if before == after && from == to {
        shared.exact.fetch_add(1, SeqCst);
        if !is(to) {
            wrong(shared, function.op, argument, result, before, after);
        }
    } else if (after >> 8).wrapping_sub(before >> 8) <= 1 {
        if ![from, to].into_iter().chain(states(after)).any(is) {
            wrong(shared, function.op, argument, result, before, after);
        }
    } else if !State::ALL.into_iter().any(is) {
        // This thread did not run for several switches.
        wrong(shared, function.op, argument, result, before, after);
    }
}

#[cold]
#[inline(never)]
fn wrong(shared: &Shared, op: LiveOp, argument: usize, result: usize, before: usize, after: usize) {
    shared.wrong.fetch_add(1, SeqCst);
    let ([a, b], [c, d]) = (states(before), states(after));
    eprintln!("{op:?}({argument:#x}) = {result:#x} between {a:?} to {b:?} and {c:?} to {d:?}");
}
