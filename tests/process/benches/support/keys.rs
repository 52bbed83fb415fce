//! Branches of `static-keys`: ten in each instance of a generic function, and up to a thousand
//! instances. More would make a program of more than a hundred megabytes, because the branches are
//! scattered like the sites.

use std::hint::black_box;
use std::sync::Once;

use static_keys::{define_static_key_false, static_branch_unlikely};

use crate::support::time_on_cpu;

define_static_key_false!(HUNDRED);
define_static_key_false!(THOUSAND);
define_static_key_false!(TEN_THOUSAND);

macro_rules! branches {
    ($name:ident, $key:ident) => {
        fn $name<const INSTANCE: usize>() -> usize {
            let mut taken = INSTANCE;
            branches!(@ $key, taken, 0 1 2 3 4 5 6 7 8 9);
            taken
        }
    };
    (@ $key:ident, $taken:ident, $($number:literal)*) => {
        $(
            if static_branch_unlikely!($key) {
                $taken += 1 + $number;
            }
            // SAFETY: the jump skips the filler, which is only there for the distance.
            unsafe { std::arch::asm!("jmp 2f", ".skip 1060, 0xcc", "2:") };
        )*
    };
}

branches!(hundred, HUNDRED);
branches!(thousand, THOUSAND);
branches!(ten_thousand, TEN_THOUSAND);

macro_rules! ten {
    ($name:ident, $base:expr) => {
        [
            $name::<{ $base }>,
            $name::<{ $base + 1 }>,
            $name::<{ $base + 2 }>,
            $name::<{ $base + 3 }>,
            $name::<{ $base + 4 }>,
            $name::<{ $base + 5 }>,
            $name::<{ $base + 6 }>,
            $name::<{ $base + 7 }>,
            $name::<{ $base + 8 }>,
            $name::<{ $base + 9 }>,
        ]
    };
}
macro_rules! hundred {
    ($name:ident, $base:expr) => {
        [
            ten!($name, $base),
            ten!($name, $base + 10),
            ten!($name, $base + 20),
            ten!($name, $base + 30),
            ten!($name, $base + 40),
            ten!($name, $base + 50),
            ten!($name, $base + 60),
            ten!($name, $base + 70),
            ten!($name, $base + 80),
            ten!($name, $base + 90),
        ]
    };
}

type Ten = [fn() -> usize; 10];

static INSTANCES: (Ten, [Ten; 10], [[Ten; 10]; 10]) = (
    ten!(hundred, 0),
    hundred!(thousand, 0),
    [
        hundred!(ten_thousand, 0),
        hundred!(ten_thousand, 100),
        hundred!(ten_thousand, 200),
        hundred!(ten_thousand, 300),
        hundred!(ten_thousand, 400),
        hundred!(ten_thousand, 500),
        hundred!(ten_thousand, 600),
        hundred!(ten_thousand, 700),
        hundred!(ten_thousand, 800),
        hundred!(ten_thousand, 900),
    ],
);

/// Returns the nanoseconds that enabling 10 to this power branches takes, or `None` if there are
/// not so many.
pub fn toggle(power: u32, per_ns: f64) -> Option<f64> {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        black_box(&INSTANCES);
        static_keys::global_init();
    });
    let key = match power {
        2 => &HUNDRED,
        3 => &THOUSAND,
        4 => &TEN_THOUSAND,
        _ => return None,
    };
    // SAFETY: this is the only thread.
    let elapsed = time_on_cpu(per_ns, || unsafe { key.enable() });
    // SAFETY: as above.
    unsafe { key.disable() };
    Some(elapsed)
}
