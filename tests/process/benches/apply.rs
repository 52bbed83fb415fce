//! The benchmark of patching all sites: nanoseconds per site for 10² to 10⁷ sites. It is measured
//! in turns with
//!
//! - (a) a bare loop that stores six bytes at each site and reads only the record;
//! - the accesses: the loads and stores that the checks need, without the checks;
//! - (b) patching one site at a time, each serialized and read back;
//! - (c) switching as many branches of `static-keys`.
//!
//! Sites are scattered one per 200 to 2,000 bytes, 10⁷ of them one per 200 to 400, so that
//! everything is within reach of the records. Text is mapped by large pages where the system can.
//! Every figure is the least of its rounds, and every ratio is of one run. `BENCH_CHART=path`
//! writes the chart, `BENCH_MAX=n` stops at 10ⁿ sites, and `BENCH_COLD=1` flushes each site and its
//! record from the caches before each turn.

#[path = "support/chart.rs"]
mod chart;
#[path = "support/keys.rs"]
mod keys;
#[path = "support/mod.rs"]
mod support;
#[path = "support/text.rs"]
mod text;

use std::env;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use patchlet::{OneCpu, Patcher, SecondMapping, Serializer};
use support::{Ticks, time_on_cpu};
use text::{Order, Text};

/// The least time for which each size is measured.
const BUDGET: Duration = Duration::from_secs(2);
/// The largest number of sites that are patched one at a time. Each of them serializes, which can
/// take thousands of cycles under a hypervisor.
const ONE_AT_A_TIME: usize = 100_000;

/// The largest power of ten of sites whose records are shuffled: two texts of 10⁷ would need 8 GB.
const MOST_SHUFFLED: u32 = 6;

fn number(name: &str) -> Option<u32> {
    env::var(name).ok()?.parse().ok()
}

fn text(power: u32, order: Order) -> Text {
    let spacing = if power < 7 { 200..2000 } else { 200..400 };
    let text = Text::new(10_usize.pow(power), spacing, order);
    let _ = text.use_large_pages();
    text
}

fn apply(patcher: &mut Patcher<'_, SecondMapping>) {
    // SAFETY: no thread executes this text.
    let report = unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) };
    assert_eq!(report.expect("every site can be patched").indirect, 0);
}

/// The least times of each way, in nanoseconds per site.
#[derive(Clone, Copy)]
struct Least {
    apply: f64,
    /// Patching with the records in random order.
    shuffled: f64,
    shuffled_again: f64,
    /// The accesses alone, in the same random order.
    shuffled_accesses: f64,
    bare: f64,
    accesses: f64,
    one_at_a_time: f64,
    keys: f64,
}

impl Least {
    const NONE: Self = Self {
        apply: f64::INFINITY,
        shuffled: f64::INFINITY,
        shuffled_again: f64::INFINITY,
        shuffled_accesses: f64::INFINITY,
        bare: f64::INFINITY,
        accesses: f64::INFINITY,
        one_at_a_time: f64::INFINITY,
        keys: f64::INFINITY,
    };
}

fn measure(power: u32, per_ns: f64, cold: bool) -> Least {
    let text = text(power, Order::Sorted);
    let mut patcher = text.patcher();
    let shuffled = (power <= MOST_SHUFFLED).then(|| self::text(power, Order::Shuffled));
    let mut least = Least::NONE;
    // Each measurement begins with sites that hold their indirect calls, and behind the same
    // stores.
    let turn = |text: &Text, least: &mut f64, f: &mut dyn FnMut()| {
        // SAFETY: no thread executes this text; here and below.
        unsafe { text::bare(text) };
        if cold {
            text.evict();
        }
        *least = least.min(time_on_cpu(per_ns, f) / text.count as f64);
    };
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 3 || start.elapsed() < BUDGET {
        rounds += 1;
        turn(&text, &mut least.apply, &mut || apply(&mut patcher));
        if let Some(text) = &shuffled {
            // A new patcher, whose set has not been checked before.
            let mut patcher = text.patcher();
            turn(text, &mut least.shuffled, &mut || apply(&mut patcher));
            turn(text, &mut least.shuffled_again, &mut || apply(&mut patcher));
            turn(text, &mut least.shuffled_accesses, &mut || unsafe { text::accesses(text) });
        }
        turn(&text, &mut least.bare, &mut || unsafe { text::bare(&text) });
        turn(&text, &mut least.accesses, &mut || unsafe { text::accesses(&text) });
        if text.count <= ONE_AT_A_TIME && rounds <= 10 {
            turn(&text, &mut least.one_at_a_time, &mut || unsafe { text::one_at_a_time(&text) });
        }
        if rounds <= 10
            && let Some(elapsed) = keys::toggle(power, per_ns)
        {
            least.keys = least.keys.min(elapsed / text.count as f64);
        }
    }
    least
}

