//! The benchmark of live switches, in ratios within one run: `cargo bench --bench live`.
//!
//! A reader executes one of the sites all the time. Only rounds count during which it ran. The
//! columns are: number of sites; time per site in one batch, for sites of an op and for static
//! branches; time per site in a batch for each site of the op, and its ratio to one batch; time per
//! site of `static-keys`, and its ratio to the branches; synchronizations per batch; and the longest
//! time for which the reader was held up.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use patchlet::SecondMapping;
use patchlet::live::{Int3, Rendezvous, Synchronize};
use patchlet::ops::Target;
use patchlet_process::live::sync::{Closed, Gate, Membarrier};
use patchlet_process::live::{
    MANY, MANY_KEY, MANY_SITES, execute_many, execute_many_branches, execute_one, live,
    many_branches, many_sites, signal, sites_from,
};
use patchlet_process::remap;
use static_keys::{define_static_key_false, static_branch_unlikely};

/// The numbers of sites in the batches that are measured.
const SITES: [usize; 5] = [1, 16, 256, 512, 4096];

define_static_key_false!(KEY_1);
define_static_key_false!(KEY_16);
define_static_key_false!(KEY_256);
define_static_key_false!(KEY_512);
define_static_key_false!(KEY_4096);

/// Expands to this many static branches.
macro_rules! branches {
    ($key:ident, 1, $taken:ident) => {
        if static_branch_unlikely!($key) {
            $taken += black_box(1);
        }
    };
    ($key:ident, 2, $taken:ident) => {
        branches!($key, 1, $taken);
        branches!($key, 1, $taken);
    };
    ($key:ident, 16, $taken:ident) => {
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
        branches!($key, 2, $taken);
    };
}

/// Expands to a function of 16 static branches. Larger functions take very long to compile. The
/// number makes the functions differ, because equal ones would be merged.
macro_rules! block_of_16 {
    ($key:ident [$($number:literal)*]) => {{
        #[inline(never)]
        fn block() -> usize {
            black_box([$($number),*]);
            let mut taken = 0;
            branches!($key, 16, taken);
            taken
        }
        block()
    }};
}

macro_rules! times_16 {
    ($block:ident $key:ident [$($n:literal)*]) => {
        $block!($key [$($n)* 0]) + $block!($key [$($n)* 1]) + $block!($key [$($n)* 2])
            + $block!($key [$($n)* 3]) + $block!($key [$($n)* 4]) + $block!($key [$($n)* 5])
            + $block!($key [$($n)* 6]) + $block!($key [$($n)* 7]) + $block!($key [$($n)* 8])
            + $block!($key [$($n)* 9]) + $block!($key [$($n)* 10]) + $block!($key [$($n)* 11])
            + $block!($key [$($n)* 12]) + $block!($key [$($n)* 13]) + $block!($key [$($n)* 14])
            + $block!($key [$($n)* 15])
    };
}

macro_rules! block_of_256 {
    ($key:ident [$($number:literal)*]) => {
        times_16!(block_of_16 $key [$($number)*])
    };
}

/// Returns the number of static branches in the program, to check that none was merged.
fn branches_linked() -> usize {
    unsafe extern "C" {
        #[link_name = "__start___static_keys"]
        static START: [u8; 0];
        #[link_name = "__stop___static_keys"]
        static END: [u8; 0];
    }
    let size = (&raw const END).addr() - (&raw const START).addr();
    size / (3 * size_of::<usize>())
}

/// Returns how many of the static branches for this number of sites are taken.
#[inline(never)]
fn taken(sites: usize) -> usize {
    match sites {
        1 => {
            let mut taken = 0;
            branches!(KEY_1, 1, taken);
            taken
        }
        16 => block_of_16!(KEY_16[0]),
        256 => block_of_256!(KEY_256[0]),
        512 => block_of_256!(KEY_512[0]) + block_of_256!(KEY_512[1]),
        _ => times_16!(block_of_256 KEY_4096 []),
    }
}

