//! The benchmark of one op, in cycles. It compares the indirect call through the table, a direct
//! call, the patched site, and the same instruction written as plain `asm!` in the same loop. A
//! loop has one op per turn, as usual code does, or sixteen in a row, so that no other work hides
//! the cost of NOPs.
//!
//! A second table compares ways to call a function that is not known before the program runs.
//!
//! First come the tables, all of whose figures are of one run. The states and the loops are measured
//! in turns, round after round, each loop at eight places in memory. The best result counts,
//! because other work of the machine can only add time. Then criterion measures the same loops one
//! after the other, for its plots.

#[path = "support/mod.rs"]
mod support;

use std::arch::asm;
use std::hint::black_box;

use criterion::Criterion;
use patchlet::ops::Target;
use patchlet::{OneCpu, Patcher, SecondMapping, pv};
use patchlet_process::{own_ops, remap};
use support::{Ticks, time};

/// The number of ops per measurement.
const CALLS: u32 = 1024;
/// The number of rounds through all states.
const ROUNDS: usize = 15;
/// The number of measurements of a loop in each round.
const SAMPLES: usize = 5;

/// A loop at eight places in memory.
type Places = [fn() -> u64; 8];

/// The loops of one way to do an op: with one op per turn, and with sixteen.
struct Loops {
    one: Places,
    sixteen: Places,
}

macro_rules! loops {
    ($call:expr) => {{
        #[inline(never)]
        fn one<const PLACE: usize>() -> u64 {
            // SAFETY: NOPs.
            unsafe { asm!(".skip {}, 0x90", const PLACE * 8) };
            time(|| {
                for _ in 0..black_box(CALLS) {
                    $call;
                }
            })
        }
        #[inline(never)]
        fn sixteen<const PLACE: usize>() -> u64 {
            // SAFETY: NOPs.
            unsafe { asm!(".skip {}, 0x90", const PLACE * 8) };
            time(|| {
                for _ in 0..black_box(CALLS / 16) {
                    loops!(@four $call; $call; $call; $call);
                }
            })
        }
        Loops { one: loops!(@places one), sixteen: loops!(@places sixteen) }
    }};
    (@four $($call:expr);*) => {
        $($call; $call; $call; $call;)*
    };
    (@places $f:ident) => {
        [$f::<0>, $f::<1>, $f::<2>, $f::<3>, $f::<4>, $f::<5>, $f::<6>, $f::<7>]
    };
}

// Behind the macro, which it uses.
#[path = "support/calls.rs"]
mod calls;

use calls::call_ops;

patchlet::site_set! {
    static SITES = [pv, own_ops, call_ops];
}

/// An op in three ways: as a site, as plain `asm!`, and as `asm!` with the NOPs of the site.
struct Op {
    name: &'static str,
    site: Loops,
    plain: Loops,
    padded: Loops,
}

/// The lock byte of `queued_spin_unlock`.
static LOCK: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);

/// The instructions of one op, for both widths and with the operands of its site.
macro_rules! instruction {
    // SAFETY: the instructions push and pop one word. `asm!` without `nostack` makes the compiler
    // use no red zone.
    (save_fl, $nop:literal) => {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("pushfq", "popq %rax", $nop, lateout("rax") _, options(att_syntax));
            #[cfg(target_arch = "x86")]
            asm!("pushfl", "popl %eax", $nop, lateout("eax") _, options(att_syntax));
        }
    };
    // SAFETY: registers only.
    (ident, $nop:literal) => {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("movq %rdi, %rax", $nop, in("rdi") 5_u64, lateout("rax") _, options(att_syntax));
            #[cfg(target_arch = "x86")]
            asm!($nop, inlateout("eax") 5 => _, inlateout("edx") 0 => _, options(att_syntax));
        }
    };
    // SAFETY: the byte is the static `LOCK`.
    (queued_spin_unlock, $nop:literal) => {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("movb $0, (%rdi)", $nop, in("rdi") LOCK.as_ptr(), options(att_syntax));
            #[cfg(target_arch = "x86")]
            asm!("movb $0, (%eax)", $nop, in("eax") LOCK.as_ptr(), options(att_syntax));
        }
    };
    // SAFETY: registers only.
    (vcpu_is_preempted, $nop:literal) => {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("xorl %eax, %eax", $nop, in("rdi") 1_usize, lateout("rax") _, options(att_syntax));
            #[cfg(target_arch = "x86")]
            asm!("xorl %eax, %eax", $nop, inlateout("eax") 1_usize => _, options(att_syntax));
        }
    };
    // SAFETY: there is no instruction.
    (nothing, $nop:literal) => {
        unsafe { asm!($nop, options(att_syntax)) }
    };
}