/// Measures all sizes and prints the table. Returns the figures for the chart.
fn table(per_ns: f64) -> Vec<(u32, Least)> {
    let cold = env::var_os("BENCH_COLD").is_some();
    let max = number("BENCH_MAX").unwrap_or(if cfg!(target_pointer_width = "64") { 7 } else { 5 });
    let serialize = (0..100).map(|_| time_on_cpu(per_ns, || Serializer::default().serialize()));
    println!(
        "Nanoseconds per site, {} bit{}; to serialize once takes {:.0} ns.\n",
        usize::BITS,
        if cold { ", nothing in the caches" } else { "" },
        serialize.fold(f64::INFINITY, f64::min)
    );
    println!(
        "| sites | apply | sites/s | (a) bare stores | apply ÷ (a) | accesses alone | apply ÷ accesses | (b) one at a time | (c) static-keys |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut rows = Vec::new();
    for power in number("BENCH_MIN").unwrap_or(2)..=max {
        let least = measure(power, per_ns, cold);
        let Least { apply, bare, accesses, one_at_a_time, keys, .. } = least;
        let or_dash =
            |value: f64| if value.is_finite() { format!("{value:.0}") } else { "–".into() };
        println!(
            "| 10^{power} | {apply:.1} | {:.1} M | {bare:.2} | {:.1} | {accesses:.2} | {:.2} | {} | {} |",
            1e3 / apply,
            apply / bare,
            apply / accesses,
            or_dash(one_at_a_time),
            or_dash(keys)
        );
        rows.push((power, least));
    }
    println!(
        "\nRecords in random order; first: the site set was not checked before.\n\n\
         | sites | sorted | shuffled, first | shuffled, again | first ÷ sorted | again ÷ sorted | accesses alone, shuffled | first ÷ those |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (power, least) in rows.iter().filter(|(power, _)| *power <= MOST_SHUFFLED) {
        let Least { apply, shuffled, shuffled_again, shuffled_accesses, .. } = least;
        println!(
            "| 10^{power} | {apply:.1} | {shuffled:.1} | {shuffled_again:.1} | {:.2} | {:.2} | {shuffled_accesses:.1} | {:.2} |",
            shuffled / apply,
            shuffled_again / apply,
            shuffled / shuffled_accesses,
        );
    }
    println!();
    rows
}

fn plots(criterion: &mut Criterion<Ticks>) {
    let mut group = criterion.benchmark_group("apply");
    for power in 2..=5 {
        let text = text(power, Order::Sorted);
        let mut patcher = text.patcher();
        group.throughput(Throughput::Elements(text.count as u64));
        group.bench_function(BenchmarkId::new("patchlet", text.count), |bencher| {
            // SAFETY: nobody executes this text.
            bencher.iter_custom(|times| {
                (0..times)
                    .map(|_| {
                        unsafe { text::bare(&text) };
                        support::time(|| apply(&mut patcher))
                    })
                    .sum()
            });
        });
        group.bench_function(BenchmarkId::new("bare stores", text.count), |bencher| {
            // SAFETY: nobody executes this text.
            bencher.iter(|| unsafe { text::bare(&text) });
        });
    }
}

fn main() {
    let per_ns = support::ticks_per_ns();
    if !support::only_a_test() {
        let rows = table(per_ns);
        if let Some(path) = env::var_os("BENCH_CHART") {
            let line = |name, value: fn(&Least) -> f64| {
                let points = rows.iter().map(|(power, least)| {
                    let count = 10_f64.powi(power.cast_signed());
                    (count, value(least) * count)
                });
                (name, points.filter(|(_, ns)| ns.is_finite()).collect())
            };
            let lines = [
                line("patchlet", |least| least.apply),
                line("(a) bare stores", |least| least.bare),
                line("accesses alone", |least| least.accesses),
                line("(b) one at a time", |least| least.one_at_a_time),
                line("(c) static-keys", |least| least.keys),
            ];
            chart::write(path.as_ref(), &lines).expect("the chart is written");
        }
    }
    if !support::only_tables() {
        let mut criterion = support::criterion();
        plots(&mut criterion);
        criterion.final_summary();
    }
}
