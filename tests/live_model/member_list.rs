//! The list of members as a model, explored exhaustively: a writer that lets modules join, switches
//! a batch and lets modules leave, and CPUs in the hook that walk the list meanwhile. Each step is
//! one load or store of shared memory, as `src/live/hook.rs`, `member.rs` and `join.rs` make them in
//! the one total order of sequentially consistent accesses; every order of the steps of all CPUs is
//! tried.
//!
//! Three things must never happen: a CPU follows a link to a member that was freed; the writer writes
//! to the text of one; and a CPU that trapped at a site of a module gets no answer. Protocols that are broken on purpose are found.

use std::collections::BTreeSet;

/// The number of members. All have the same site: what differs is where a CPU traps.
const MEMBERS: usize = 3;
const CPUS: usize = 2;
/// How often each CPU traps at most.
const TRAPS: usize = 2;

type Link = Option<usize>;

/// A mistake, put into the protocol on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// Leaving does not wait for the CPUs in the hook.
    NoWait,
    /// Leaving waits before the member is taken out.
    WaitBeforeTakingOut,
    /// The hook counts a CPU after it has looked where the list begins.
    CountsLate,
    /// The hook counts a CPU down when it has found the member, before it answers.
    CountsDownEarly,
    /// A member that is taken out loses its own link.
    ForgetsItsLink,
    /// A member is linked in front before it is linked to the others.
    LinkedInHalf,
    /// A member leaves while a batch is written.
    LeavesDuringABatch,
    /// The batch is retired without waiting for the CPUs in the hook, and the number of the next one
    /// is the same.
    SameNumber,
}

const MISTAKES: [Mistake; 8] = [
    Mistake::NoWait,
    Mistake::WaitBeforeTakingOut,
    Mistake::CountsLate,
    Mistake::CountsDownEarly,
    Mistake::ForgetsItsLink,
    Mistake::LinkedInHalf,
    Mistake::LeavesDuringABatch,
    Mistake::SameNumber,
];

/// A step of the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Links a member to the first of those that have joined.
    LinkNext(usize, Link),
    /// Makes a member the first one.
    LinkFirst(usize),
    /// The code of the module can be executed from here on.
    Run(usize),
    Publish,
    WriteInt3(usize),
    TakeInt3(usize),
    Retire,
    WaitForHook,
    /// The kernel sees to it that no CPU is in the code of the module.
    Stop(usize),
    TakeOut(usize),
    ClearLink(usize),
    Free(usize),
}

fn join(member: usize, mistake: Mistake) -> Vec<Act> {
    let behind = member.checked_sub(1);
    let mut acts = vec![Act::LinkNext(member, behind), Act::LinkFirst(member), Act::Run(member)];
    if mistake == Mistake::LinkedInHalf {
        acts.swap(0, 1);
    }
    acts
}

fn batch(members: &[usize], mistake: Mistake) -> Vec<Act> {
    let mut acts = vec![Act::Publish];
    acts.extend(members.iter().map(|&member| Act::WriteInt3(member)));
    acts.extend(members.iter().map(|&member| Act::TakeInt3(member)));
    acts.push(Act::Retire);
    if mistake != Mistake::SameNumber {
        acts.push(Act::WaitForHook);
    }
    acts
}

fn leave(member: usize, mistake: Mistake) -> Vec<Act> {
    let mut acts = vec![Act::Stop(member), Act::TakeOut(member)];
    match mistake {
        Mistake::NoWait => {}
        Mistake::WaitBeforeTakingOut => acts.insert(1, Act::WaitForHook),
        Mistake::ForgetsItsLink => acts.extend([Act::ClearLink(member), Act::WaitForHook]),
        _ => acts.push(Act::WaitForHook),
    }
    acts.push(Act::Free(member));
    acts
}

/// What the writer does. The members stand in the list as 2, 1, 0.
fn script(mistake: Mistake) -> Vec<Act> {
    let mut acts = [join(0, mistake), join(1, mistake), batch(&[0, 1], mistake)].concat();
    acts.extend(join(2, mistake));
    if mistake == Mistake::LeavesDuringABatch {
        let mut during = batch(&[2, 1, 0], mistake);
        during.splice(3..3, leave(1, mistake));
        acts.extend(during);
    } else {
        acts.extend(leave(1, mistake));
        acts.extend(batch(&[2, 0], mistake));
    }
    acts.extend(leave(2, mistake));
    acts
}

