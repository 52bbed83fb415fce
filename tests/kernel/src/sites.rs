//! More than a thousand sites: 256 instances of a generic function, each with its own copies of the
//! sites. Further sites are in the driver crate and in assembly.

use driver::LockByte;
use patchlet::pv;

/// Uses several ops. The result differs from instance to instance, and shows whether every op did
/// what it does natively.
#[inline(never)]
fn instance<const N: u64>() -> u64 {
    let mut lock: LockByte = 1;
    let number = driver::without_interrupts(|| pv::ident(N));
    // SAFETY: `lock` is a local variable, which this CPU holds.
    unsafe { pv::queued_spin_unlock(&raw mut lock) };
    let held = u64::from(lock) << 32;
    let preempted = u64::from(pv::vcpu_is_preempted(N as usize)) << 33;
    number ^ held ^ preempted ^ driver::translate::<1>(N ^ 5) ^ N ^ 5
}

macro_rules! instances {
    ($($high:literal)*) => {
        [$(row!($high)),*]
    };
}

macro_rules! row {
    ($high:literal) => {
        [
            instance::<{ $high * 16 }>,
            instance::<{ $high * 16 + 1 }>,
            instance::<{ $high * 16 + 2 }>,
            instance::<{ $high * 16 + 3 }>,
            instance::<{ $high * 16 + 4 }>,
            instance::<{ $high * 16 + 5 }>,
            instance::<{ $high * 16 + 6 }>,
            instance::<{ $high * 16 + 7 }>,
            instance::<{ $high * 16 + 8 }>,
            instance::<{ $high * 16 + 9 }>,
            instance::<{ $high * 16 + 10 }>,
            instance::<{ $high * 16 + 11 }>,
            instance::<{ $high * 16 + 12 }>,
            instance::<{ $high * 16 + 13 }>,
            instance::<{ $high * 16 + 14 }>,
            instance::<{ $high * 16 + 15 }>,
        ]
    };
}

/// All instances, indexed by their number in two digits.
static INSTANCES: [[fn() -> u64; 16]; 16] = instances!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// The number of instances.
pub const COUNT: usize = 16 * 16;

/// Runs every instance, and checks that each does what it does natively.
pub fn run_natively() {
    for (number, instance) in INSTANCES.iter().flatten().enumerate() {
        assert_eq!(instance(), number as u64, "instance {number}");
    }
}

/// Runs every instance and ignores the results.
pub fn run() {
    for instance in INSTANCES.iter().flatten() {
        core::hint::black_box(instance());
    }
}
