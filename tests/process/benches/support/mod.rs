//! Functions that the benchmarks share: a clock, rounds that are measured in turns, and criterion
//! in ticks of that clock.

#![allow(dead_code)] // Each benchmark uses its part.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};

/// Reads the time stamp counter. It ticks at a fixed rate, independently of the core's frequency.
/// The `LFENCE` keep the measured instructions between two readings.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86")]
    use std::arch::x86::{_mm_lfence, _rdtsc};
    #[cfg(target_arch = "x86_64")]
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every CPU that runs the benchmarks has RDTSC and LFENCE.
    unsafe {
        _mm_lfence();
        let now = _rdtsc();
        _mm_lfence();
        now
    }
}

/// Returns the ticks that `f` takes.
#[inline(always)]
pub fn time<R>(f: impl FnOnce() -> R) -> u64 {
    let start = ticks();
    std::hint::black_box(f());
    ticks() - start
}

/// Returns the nanoseconds that `f` takes, without those during which this thread was not on a CPU.
/// It is for work that takes longer than a turn of the scheduler, on a shared machine.
pub fn time_on_cpu<R>(ticks_per_ns: f64, f: impl FnOnce() -> R) -> f64 {
    let start = on_cpu();
    let elapsed = time(f) as f64 / ticks_per_ns;
    // The clock of the time on a CPU is too coarse for less than a millisecond.
    if elapsed < 1e6 { elapsed } else { elapsed.min((on_cpu() - start) as f64) }
}

/// Returns the nanoseconds for which this thread has been on a CPU.
fn on_cpu() -> u64 {
    // SAFETY: zeros are a valid `timespec`, and the system call fills it in.
    let now = unsafe {
        let mut now = std::mem::zeroed::<libc::timespec>();
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now);
        now
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Measures the ticks per nanosecond against the system's clock.
pub fn ticks_per_ns() -> f64 {
    let (start, from) = (std::time::Instant::now(), ticks());
    while start.elapsed() < Duration::from_millis(50) {}
    (ticks() - from) as f64 / start.elapsed().as_nanos() as f64
}

/// Measures the ticks per cycle of this core at this moment, by a chain of additions: on every x86
/// since the 486, an addition that waits for the one before it takes one cycle.
pub fn ticks_per_cycle() -> f64 {
    const ROUNDS: u32 = 1000;
    let best = (0..20).map(|_| time(dependent_additions)).min().unwrap_or(0);
    return best as f64 / f64::from(ROUNDS * 100);

    fn dependent_additions() {
        // SAFETY: registers only.
        unsafe {
            std::arch::asm!(
                "2:",
                ".rept 100",
                "add {sum:e}, {sum:e}",
                ".endr",
                "dec {count:e}",
                "jnz 2b",
                sum = inout(reg) 1_u32 => _,
                count = inout(reg) ROUNDS => _,
                options(nomem, nostack),
            );
        }
    }
}

/// Returns whether the benchmark only has to show that it runs (`cargo test --benches`).
pub fn only_a_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// Returns whether to leave out criterion (`BENCH_TABLES=1`).
pub fn only_tables() -> bool {
    std::env::var_os("BENCH_TABLES").is_some()
}

/// Returns criterion with short measurements, since it is for the plots only. The figures in the
/// documentation are those of the tables.
pub fn criterion() -> Criterion<Ticks> {
    Criterion::default()
        .with_measurement(Ticks)
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args()
}

/// A measurement in ticks, for criterion.
pub struct Ticks;

impl Measurement for Ticks {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        ticks()
    }

    fn end(&self, start: u64) -> u64 {
        ticks() - start
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Self
    }
}

impl ValueFormatter for Ticks {
    fn scale_values(&self, _: f64, _: &mut [f64]) -> &'static str {
        "ticks"
    }

    fn scale_throughputs(&self, _: f64, per: &Throughput, values: &mut [f64]) -> &'static str {
        let (Throughput::Elements(n) | Throughput::Bytes(n)) = *per else { return "ticks" };
        for value in values {
            *value /= n as f64;
        }
        "ticks/element"
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        "ticks"
    }
}