/// Where a CPU traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trap {
    /// At a site of this module, whose INT3 it has fetched.
    At(usize),
    /// At somebody else's INT3.
    Elsewhere,
}

/// A CPU: the next step that it makes, and what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cpu {
    Runs,
    /// Looks whether the list is empty.
    LooksAtFirst(Trap),
    Enters(Trap),
    Begins(Trap),
    /// Knows where the list begins, and is not counted: a mistake.
    EntersLate(Trap, Link),
    /// Looks at this member.
    Compares(Trap, usize),
    /// Follows the link of this member.
    Follows(Trap, usize),
    LoadsBatch(usize),
    LoadsByte(usize, usize),
    LoadsBatchAgain(usize, usize),
    Leaves,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// The next step of the writer.
    at: usize,
    first: Link,
    next: [Link; MEMBERS],
    is_freed: [bool; MEMBERS],
    /// Whether CPUs may execute the code of a module.
    runs: [bool; MEMBERS],
    has_int3: [bool; MEMBERS],
    /// Twice the number of batches that were retired, and one more while one is published.
    batch: usize,
    in_hook: usize,
    cpus: [Cpu; CPUS],
    traps: [usize; CPUS],
}

/// Makes the next step of the writer, if it can be made now.
fn write(state: &State, script: &[Act], mistake: Mistake) -> Result<Option<State>, &'static str> {
    let mut state = state.clone();
    let Some(act) = script.get(state.at) else { return Ok(None) };
    match *act {
        Act::LinkNext(member, behind) => state.next[member] = behind,
        Act::LinkFirst(member) => state.first = Some(member),
        Act::Run(member) => state.runs[member] = true,
        Act::Publish => state.batch += 1,
        Act::WriteInt3(member) | Act::TakeInt3(member) if state.is_freed[member] => {
            return Err("text that was freed is written");
        }
        Act::WriteInt3(member) => state.has_int3[member] = true,
        Act::TakeInt3(member) => state.has_int3[member] = false,
        Act::Retire if mistake == Mistake::SameNumber => state.batch -= 1,
        Act::Retire => state.batch += 1,
        Act::WaitForHook if state.in_hook > 0 => return Ok(None),
        Act::WaitForHook => {}
        Act::Stop(member) => {
            // A CPU that trapped there is in the module's code until it was answered.
            if state.cpus.iter().any(|cpu| trapped_at(*cpu) == Some(member)) {
                return Ok(None);
            }
            state.runs[member] = false;
        }
        Act::TakeOut(member) => {
            if state.first == Some(member) {
                state.first = state.next[member];
            } else {
                let next = state.next[member];
                let link = state.next.iter_mut().find(|next| **next == Some(member));
                *link.expect("it has joined") = next;
            }
        }
        Act::ClearLink(member) => state.next[member] = None,
        Act::Free(member) => state.is_freed[member] = true,
    }
    state.at += 1;
    Ok(Some(state))
}

/// Returns the module at whose site the CPU trapped, and was not answered yet.
fn trapped_at(cpu: Cpu) -> Option<usize> {
    match cpu {
        Cpu::LooksAtFirst(Trap::At(member))
        | Cpu::Enters(Trap::At(member))
        | Cpu::Begins(Trap::At(member))
        | Cpu::EntersLate(Trap::At(member), _)
        | Cpu::Compares(Trap::At(member), _)
        | Cpu::Follows(Trap::At(member), _)
        | Cpu::LoadsBatch(member)
        | Cpu::LoadsByte(member, _)
        | Cpu::LoadsBatchAgain(member, _) => Some(member),
        _ => None,
    }
}

/// The answer to a CPU that has found no member of its address.
fn not_found(trap: Trap) -> Result<Cpu, &'static str> {
    match trap {
        Trap::At(_) => Err("a trap in a module is not answered"),
        Trap::Elsewhere => Ok(Cpu::Leaves),
    }
}