/// Switches all static branches for this number of sites.
///
/// # Safety
/// - no thread executes [`taken`] meanwhile.
unsafe fn toggle_keys(sites: usize, on: bool) {
    macro_rules! toggle {
        ($key:ident) => {
            // SAFETY: by the contract of this function, no thread executes a branch.
            unsafe { if on { $key.enable() } else { $key.disable() } }
        };
    }
    match sites {
        1 => toggle!(KEY_1),
        16 => toggle!(KEY_16),
        256 => toggle!(KEY_256),
        512 => toggle!(KEY_512),
        _ => toggle!(KEY_4096),
    }
}

/// A synchronizer that counts its synchronizations.
#[derive(Clone, Copy)]
struct Counted<'c>(Membarrier, &'c AtomicUsize);

// SAFETY: `Membarrier` does what the contract asks for.
unsafe impl Synchronize for Counted<'_> {
    fn sync_all(&self) {
        self.1.fetch_add(1, Relaxed);
        self.0.sync_all();
    }

    fn relax(&self) {
        self.0.relax();
    }
}

/// Keeps this thread on one CPU, so that reader and writer have a CPU each.
fn stay_on(cpu: usize) {
    // SAFETY: zeros are the empty set of CPUs. If the machine does not have this CPU, the system
    // refuses the set, and the thread is not bound.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// The reader, and the longest time for which it was held up since the last query.
struct Reader {
    gate: Gate,
    stop: AtomicBool,
    /// The longest time, in nanoseconds.
    longest: AtomicU64,
}

impl Reader {
    fn run(&self) {
        stay_on(1);
        signal::with_signal_stack(|| {
            let number = self.gate.enter();
            let mut last = Instant::now();
            while !self.stop.load(Relaxed) {
                self.gate.pass(number);
                execute_one();
                let now = Instant::now();
                let took = now.duration_since(last).as_nanos() as u64;
                if took > self.longest.load(Relaxed) {
                    self.longest.store(took, Relaxed);
                }
                last = now;
            }
        });
    }
}

/// Returns the time of a call in nanoseconds, lower quartile, and the longest time for which the
/// reader was held up during a call, median. Only calls count during which the reader ran, because
/// a thread that is not on a CPU need not be synchronized with.
fn measure(reader: &Reader, mut call: impl FnMut(bool)) -> [f64; 2] {
    let (mut times, mut longest) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let (least, most) = (Duration::from_millis(700), Duration::from_secs(10));
    while start.elapsed() < least || (times.len() < 11 && start.elapsed() < most) {
        for on in [true, false] {
            let passed = reader.gate.passed();
            reader.longest.store(0, Relaxed);
            let start = Instant::now();
            call(on);
            let took = start.elapsed();
            // The reader has passed the gate twice: it ran when the call began, and while it went
            // on.
            if reader.gate.passed() >= passed + 2 {
                times.push(took.as_nanos() as u64);
                longest.push(reader.longest.load(Relaxed));
            }
        }
    }
    let quantile = |mut values: Vec<u64>, part| {
        values.sort_unstable();
        values.get(values.len() / part).map_or(f64::NAN, |&value| value as f64)
    };
    // The lower quartile of the writer's times, because other work of the machine can only add
    // time.
    [quantile(times, 4), quantile(longest, 2)]
}

fn int3(
    reader: &Reader,
    platform: &SecondMapping,
    sync: Membarrier,
    sites: usize,
) -> ([f64; 2], f64) {
    let live = live(many_sites(sites), &MANY);
    signal::ask_first(live);
    let (count, mut batches) = (AtomicUsize::new(0), 0);
    // SAFETY: the handler of SIGTRAP calls the hooks, and this is the only writer.
    let mut int3 = unsafe { Int3::new(live, platform.clone(), Counted(sync, &count)) };
    let times = measure(reader, |on| {
        let report = if on { int3.apply() } else { int3.revert() }.expect("switch");
        assert_eq!(report.changed, sites);
        batches += 1;
    });
    execute_many();
    (times, count.load(Relaxed) as f64 / f64::from(batches))
}

/// Returns the time for which one key with this many static branches is turned on or off.
fn branches(reader: &Reader, platform: &SecondMapping, sync: Membarrier, sites: usize) -> [f64; 2] {
    let live = many_branches(sites);
    signal::ask_first(live);
    // SAFETY: the handler of SIGTRAP calls the hooks, and this is the only writer.
    let mut int3 = unsafe { Int3::new(live, platform.clone(), sync) };
    let times = measure(reader, |on| {
        let mut changes = [if on { MANY_KEY.on() } else { MANY_KEY.off() }];
        assert_eq!(int3.change(&mut changes).expect("change").changed, sites);
    });
    execute_many_branches();
    times
}

fn one_at_a_time(
    reader: &Reader,
    platform: &SecondMapping,
    sync: Membarrier,
    sites: usize,
) -> [f64; 2] {
    let all = many_sites(sites);
    let each: Vec<_> =
        all.records().map(|record| live(sites_from(record.site(), 1), &MANY)).collect();
    let mut writers: Vec<_> = each
        .into_iter()
        .map(|live| {
            // SAFETY: as in `int3`.
            (live, unsafe { Int3::new(live, platform.clone(), sync) })
        })
        .collect();
    measure(reader, |on| {
        for (live, int3) in &mut writers {
            signal::ask_first(live);
            if on { int3.apply() } else { int3.revert() }.expect("switch");
        }
    })
}

fn rendezvous(reader: &Reader, platform: &SecondMapping, sites: usize) -> [f64; 2] {
    let live = live(many_sites(sites), &MANY);
    // SAFETY: the reader waits at the gate; this is the only writer.
    let mut rendezvous = unsafe { Rendezvous::new(live, platform.clone(), Closed(&reader.gate)) };
    measure(reader, |on| {
        if on { rendezvous.apply() } else { rendezvous.revert() }.expect("switch");
    })
}

fn main() {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    signal::install(live(many_sites(MANY_SITES), &MANY));
    let sync = Membarrier::register();
    // SAFETY: the no-op function is also the native function of the op.
    assert!(unsafe { MANY.set(0, Target::NOP) });
    static_keys::global_init();
    // The compiler may duplicate a branch, but must not merge two.
    let branches = SITES.iter().sum::<usize>();
    assert!((branches..branches + 4).contains(&branches_linked()));

    let reader =
        Reader { gate: Gate::new(), stop: AtomicBool::new(false), longest: AtomicU64::new(0) };
    stay_on(0);
    std::thread::scope(|scope| {
        scope.spawn(|| reader.run());
        table(&reader, &platform, sync);
        reader.stop.store(true, Relaxed);
    });
}

fn table(reader: &Reader, platform: &SecondMapping, sync: Membarrier) {
    let [_, quiet] = measure(reader, |_| std::thread::sleep(Duration::from_millis(1)));
    println!(
        "| sites | batch, ns/site | branches | one at a time | static-keys | syncs per batch | reader held up, us: INT3 | one at a time | rendezvous |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut per_site = Vec::new();
    for sites in SITES {
        let n = sites as f64;
        let ([batch, held], syncs) = int3(reader, platform, sync, sites);
        let [of_key, _] = branches(reader, platform, sync, sites);
        let [single, held_single] = one_at_a_time(reader, platform, sync, sites);
        let [_, held_rendezvous] = rendezvous(reader, platform, sites);
        // SAFETY: only this thread executes the branches, and not at this time.
        unsafe { toggle_keys(sites, true) };
        assert_eq!(taken(black_box(sites)), sites);
        // SAFETY: as above.
        let [keys, _] = measure(reader, |on| unsafe { toggle_keys(sites, on) });
        assert_eq!(taken(black_box(sites)), 0);
        println!(
            "| {sites} | {:.0} | {:.0} | {:.0} ({:.1}x) | {:.0} ({:.1}x) | {syncs:.2} | {:.1} | {:.1} | {:.1} |",
            batch / n,
            of_key / n,
            single / n,
            single / batch,
            keys / n,
            keys / of_key,
            held / 1e3,
            held_single / 1e3,
            held_rendezvous / 1e3,
        );
        per_site.push((sites, batch / n, single / batch, keys / of_key));
    }
    println!("(undisturbed for as long, the reader is held up for {:.1} us)", quiet / 1e3);
    if let [.., (_, at_512, single, keys), (_, at_4096, ..)] = per_site[..] {
        println!(
            "at 512 sites: {single:.1} times less per site than one at a time, branches {keys:.1} times \
             less than static-keys; at 4096 {:.2} times the cost per site at 512",
            at_4096 / at_512
        );
    }
}
