//! The test of static branches: a trace point that is off, and is switched on and off while the
//! other CPUs run over it. Assembly has one as well, by a key of its own, and both are switched in
//! one batch.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use patchlet::{
    Error, Goal, Patcher, SiteSet, branch, branch::linked, keys, live::Live, text::Part,
};

use crate::{
    cpu, live, park,
    patchlets::Hex,
    println, segments,
    segments::MAX_CPUS,
    smp::{self, Job},
    stop, wait,
};

keys! {
    /// Whether the work of the readers is traced.
    static TRACE: off;
    /// The same for work in assembly.
    static TRACE_ASSEMBLY as "kernel_trace_assembly": off;
    /// How many want the work of the readers counted. One does from the start.
    static COUNT: counted on;
}

unsafe extern "C" {
    /// Returns 1 if `TRACE_ASSEMBLY` is on, else 0, by a branch in `asm/trace.S`.
    safe fn trace_in_assembly() -> u32;
}

/// The part of all branches of this kernel. The sites of ops are in sets of their own, because
/// checking these thousands at each switch would only take time.
static PARTS: [Part<'static>; 1] = [linked()];
static BRANCHES: SiteSet<'static> = SiteSet::new(&PARTS);
pub static LIVE: Live<'static> = Live::new(&[&BRANCHES]);

/// How often each CPU did its work, and how often that was traced.
static WORKED: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
static TRACED: [AtomicUsize; MAX_CPUS] = [const { AtomicUsize::new(0) }; MAX_CPUS];
/// How often the work was done while nobody counted, which never happens here.
static UNCOUNTED: AtomicUsize = AtomicUsize::new(0);
/// How often the state of the keys was known while the work was done, and so was checked.
static CHECKED: AtomicUsize = AtomicUsize::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// The announcement of the writer: the number of the switch, whether it is going on, and whether
/// the keys are on.
static ANNOUNCED: AtomicUsize = AtomicUsize::new(0);
const IS_ON: usize = 1;
const IS_SWITCHING: usize = 2;
const NUMBER: usize = 4;

/// Does some work with a trace point in it.
#[inline(never)]
fn work(this: usize) {
    if branch!(TRACE) {
        trace(this);
    }
    if branch!(COUNT) {
        WORKED[this].fetch_add(1, SeqCst);
    } else {
        uncounted();
    }
}

/// Not inlined, so that LLVM does not make one counter of this and the one above.
#[inline(never)]
fn uncounted() {
    UNCOUNTED.fetch_add(1, SeqCst);
}

fn trace(this: usize) {
    TRACED[this].fetch_add(1, SeqCst);
}

/// Does the work once, and checks that it was traced if and only if the keys are on, unless they
/// are switched meanwhile.
fn work_and_check() {
    let this = segments::current_cpu();
    let before = ANNOUNCED.load(SeqCst);
    let traced = TRACED[this].load(SeqCst);
    work(this);
    let traced = TRACED[this].load(SeqCst) != traced;
    let traced_in_assembly = trace_in_assembly() != 0;
    if before & IS_SWITCHING == 0 && ANNOUNCED.load(SeqCst) == before {
        let is_on = before & IS_ON != 0;
        assert_eq!((traced, traced_in_assembly), (is_on, is_on), "of Rust, and of assembly");
        CHECKED.fetch_add(1, SeqCst);
    }
}

fn read() {
    while !STOP.load(SeqCst) {
        park::point();
        core::hint::spin_loop();
        work_and_check();
    }
}

/// The number of switches of both trace points.
const SWITCHES: usize = 120;

pub fn run() {
    println!("test trace point: {SWITCHES} switches while {} CPUs run over it", smp::count());
    assert!(!branch!(TRACE) && !TRACE.is_enabled() && branch!(COUNT) && COUNT.count() == 1);
    let mut jobs: [Option<Job>; MAX_CPUS] = [const { None }; MAX_CPUS];
    for (cpu, job) in jobs.iter_mut().enumerate().take(smp::count()).skip(1) {
        *job = Some(smp::run_on(cpu, read));
    }
    cpu::with_interrupts_on(|| {
        wait_for_work();
        show("off");
        for number in 1..=SWITCHES {
            switch(number, number % 2 != 0).unwrap_or_else(|error| panic!("{error}"));
            wait_for_work();
            match number {
                1 => {
                    show("on");
                    stop::at("traced");
                }
                SWITCHES => show("off again"),
                _ => {}
            }
        }
        refused();
    });
    STOP.store(true, SeqCst);
    jobs.into_iter().flatten().for_each(Job::wait);
    let traced: usize = TRACED.iter().map(|count| count.load(SeqCst)).sum();
    println!("  {} executions checked, 0 wrong; {traced} traced", CHECKED.load(SeqCst));
    assert!(traced > 0 && UNCOUNTED.load(SeqCst) == 0);
}

/// Waits until each reader has done its work some times, and does it on this CPU.
fn wait_for_work() {
    let before: [usize; MAX_CPUS] = core::array::from_fn(|cpu| WORKED[cpu].load(SeqCst));
    work_and_check();
    for cpu in 0..smp::count() {
        wait::until("a CPU works", || {
            work_and_check();
            WORKED[cpu].load(SeqCst) >= before[cpu] + 4
        });
    }
}

/// Switches both trace points, in one batch: by INT3, and each fifth time by rendezvous.
fn switch(number: usize, on: bool) -> Result<(), Error> {
    ANNOUNCED.store((number * NUMBER) | IS_SWITCHING, SeqCst);
    let mut changes = match on {
        true => [TRACE.on(), TRACE_ASSEMBLY.on(), COUNT.increment()],
        false => [TRACE.off(), TRACE_ASSEMBLY.off(), COUNT.decrement()],
    };
    let report = match number % 5 {
        0 => live::rendezvous(&LIVE).change(&mut changes)?,
        _ => live::int3(&LIVE).change(&mut changes)?,
    };
    // Those of the two trace points; the count goes from 1 to 2 and back.
    let tracing = branches().filter(|name| name.starts_with("TRACE")).count();
    assert_eq!(report.changed, tracing);
    assert_eq!((TRACE.is_enabled(), COUNT.count()), (on, if on { 2 } else { 1 }));
    ANNOUNCED.store((number * NUMBER) | if on { IS_ON } else { 0 }, SeqCst);
    Ok(())
}

/// Checks that a change which cannot be made as a whole changes nothing, while the readers run.
fn refused() {
    let decrement = || COUNT.decrement();
    let mut changes = [TRACE.on(), decrement(), decrement()];
    let error = live::int3(&LIVE).change(&mut changes).expect_err("a count below 0");
    assert!(matches!(error, Error::Count { name: "COUNT", count: 0, .. }), "{error}");
    assert_eq!((TRACE.is_enabled(), COUNT.count()), (false, 1));
    wait_for_work();
    println!("  refused as a whole: {error}");
}

/// Returns the key's name of each branch.
fn branches() -> impl Iterator<Item = &'static str> {
    let patcher = Patcher::new(&BRANCHES, live::platform());
    let plan = patcher.plan(Goal::Patched).unwrap_or_else(|error| panic!("{error}"));
    let mut names = [""; 32];
    let mut all = plan.outcomes().map(|outcome| outcome.name);
    names.iter_mut().zip(&mut all).for_each(|(to, name)| *to = name);
    assert!(all.next().is_none());
    names.into_iter().filter(|name| !name.is_empty())
}

/// Prints the bytes of the trace points.
fn show(state: &str) {
    let patcher = Patcher::new(&BRANCHES, live::platform());
    let plan = patcher.plan(Goal::Patched).unwrap_or_else(|error| panic!("{error}"));
    for name in ["TRACE", "TRACE_ASSEMBLY"] {
        let mut of_key = plan.outcomes().filter(|outcome| outcome.name == name);
        let first = of_key.next().unwrap_or_else(|| panic!("{name} has no branch"));
        println!("  {name:<14} {state:<9} {:#x} {}", first.address, Hex(first.old_bytes.bytes()));
    }
}