/// Makes an op whose instructions have 0, 2 or 3 bytes. The rest of the site's six bytes are NOPs.
macro_rules! op {
    ($name:literal, $instruction:ident, 0, $site:expr) => {
        op!(@ $name, $instruction, ".byte 0x66, 0x0f, 0x1f, 0x44, 0, 0", $site)
    };
    ($name:literal, $instruction:ident, 2, $site:expr) => {
        op!(@ $name, $instruction, ".byte 0x0f, 0x1f, 0x40, 0", $site)
    };
    ($name:literal, $instruction:ident, 3, $site:expr) => {
        op!(@ $name, $instruction, ".byte 0x0f, 0x1f, 0", $site)
    };
    (@ $name:literal, $instruction:ident, $nop:literal, $site:expr) => {
        Op {
            name: $name,
            site: loops!($site),
            plain: loops!(instruction!($instruction, "")),
            padded: loops!(instruction!($instruction, $nop)),
        }
    };
}

fn ops() -> [Op; 5] {
    [
        op!("irq.save_fl", save_fl, 2, pv::save_fl()),
        #[cfg(target_arch = "x86_64")]
        op!("mmu.ident", ident, 3, pv::ident(5)),
        #[cfg(target_arch = "x86")]
        op!("mmu.ident", ident, 0, pv::ident(5)),
        // SAFETY: the byte is ours.
        op!("lock.queued_spin_unlock", queued_spin_unlock, 3, unsafe {
            pv::queued_spin_unlock(LOCK.as_ptr());
        }),
        op!("lock.vcpu_is_preempted", vcpu_is_preempted, 2, pv::vcpu_is_preempted(1)),
        // The slot of this op holds the no-op function, so that it may run in user mode.
        op!("no-op (irq.irq_disable)", nothing, 0, pv::irq_disable()),
    ]
}

// Copies of the native functions. Sites call them directly, because they are not what the slots
// hold by default.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    "bench_save_fl: pushfq; popq %rax; ret",
    "bench_ident: movq %rdi, %rax; ret",
    "bench_unlock: movb $0, (%rdi); ret",
    "bench_preempted: xorl %eax, %eax; ret",
    "bench_nothing: ret",
    options(att_syntax)
);
#[cfg(target_arch = "x86")]
std::arch::global_asm!(
    "bench_save_fl: pushfl; popl %eax; ret",
    "bench_ident: ret",
    "bench_unlock: movb $0, (%eax); ret",
    "bench_preempted: xorl %eax, %eax; ret",
    "bench_nothing: ret",
    options(att_syntax)
);
unsafe extern "C" {
    fn bench_save_fl();
    fn bench_ident();
    fn bench_unlock();
    fn bench_preempted();
    fn bench_nothing();
}

/// The state of the sites while they are measured.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Indirect,
    Direct,
    Patched,
}

const STATES: [(State, &str); 3] = [
    (State::Indirect, "indirect call"),
    (State::Direct, "direct call"),
    (State::Patched, "patched"),
];

struct Program {
    patcher: Patcher<'static, SecondMapping>,
}

impl Program {
    fn new() -> Self {
        let text = remap::text_with_sites().expect("there are sites");
        // SAFETY: `text` consists of whole pages, and this is the only call in the process.
        let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
        Self { patcher: Patcher::new(&SITES, platform) }
    }

