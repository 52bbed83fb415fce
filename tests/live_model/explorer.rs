//! The model of a CPU that runs while text is written, explored exhaustively.
//!
//! Time is the number of events that have happened. A CPU that fetches a byte may
//! get every value the byte has had since the last synchronization, independently
//! of every other byte: prefetched, torn, out of order, all of it. It may be at the
//! first byte at any time, and it may stay at an instruction boundary (interrupted,
//! or in a function that the site called) for any time.
//!
//! What it executes, from entering the site to leaving it, must be all old or all
//! new instructions; or an INT3 at the first byte while the hook answers for it.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::recording::Event;

/// A site and what is done to it.
#[derive(Clone, Debug)]
pub struct Run {
    pub address: u64,
    /// What it is meant to hold, one after the other: old and new, or more.
    pub codes: Vec<Vec<u8>>,
    pub events: Vec<Event>,
    /// A synchronization also waits until each thread has been outside.
    pub nobody_inside: bool,
}

/// What a CPU can execute and must not.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// After this many events.
    pub time: usize,
    /// At this byte of the site.
    pub at: usize,
    /// These bytes.
    pub fetched: Vec<u8>,
    pub why: &'static str,
}

/// A CPU between two instructions: where, and what its instructions so far can
/// have been a part of, a bit for each code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reader {
    at: usize,
    codes: u32,
}

const ENTERING: Reader = Reader { at: 0, codes: u32::MAX };
const INT3: u8 = 0xcc;

/// One instruction at `at`: its length, and whether execution goes on behind it.
struct Insn {
    len: usize,
    goes_on: bool,
}

fn decode(bytes: &[u8], at: usize, address: u64) -> Option<Insn> {
    let ip = address.wrapping_add(at as u64);
    let mut decoder = Decoder::with_ip(usize::BITS, &bytes[at..], ip, DecoderOptions::NONE);
    let insn = decoder.decode();
    let goes_on = matches!(
        insn.flow_control(),
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall
    );
    (!insn.is_invalid()).then(|| Insn { len: insn.len(), goes_on })
}

/// Explores every CPU; what it can do wrong, the earliest first.
pub fn explore(run: &Run) -> Vec<Wrong> {
    let (old, new) = (&run.codes[0], run.codes.last().unwrap());
    let capacity = old.len();
    let mut memory = vec![old.clone()];
    for event in &run.events {
        let mut now = memory.last().unwrap().clone();
        if let Event::Store(bytes) = event {
            for &(at, byte) in bytes {
                now[at] = byte;
            }
        }
        memory.push(now);
    }
    assert_eq!(memory.last(), Some(new), "the events make old to new");

    let mut wrong = Vec::new();
    let mut readers = BTreeSet::from([ENTERING]);
    let mut last_sync = 0;
    let mut answered = false;
    for time in 0..memory.len() {
        match time.checked_sub(1).map(|index| &run.events[index]) {
            Some(Event::Sync) => {
                last_sync = time;
                if run.nobody_inside {
                    readers = BTreeSet::from([ENTERING]);
                }
            }
            Some(Event::Published) => answered = true,
            Some(Event::Retired) => answered = false,
            Some(Event::Store(_)) | None => {}
        }
        // What each byte can be.
        let values: Vec<BTreeSet<u8>> = (0..capacity)
            .map(|at| memory[last_sync..=time].iter().map(|bytes| bytes[at]).collect())
            .collect();
        let mut todo: Vec<Reader> = readers.iter().copied().collect();
        while let Some(reader) = todo.pop() {
            for view in views(&values[reader.at..]) {
                match step(run, reader, &view, answered) {
                    Ok(Some(next)) => {
                        if readers.insert(next) {
                            todo.push(next);
                        }
                    }
                    Ok(None) => {}
                    Err(why) => {
                        wrong.push(Wrong { time, at: reader.at, fetched: view, why });
                    }
                }
            }
        }
    }
    wrong
}

/// Every mixture.
fn views(values: &[BTreeSet<u8>]) -> Vec<Vec<u8>> {
    values.iter().fold(vec![Vec::new()], |views, values| {
        views
            .iter()
            .flat_map(|view| {
                values.iter().map(|&byte| {
                    let mut view = view.clone();
                    view.push(byte);
                    view
                })
            })
            .collect()
    })
}

/// One instruction of the reader, with these bytes from its place on. `None`: it
/// has left the site.
fn step(
    run: &Run,
    reader: Reader,
    view: &[u8],
    answered: bool,
) -> Result<Option<Reader>, &'static str> {
    if reader.at == 0 && view[0] == INT3 {
        // The hook takes it behind the site.
        return if answered { Ok(None) } else { Err("INT3 that nobody answers for") };
    }
    // The instruction it executes is that of a code if it begins with all the bytes
    // of that one; whatever comes behind.
    let mut next = Reader { at: 0, codes: 0 };
    let mut insn = None;
    for (index, code) in run.codes.iter().enumerate() {
        let found = decode(code, reader.at, run.address)
            .filter(|insn| view.get(..insn.len) == code.get(reader.at..reader.at + insn.len));
        if reader.codes & 1 << index != 0 && found.is_some() {
            next.codes |= 1 << index;
            insn = found;
        }
    }
    let Some(insn) = insn else {
        return Err("a mixture");
    };
    let at = reader.at + insn.len;
    Ok((insn.goes_on && at < run.codes[0].len()).then_some(Reader { at, ..next }))
}
