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
use patchlet_process::live::readers::{Shared, read};
use patchlet_process::live::sync::Membarrier;
use patchlet_process::live::writer::Writer;
use patchlet_process::live::{State, TABLE, live, signal, sites};
use patchlet_process::remap;

/// Readers: one on the other core, and one that is often suspended, inside of a
/// site or a function that a site called.
const READERS: usize = 2;

/// Runs readers beside `work`, which gets the writer. Once in a process.
fn beside_readers(patience: usize, work: impl FnOnce(&mut Writer<'_>, &Shared)) -> &'static Shared {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: whole pages, and only here.
    let platform = unsafe { remap::second_mapping(text) }.expect("second mapping");
    let live = live(sites(), &TABLE);
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
    let mut child = Command::new(std::env::current_exe().expect("Linux knows"))
        .args(["--exact", "child_with_a_broken_writer", "--ignored"])
        .env("PATCHLET_BROKEN", format!("{broken:?}"))
        .env("PATCHLET_BROKEN_MS", time.as_millis().to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the test's own binary");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return match (status.code(), status.signal()) {
                (Some(0), _) => End::Clean,
                (Some(_), _) => End::Wrong,
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

#[test]
#[ignore = "a child of broken_writers_are_caught"]
fn child_with_a_broken_writer() {
    let Ok(name) = std::env::var("PATCHLET_BROKEN") else { return };
    let all = Broken::ALL.into_iter();
    let broken = all.into_iter().find(|broken| format!("{broken:?}") == name).expect("its name");
    let time = std::env::var("PATCHLET_BROKEN_MS").expect("set").parse().expect("a number");
    let start = Instant::now();
    let shared = beside_readers(1, |writer, shared| {
        while start.elapsed() < Duration::from_millis(time) && shared.wrong.load(SeqCst) == 0 {
            // SAFETY: this process is here to die of it.
            unsafe { writer.switch_broken(broken) }.expect("switch");
        }
    });
    assert_eq!(shared.wrong.load(SeqCst), 0);
}