    fn switch(&mut self, state: State) {
        let calls = [
            (pv::Id::save_fl, bench_save_fl as *const ()),
            (pv::Id::ident, bench_ident as *const ()),
            (pv::Id::queued_spin_unlock, bench_unlock as *const ()),
            (pv::Id::vcpu_is_preempted, bench_preempted as *const ()),
            (pv::Id::irq_disable, bench_nothing as *const ()),
        ];
        pv::reset();
        // SAFETY: the functions do what the native functions do. The last op is only used as one
        // that does nothing.
        unsafe { pv::install(&[(pv::Id::irq_disable, Target::NOP)]) };
        if state == State::Direct {
            let calls = calls.map(|(id, function)| (id, Target::function(function)));
            // SAFETY: as above.
            unsafe { pv::install(&calls) };
        }
        let patch = state != State::Indirect;
        // SAFETY: this is the only thread, and no signal handler has a site.
        let report =
            unsafe {
                OneCpu::assume(|cpu| {
                    if patch { self.patcher.apply(cpu) } else { self.patcher.revert(cpu) }
                })
            };
        report.expect("every site can be patched");
    }
}

fn best(places: &Places) -> u64 {
    let samples = places.iter().flat_map(|measure| (0..SAMPLES).map(|_| measure()));
    samples.min().unwrap_or(0)
}

/// Prints the least ticks of each op. The columns are the states, plain `asm!`, and padded `asm!`,
/// with one op per turn and with sixteen. Then prints those of each way to call.
fn table(program: &mut Program) {
    let ops = ops();
    let mut least = [[[u64::MAX; 2]; 5]; 5];
    calls::init();
    let ways = calls::ways();
    let mut least_of_calls = [[u64::MAX; 2]; 7];
    let mut cycle = f64::INFINITY;
    for _ in 0..ROUNDS {
        for (column, (state, _)) in STATES.into_iter().enumerate() {
            program.switch(state);
            cycle = cycle.min(support::ticks_per_cycle());
            for (op, least) in ops.iter().zip(&mut least) {
                let ways = [(column, &op.site), (3, &op.plain), (4, &op.padded)];
                for (column, loops) in ways {
                    let found = [best(&loops.one), best(&loops.sixteen)];
                    least[column] = [0, 1].map(|way| least[column][way].min(found[way]));
                }
            }
            let is_patched = state != State::Indirect;
            for (way, least) in ways.iter().zip(&mut least_of_calls) {
                if way.is_patched.is_none_or(|wanted| wanted == is_patched) {
                    let found = [best(&way.loops.one), best(&way.loops.sixteen)];
                    *least = [0, 1].map(|way| least[way].min(found[way]));
                }
            }
        }
    }
    println!(
        "Cycles per op, {} bit; {cycle:.3} ticks of the time stamp counter are one cycle.",
        usize::BITS
    );
    for (way, title) in [(0, "once per turn of a loop"), (1, "sixteen back to back")] {
        println!(
            "\n| {title} | indirect call | direct call | patched | `asm!` | patched ÷ `asm!` | `asm!` with the NOPs | patched ÷ that |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|");
        for (op, least) in ops.iter().zip(&least) {
            let [indirect, direct, patched, plain, padded] =
                least.map(|ways| ways[way] as f64 / cycle / f64::from(CALLS));
            println!(
                "| {} | {indirect:.2} | {direct:.2} | {patched:.2} | {plain:.2} | {:.2} | {padded:.2} | {:.2} |",
                op.name,
                patched / plain,
                patched / padded
            );
        }
    }
    calls::print(&ways, &least_of_calls, cycle);
    println!();
}

/// Measures the same loops for criterion's plots.
fn plots(criterion: &mut Criterion<Ticks>, program: &mut Program) {
    for op in ops() {
        let mut group = criterion.benchmark_group(op.name);
        group.throughput(criterion::Throughput::Elements(CALLS.into()));
        let sites = STATES.into_iter().map(|(state, name)| (Some(state), name, &op.site));
        for (state, name, loops) in sites.chain([(None, "asm!", &op.plain)]) {
            if let Some(state) = state {
                program.switch(state);
            }
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| (0..times).map(|_| loops.one[0]()).sum());
            });
        }
    }
}

fn main() {
    let mut program = Program::new();
    if !support::only_a_test() {
        table(&mut program);
    }
    if !support::only_tables() {
        let mut criterion = support::criterion();
        plots(&mut criterion, &mut program);
        criterion.final_summary();
    }
}