/// Makes the next step of a CPU in the hook.
fn step(state: &mut State, cpu: Cpu, mistake: Mistake) -> Result<Cpu, &'static str> {
    let reach = |state: &State, member: usize| {
        if state.is_freed[member] { Err("a link to freed memory is followed") } else { Ok(()) }
    };
    Ok(match cpu {
        Cpu::Runs => unreachable!("it is not in the hook"),
        Cpu::LooksAtFirst(trap) => match state.first {
            // It was not counted.
            None => not_found(trap).map(|_| Cpu::Runs)?,
            first if mistake == Mistake::CountsLate => Cpu::EntersLate(trap, first),
            Some(_) => Cpu::Enters(trap),
        },
        Cpu::Enters(trap) => {
            state.in_hook += 1;
            Cpu::Begins(trap)
        }
        Cpu::EntersLate(trap, first) => {
            state.in_hook += 1;
            first.map_or_else(|| not_found(trap), |first| Ok(Cpu::Compares(trap, first)))?
        }
        Cpu::Begins(trap) => match state.first {
            Some(first) => Cpu::Compares(trap, first),
            None => not_found(trap)?,
        },
        Cpu::Compares(trap, member) => {
            reach(state, member)?;
            if trap != Trap::At(member) {
                return Ok(Cpu::Follows(trap, member));
            }
            if mistake == Mistake::CountsDownEarly {
                state.in_hook -= 1;
            }
            Cpu::LoadsBatch(member)
        }
        Cpu::Follows(trap, member) => {
            reach(state, member)?;
            match state.next[member] {
                Some(next) => Cpu::Compares(trap, next),
                None => not_found(trap)?,
            }
        }
        Cpu::LoadsBatch(member) => {
            if state.batch.is_multiple_of(2) {
                Cpu::LoadsByte(member, state.batch)
            } else {
                // The records and the front end say how the CPU goes on.
                reach(state, member)?;
                Cpu::Leaves
            }
        }
        Cpu::LoadsByte(member, batch) => {
            if state.has_int3[member] {
                Cpu::LoadsBatchAgain(member, batch)
            } else {
                Cpu::Leaves
            }
        }
        Cpu::LoadsBatchAgain(member, batch) => {
            if state.batch == batch {
                return Err("the INT3 of a batch is taken for somebody else's");
            }
            Cpu::LoadsBatch(member)
        }
        Cpu::Leaves => {
            if mistake != Mistake::CountsDownEarly || state.in_hook > 0 {
                state.in_hook -= 1;
            }
            Cpu::Runs
        }
    })
}

/// Returns the traps that a CPU can take now.
fn traps(state: &State) -> impl Iterator<Item = Trap> + '_ {
    let at = (0..MEMBERS).filter(|&member| state.runs[member] && state.has_int3[member]);
    at.map(Trap::At).chain([Trap::Elsewhere])
}

/// Tries every order. Returns the number of states, or what went wrong first.
fn explore(mistake: Mistake) -> Result<usize, &'static str> {
    let script = script(mistake);
    let start = State {
        at: 0,
        first: None,
        next: [None; MEMBERS],
        is_freed: [false; MEMBERS],
        runs: [false; MEMBERS],
        has_int3: [false; MEMBERS],
        batch: 0,
        in_hook: 0,
        cpus: [Cpu::Runs; CPUS],
        traps: [0; CPUS],
    };
    let mut seen = BTreeSet::from([start.clone()]);
    let mut todo = vec![start];
    let mut ended = 0;
    while let Some(state) = todo.pop() {
        let mut following: Vec<State> = write(&state, &script, mistake)?.into_iter().collect();
        for number in 0..CPUS {
            let cpu = state.cpus[number];
            if cpu != Cpu::Runs {
                let mut next = state.clone();
                next.cpus[number] = step(&mut next, cpu, mistake)?;
                following.push(next);
            } else if state.traps[number] < TRAPS {
                following.extend(traps(&state).map(|trap| {
                    let mut next = state.clone();
                    next.cpus[number] = Cpu::LooksAtFirst(trap);
                    next.traps[number] += 1;
                    next
                }));
            }
        }
        if following.is_empty() {
            assert_eq!(state.at, script.len(), "the writer is stuck: {state:?}");
            assert_eq!((state.in_hook, state.first), (0, Some(0)), "{state:?}");
            ended += 1;
        }
        todo.extend(following.into_iter().filter(|next| seen.insert(next.clone())));
    }
    assert!(ended > 0);
    Ok(seen.len())
}

#[test]
fn no_order_of_the_steps_goes_wrong() {
    let states = explore(Mistake::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{states} states");
    assert!(states > 10_000, "{states}");
}

#[test]
fn each_mistake_is_found() {
    for mistake in MISTAKES {
        match explore(mistake) {
            Err(wrong) => println!("{mistake:?}: {wrong}"),
            Ok(states) => panic!("{mistake:?}: not found in {states} states"),
        }
    }
}
