//! The benchmark of a static branch that is off and on: `cargo bench --bench branch_cost`. Each loop
//! has sixteen branches in a chain of additions; the time is that of the quickest of many runs, for
//! one branch and its addition. What is compared with stands in the same process.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use patchlet::{OneCpu, Patcher, branch};
use patchlet_process::{PROCESS, remap};
use static_keys::{define_static_key_false, static_branch_unlikely};

patchlet::keys! {
    /// The key that is turned on between two measurements.
    static COST: off;
    /// A key whose branches are jumps as the assembler wrote them.
    static STARTS_ON: on;
}
define_static_key_false!(OTHER_CRATES);
static FLAG: AtomicBool = AtomicBool::new(false);

/// Adds 1, in a way that the compiler does not see through.
#[inline(always)]
fn step(x: usize) -> usize {
    let mut x = x;
    // SAFETY: changes one register.
    unsafe { std::arch::asm!("inc {}", inout(reg) x, options(pure, nomem, nostack)) };
    x
}

/// Adds 2, likewise: the side of a branch that is not usual.
#[inline(always)]
fn other(x: usize) -> usize {
    let mut x = x;
    // SAFETY: changes one register.
    unsafe { std::arch::asm!("add {}, 2", inout(reg) x, options(pure, nomem, nostack)) };
    x
}

/// Returns whether the code on the other side is to run, by a jump that is always taken. It has five
/// bytes, as a jump out of a function of some size has.
macro_rules! jump {
    () => {
        'jump: {
            // SAFETY: goes on at the label, and does nothing else.
            unsafe {
                std::arch::asm!(
                    ".byte 0xe9",
                    ".long {} - . - 4",
                    label { break 'jump true },
                    options(nomem, nostack, preserves_flags)
                );
            }
            false
        }
    };
}

/// Defines a function of sixteen branches by this condition, in a loop.
macro_rules! chain {
    ($name:ident, $condition:expr) => {
        #[inline(never)]
        fn $name(times: usize) -> usize {
            let mut x = 0;
            for _ in 0..times {
                chain!(@ x, $condition, [. . . .  . . . .  . . . .  . . . .]);
            }
            x
        }
    };
    (@ $x:ident, $condition:expr, [$($dot:tt)*]) => {
        $(
            let _ = stringify!($dot);
            if $condition {
                $x = other($x);
            }
            $x = step($x);
        )*
    };
}

chain!(no_branch, false);
chain!(by_key, branch!(COST));
chain!(as_assembled, branch!(unlikely STARTS_ON));
chain!(by_jump, jump!());
chain!(by_flag, FLAG.load(Relaxed));
chain!(by_other_crate, static_branch_unlikely!(OTHER_CRATES));

/// Returns the time of one branch in nanoseconds, and checks how much the chain adds for each.
fn time(chain: fn(usize) -> usize, adds: usize) -> f64 {
    const TIMES: usize = 2_000;
    let mut quickest = f64::INFINITY;
    for _ in 0..3_000 {
        let start = Instant::now();
        let sum = chain(black_box(TIMES));
        let took = start.elapsed();
        assert_eq!(sum, 16 * TIMES * adds);
        quickest = quickest.min(took.as_nanos() as f64 / (16 * TIMES) as f64);
    }
    quickest
}

fn main() {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    let mut patcher = Patcher::new(&PROCESS, platform);
    static_keys::global_init();
    let mut turn = |on| {
        let mut changes = [if on { COST.on() } else { COST.off() }];
        // SAFETY: the process has one thread.
        let report = unsafe { OneCpu::assume(|cpu| patcher.change(&mut changes, cpu)) };
        report.expect("changed");
        FLAG.store(on, Relaxed);
        // SAFETY: as above.
        unsafe { if on { OTHER_CRATES.enable() } else { OTHER_CRATES.disable() } };
    };
    turn(false);
    let none = time(no_branch, 1);
    let off = [by_key, by_flag, by_other_crate].map(|chain| time(chain, 1));
    turn(true);
    let jump = time(by_jump, 3);
    let on = [by_key, by_flag, by_other_crate].map(|chain| time(chain, 3));
    let assembled = time(as_assembled, 3);

    println!("| | off, ns | ÷ no branch | on, ns | ÷ a plain jump |");
    println!("|---|--:|--:|--:|--:|");
    println!("| no branch; a plain jump | {none:.3} | 1.00 | {jump:.3} | 1.00 |");
    let names = ["`branch!`", "an atomic flag", "`static-keys`"];
    for ((name, off), on) in names.into_iter().zip(off).zip(on) {
        println!("| {name} | {off:.3} | {:.2} | {on:.3} | {:.2} |", off / none, on / jump);
    }
    println!("| `branch!`, as assembled | – | – | {assembled:.3} | {:.2} |", assembled / jump);
}
