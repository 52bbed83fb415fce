//! The test of live switching on the hardware. Readers execute every site in a loop and check every
//! result while a writer switches the sites from state to state.
//!
//! `PATCHLET_SOAK=1` asks for at least one million switches and a hundred million executions,
//! `PATCHLET_SOAK=10` for ten times as many. Such a run should be optimized:
//! `PATCHLET_SOAK=1 cargo test --release --test live -- --nocapture`.

use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use patchlet_process::live::broken::Broken;
use patchlet_process::live::switching::{READERS, beside_readers};
use patchlet_process::live::{signal, sites};

#[test]
fn readers_see_old_or_new_and_nothing_else() {
    let millions: Option<usize> =
        std::env::var("PATCHLET_SOAK").ok().map(|n| n.parse().expect("a number"));
    let soak = millions.is_some();
    // The numbers count switches and executions of one site each.
    let (switches, executions, most) = match millions {
        Some(millions) => (1_000_000 * millions, 100_000_000, Duration::from_secs(3600)),
        None => (20_000, 1_000_000, Duration::from_secs(8)),
    };
    let start = Instant::now();
    let mut done = Default::default();
    let shared = beside_readers(if soak { 300 } else { 8 }, |writer, shared| {
        let mut said = Instant::now();
        loop {
            for _ in 0..50 {
                writer.switch().expect("switch");
            }
            done = writer.switches();
            let executed = shared.executed.load(SeqCst);
            if done.sites >= switches && executed >= executions || start.elapsed() > most {
                break;
            }
            if soak && said.elapsed() > Duration::from_secs(30) {
                println!("{} switches, {executed} executions", done.sites);
                said = Instant::now();
            }
        }
    });
    let (executed, exact, wrong) =
        (shared.executed.load(SeqCst), shared.exact.load(SeqCst), shared.wrong.load(SeqCst));
    println!(
        "{} switches of a site, in {} batches: {} INT3, {} INT3 with nobody inside, {} rendezvous",
        done.sites,
        done.all(),
        done.int3,
        done.quiescent,
        done.rendezvous,
    );
    println!(
        "{executed} executions by {READERS} readers over {} sites, {exact} of one possible result, \
         {} traps, {wrong} wrong, {:.1} s",
        sites().records().len(),
        signal::TRAPS.load(SeqCst),
        start.elapsed().as_secs_f64(),
    );
    assert_eq!(wrong, 0);
    assert!(done.int3 > 0 && done.quiescent > 0 && done.rendezvous > 0, "{done:?}");
    assert!(signal::TRAPS.load(SeqCst) > 0, "no reader was at a site while it was switched");
    assert!(exact > executed / 100);
    if soak {
        assert!(done.sites >= switches && executed >= executions, "it took too long");
    }
}

/// The end of a child process with a broken writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The readers saw nothing wrong.
    Clean,
    /// A reader saw a wrong result.
    Wrong,
    /// The process was ended by this signal.
    Signal(i32),
    /// The process did not end in time.
    Hung,
}

fn child_with(broken: Broken, time: Duration) -> End {
    use std::os::unix::process::ExitStatusExt;
    let mut child = Command::new(env!("CARGO_BIN_EXE_broken"))
        .args([format!("{broken:?}"), time.as_millis().to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a program of this package");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return match (status.code(), status.signal()) {
                (Some(0), _) => End::Clean,
                // Status 1: wrong results were counted. Status 101: a reader panicked.
                (Some(1 | 101), _) => End::Wrong,
                (Some(status), _) => panic!("{broken:?}: status {status}"),
                (None, signal) => End::Signal(signal.unwrap_or(0)),
            };
        }
        if start.elapsed() > time + Duration::from_secs(20) {
            child.kill().expect("a child");
            child.wait().expect("a child");
            return End::Hung;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Checks that the same loop fails with broken writers. Not every one is noticed on hardware; the
/// model in `tests/live_model` notices all.
#[test]
fn broken_writers_are_caught() {
    let seconds = if std::env::var_os("PATCHLET_SOAK").is_some() { 60 } else { 1 };
    for broken in Broken::ALL {
        // A missing synchronization is noticed only if a reader fetches at a certain moment. That
        // happens often on some machines, and never on others.
        let (expected, seconds) = match broken {
            Broken::Nothing => (Some(true), seconds),
            Broken::NoFirstSync | Broken::NoMiddleSync => (None, seconds),
            _ => (Some(false), 30),
        };
        let end = child_with(broken, Duration::from_secs(seconds));
        println!("{broken:?}: {end:?}");
        assert!(expected.is_none_or(|clean| clean == (end == End::Clean)), "{broken:?}: {end:?}");
    }
}
