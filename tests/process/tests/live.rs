//! Switching live, on the hardware: readers execute every site in a loop and check
//! every result while a writer switches the sites from state to state.
//!
//! `PATCHLET_SOAK=1` for at least one million switches and a hundred million
//! executions, `PATCHLET_SOAK=10` for ten; optimized, or it takes its time:
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
    // Of one site each.
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

/// What a child with a broken writer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It saw nothing wrong.
    Clean,
    /// It saw wrong results.
    Wrong,
    /// It crashed.
    Signal(i32),
    /// It hung.
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
                // Counted, or a panic of a reader.
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

/// The same loop can fail. What the hardware catches is said; what it does not,
/// the model of `tests/live_model` does.
#[test]
fn broken_writers_are_caught() {
    let seconds = if std::env::var_os("PATCHLET_SOAK").is_some() { 60 } else { 1 };
    for broken in Broken::ALL {
        // Without a synchronization a reader must have fetched at the right moment:
        // it does so often on some machines, and never on others.
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
