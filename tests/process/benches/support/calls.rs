//! Ways to call a function that is not known before the kernel runs: an op, patched and not, an op of
//! any signature, patched and not, a function pointer, and a trait object; beside them a plain direct
//! call. All of them end in a function of one addition.

use std::arch::asm;
use std::hint::black_box;
use std::mem::transmute;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::support::time;
use super::{CALLS, Loops};

// The function for C, and the same for an op of class `c`, which on 32 bit has its arguments in
// registers.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl bench_add, bench_add_in_registers",
    "bench_add: leaq (%rdi, %rsi), %rax; ret",
    "bench_add_in_registers: leaq (%rdi, %rsi), %rax; ret",
    options(att_syntax)
);
#[cfg(target_arch = "x86")]
std::arch::global_asm!(
    ".globl bench_add, bench_add_in_registers",
    "bench_add: movl 4(%esp), %eax; addl 8(%esp), %eax; ret",
    "bench_add_in_registers: leal (%eax, %edx), %eax; ret",
    options(att_syntax)
);
unsafe extern "C" {
    safe fn bench_add(a: usize, b: usize) -> usize;
}

patchlet::ops! {
    /// One addition, by both kinds of op.
    pub mod call_ops as "bench_call_ops" {
        add {
            /// Adds, with its site where it is used.
            at_the_site: c fn(a: usize, b: usize) -> usize = assembly "bench_add_in_registers";
            /// Adds, by a trampoline.
            by_trampoline: extern_c fn(a: usize, b: usize) -> usize = assembly "bench_add";
        }
    }
}

/// The pointer of the column "function pointer".
static POINTER: AtomicPtr<()> = AtomicPtr::new(bench_add as *mut ());

/// What a kernel calls its hypervisor's support by, if it does so by hand.
trait Layer: Sync {
    fn add(&self, a: usize, b: usize) -> usize;
}

struct Native;
struct Other;

impl Layer for Native {
    #[inline(never)]
    fn add(&self, a: usize, b: usize) -> usize {
        a + b
    }
}

impl Layer for Other {
    #[inline(never)]
    fn add(&self, a: usize, b: usize) -> usize {
        a ^ b
    }
}

static LAYER: OnceLock<&'static dyn Layer> = OnceLock::new();

/// Puts the layer in, which the compiler cannot know.
pub fn init() {
    let layers: [&'static dyn Layer; 2] = [&Native, &Other];
    // It stays as it is if the benchmark has put one in before.
    let _ = LAYER.set(layers[black_box(0)]);
}

/// One way to call.
pub struct Way {
    pub name: &'static str,
    /// Whether the sites are patched while this is measured; `None` if it has no site.
    pub is_patched: Option<bool>,
    pub loops: Loops,
}

/// Returns all ways, the plain direct call first.
pub fn ways() -> [Way; 7] {
    let way = |name, is_patched, loops| Way { name, is_patched, loops };
    [
        way("plain direct call", None, loops!(bench_add(1, 2))),
        way("op at its site, patched", Some(true), loops!(call_ops::at_the_site(1, 2))),
        way("op by trampoline, patched", Some(true), loops!(call_ops::by_trampoline(1, 2))),
        way("op at its site, not patched", Some(false), loops!(call_ops::at_the_site(1, 2))),
        way("op by trampoline, not patched", Some(false), loops!(call_ops::by_trampoline(1, 2))),
        way("function pointer", None, {
            loops!({
                // SAFETY: the pointer is that of a function of this type.
                let function = unsafe {
                    transmute::<*mut (), extern "C" fn(usize, usize) -> usize>(
                        POINTER.load(Relaxed),
                    )
                };
                function(1, 2)
            })
        }),
        way("`&dyn`, in a `OnceLock`", None, {
            loops!(LAYER.get().map(|layer| black_box(layer.add(1, 2))))
        }),
    ]
}

/// Prints the cycles of each way, and how many times as long as a plain direct call it takes.
/// `least` has the ticks of each: with one call per turn of a loop, and with sixteen.
pub fn print(ways: &[Way], least: &[[u64; 2]], cycle: f64) {
    let cycles = |ticks: u64| ticks as f64 / cycle / f64::from(CALLS);
    println!(
        "\n| a call | once per turn of a loop | ÷ plain | sixteen back to back | ÷ plain |\n\
         |---|--:|--:|--:|--:|"
    );
    for (way, &[one, sixteen]) in ways.iter().zip(least) {
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            way.name,
            cycles(one),
            one as f64 / least[0][0] as f64,
            cycles(sixteen),
            sixteen as f64 / least[0][1] as f64,
        );
    }
}
