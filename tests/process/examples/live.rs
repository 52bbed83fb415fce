//! A process that switches its own sites while another thread executes them:
//! `cargo run --example live`.
//!
//! The process supplies what a kernel has to supply: the writable alias is a second mapping, the
//! #BP handler is that of SIGTRAP, and the synchronization is `membarrier`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use patchlet::live::Int3;
use patchlet::{Error, Goal, Patcher};
use patchlet_process::live::sync::Membarrier;
use patchlet_process::live::{LiveOp, State, TABLE, execute, functions, live, signal, sites};
use patchlet_process::remap;

fn main() -> Result<(), Error> {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    let live = live(sites(), &TABLE);
    signal::install(live);
    let sync = Membarrier::register();

    let function = functions()[0];
    let (stop, executed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let run = || execute(function, 1, 0);
    std::thread::scope(|scope| {
        // This thread does not know that the other one switches its sites.
        scope.spawn(|| {
            signal::with_signal_stack(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(run());
                    executed.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let result = show(run, platform, live, sync);
        stop.store(true, Ordering::Relaxed);
        result
    })?;
    println!(
        "the other thread executed the site {} times, and trapped {} times on the way",
        executed.load(Ordering::Relaxed),
        signal::TRAPS.load(Ordering::Relaxed)
    );
    Ok(())
}

fn show(
    run: impl Fn() -> usize,
    platform: patchlet::SecondMapping,
    live: &'static patchlet_process::live::ProcessLive,
    sync: Membarrier,
) -> Result<(), Error> {
    // SAFETY: the handler of SIGTRAP calls `live` for every thread, on a stack of its own, and
    // there is only one writer.
    let mut int3 = unsafe { Int3::new(live, platform.clone(), sync) };
    let at = |what: &str| -> Result<(), Error> {
        let patcher = Patcher::new(live.sets()[0], platform.clone());
        let first = patcher.plan(Goal::Patched)?.outcomes().next();
        let bytes = first.map(|outcome| outcome.old_bytes.to_string()).unwrap_or_default();
        println!("{bytes}   probe(1) = {:#x}   {what}", run());
        Ok(())
    };
    let states = [
        (State::Nops, "nothing"),
        (State::A, "a direct call"),
        (State::B, "another one"),
        (State::Native, "the patchlet: refused, as a thread may be inside of the call"),
    ];
    at("as linked: through the slot")?;
    for (state, what) in states {
        state.install(LiveOp::Probe);
        match int3.apply() {
            Ok(report) => at(&format!("{what} ({} sites in one batch)", report.changed))?,
            Err(error @ Error::ThreadInside { .. }) => println!("{what}\n  {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
