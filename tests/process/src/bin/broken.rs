//! Switches sites with a broken writer for some milliseconds, `cargo run --bin broken PlainCopy
//! 1000`. The process ends by a signal, or with status 1, when the readers notice the broken
//! writer. The test `broken_writers_are_caught` runs it.

use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use patchlet_process::live::broken::Broken;
use patchlet_process::live::switching::beside_readers;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| Broken::ALL.into_iter().find(|broken| format!("{broken:?}") == name);
    let (broken, time) = match &arguments[..] {
        [name, time] => (named(name), time.parse().map(Duration::from_millis).ok()),
        _ => (None, None),
    };
    let (Some(broken), Some(time)) = (broken, time) else {
        eprintln!("broken NAME MILLISECONDS, where NAME is one of {:?}", Broken::ALL);
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let shared = beside_readers(1, |writer, shared| {
        while start.elapsed() < time && shared.wrong.load(SeqCst) == 0 {
            // SAFETY: the writer breaks the protocol. This process exists to crash by it.
            unsafe { writer.switch_broken(broken) }.expect("switch");
        }
    });
    if shared.wrong.load(SeqCst) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
