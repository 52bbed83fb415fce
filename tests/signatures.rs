//! Executes ops of every arity, with narrow and wide values and of both ABI classes. Every argument
//! must arrive in its register, extended, and every result must come back, cut to its type.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use patchlet::ops::Target;

/// Keeps each argument apart in one number: the digits of the result are the arguments.
fn digits(values: &[usize]) -> usize {
    values.iter().fold(0, |number, value| number * 10 + value)
}

extern "C" fn c_two(a: usize, b: *const u8) -> usize {
    digits(&[a, b.addr()])
}

unsafe extern "C" fn c_three(a: i8, b: bool, c: u16) -> isize {
    isize::from(a) * 1000 + isize::from(b) * 100 + c as isize
}

extern "C" fn c_nothing() {
    CALLS.fetch_add(1, Relaxed);
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Changes every register that C may change but for the result: a thunk must restore them.
fn change_registers() {
    black_box(std::array::from_fn::<u64, 16, _>(|at| black_box(at as u64) * 3));
}

patchlet::slot_fn! {
    const NONE = callee_save fn() -> u8 { change_registers(); 0xa5 };
    const ONE = callee_save fn(a: u8) -> i8 { change_registers(); a as i8 };
    const TWO = callee_save fn(a: i16, b: bool) -> i32 { change_registers(); i32::from(a) * 10 + i32::from(b) };
    const THREE = callee_save fn(a: usize, b: usize, c: usize) -> usize { change_registers(); digits(&[a, b, c]) };
    const POINTER = callee_save fn(a: *const u32, at: isize) -> *const u32 { change_registers(); a.wrapping_offset(at) };
    const FLAG = callee_save fn(a: u32) -> bool { change_registers(); a == 0xffff_fffe };
    const C_THREE = c fn(a: usize, b: u8, c: i8) -> isize { a as isize * 1000 + b as isize * 10 + c as isize };
}

#[cfg(target_arch = "x86_64")]
patchlet::slot_fn! {
    const SIX = callee_save fn(a: usize, b: usize, c: u8, d: u16, e: i32, f: usize) -> u64 {
        change_registers();
        digits(&[a, b, c.into(), d.into(), e as usize, f]) as u64
    };
    const WIDE = callee_save fn(a: u128, b: usize) -> u128 { change_registers(); a.rotate_left(4) ^ b as u128 };
    const LAST_WIDE = callee_save fn(a: usize, b: i128) -> i128 { change_registers(); b - a as i128 };
    const C_WIDE = c fn(a: u128) -> i128 { -(a as i128) };
}

#[cfg(target_arch = "x86")]
patchlet::slot_fn! {
    const WIDE = callee_save fn(a: u64, b: usize) -> u64 { change_registers(); a.rotate_left(4) ^ b as u64 };
    const LAST_WIDE = callee_save fn(a: usize, b: i64) -> i64 { change_registers(); b - a as i64 };
    const C_WIDE = c fn(a: u64) -> i64 { -(a as i64) };
}

#[cfg(target_arch = "x86_64")]
type Double = u128;
#[cfg(target_arch = "x86_64")]
type SignedDouble = i128;
#[cfg(target_arch = "x86")]
type Double = u64;
#[cfg(target_arch = "x86")]
type SignedDouble = i64;

// Functions whose registers are looked at from assembly, under the names that `assembly` has.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    // Each returns its argument's whole register.
    ".globl signatures_first, signatures_second, signatures_dirty",
    "signatures_first: movq %rdi, %rax; ret",
    "signatures_second: movq %rsi, %rax; ret",
    // All bits above the result are set, as the ABI allows.
    "signatures_dirty: movq $-256, %rax; ret",
    options(att_syntax)
);
#[cfg(target_arch = "x86")]
std::arch::global_asm!(
    ".globl signatures_first, signatures_second, signatures_dirty",
    "signatures_first: ret",
    "signatures_second: movl %edx, %eax; ret",
    "signatures_dirty: movl $-256, %eax; ret",
    options(att_syntax)
);

patchlet::ops! {
    mod many as "signatures_many" {
        saved {
            none: callee_save fn() -> u8 = slot_fn NONE;
            one: callee_save fn(a: u8) -> i8 = slot_fn ONE;
            two: callee_save fn(a: i16, b: bool) -> i32 = slot_fn TWO;
            three: callee_save fn(a: usize, b: usize, c: usize) -> usize = slot_fn THREE;
            pointer: callee_save fn(a: *const u32, at: isize) -> *const u32 = slot_fn POINTER;
            flag: callee_save fn(a: u32) -> bool = slot_fn FLAG;
            #[cfg(target_arch = "x86_64")]
            six: callee_save fn(a: usize, b: usize, c: u8, d: u16, e: i32, f: usize) -> u64 = slot_fn SIX;
            #[cfg(target_arch = "x86_64")]
            wide: callee_save fn(a: u128, b: usize) -> u128 = slot_fn WIDE;
            #[cfg(target_arch = "x86_64")]
            last_wide: callee_save fn(a: usize, b: i128) -> i128 = slot_fn LAST_WIDE;
            #[cfg(target_arch = "x86")]
            wide: callee_save fn(a: u64, b: usize) -> u64 = slot_fn WIDE;
            #[cfg(target_arch = "x86")]
            last_wide: callee_save fn(a: usize, b: i64) -> i64 = slot_fn LAST_WIDE;
        }
        given {
            two_of_c: c fn(a: usize, b: *const u8) -> usize = function c_two;
            three_of_c: c unsafe fn(a: i8, b: bool, c: u16) -> isize = function c_three;
            nothing: c fn() = function c_nothing;
            c_three: c fn(a: usize, b: u8, c: i8) -> isize = slot_fn C_THREE;
            #[cfg(target_arch = "x86_64")]
            c_wide: c fn(a: u128) -> i128 = slot_fn C_WIDE;
            #[cfg(target_arch = "x86")]
            c_wide: c fn(a: u64) -> i64 = slot_fn C_WIDE;
        }
        registers {
            signed_byte: callee_save fn(a: i8) -> usize = assembly "signatures_first";
            byte: callee_save fn(a: u8) -> usize = assembly "signatures_first";
            flag_in: callee_save fn(a: bool) -> usize = assembly "signatures_first";
            second: callee_save fn(a: usize, b: i16) -> usize = assembly "signatures_second";
            dirty_byte: callee_save fn() -> u8 = assembly "signatures_dirty";
            dirty_flag: callee_save fn() -> bool = assembly "signatures_dirty";
            dirty_short: c fn() -> i16 = assembly "signatures_dirty";
        }
    }
}

/// Uses values on both sides of each call, so that registers the op must keep are in use.
#[inline(never)]
fn call_all() {
    let [a, b, c] = black_box([1_usize, 2, 3]);
    assert_eq!(many::none(), 0xa5);
    assert_eq!(many::one(black_box(0x80)), -128);
    assert_eq!(many::two(black_box(-7), black_box(true)), -69);
    assert_eq!(many::three(a, b, c), 123);
    assert_eq!(many::three(c, b, a), 321);
    assert_eq!((a, b, c), (1, 2, 3));
    let words = [5_u32, 6, 7];
    assert_eq!(many::pointer(&raw const words[2], black_box(-1)), &raw const words[1]);
    assert_eq!(
        [many::flag(black_box(0xffff_fffe)), many::flag(black_box(0xffff_ffff))],
        [true, false]
    );

    let wide: Double = black_box(Double::MAX / 3);
    assert_eq!(many::wide(wide, b), wide.rotate_left(4) ^ 2);
    assert_eq!(many::last_wide(a, black_box(SignedDouble::MIN + 1)), SignedDouble::MIN);
    assert_eq!(many::c_wide(black_box(1)), -1);

    assert_eq!(many::two_of_c(a, std::ptr::without_provenance(2)), 12);
    // SAFETY: it is a function without duties.
    assert_eq!(unsafe { many::three_of_c(black_box(-5), black_box(true), black_box(7)) }, -4893);
    let before = CALLS.load(Relaxed);
    many::nothing();
    assert_eq!(CALLS.load(Relaxed), before + 1);
    assert_eq!(many::c_three(a, black_box(4), black_box(-6)), 1034);
}

#[test]
fn arguments_and_results_of_every_kind() {
    call_all();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn six_arguments() {
    let [a, f] = black_box([1_usize, 6]);
    assert_eq!(many::six(a, black_box(2), black_box(3), black_box(4), black_box(5), f), 123_456);
    assert_eq!((a, f), (1, 6));
}

/// Checks the upper bits of narrow values: a function in assembly finds an argument extended, and
/// may leave any bits above a result.
#[test]
fn narrow_values() {
    assert_eq!(many::signed_byte(black_box(-2)), usize::MAX - 1);
    assert_eq!(many::byte(black_box(0xfe)), 0xfe);
    assert_eq!(many::flag_in(black_box(true)), 1);
    assert_eq!(many::second(black_box(1), black_box(-1)), usize::MAX);
    assert_eq!((many::dirty_byte(), many::dirty_flag(), many::dirty_short()), (0, false, -256));
}

/// Checks that a typed slot takes functions of its op's class and signature.
#[test]
fn slots_by_name() {
    let pair: (many::Id, Target) = many::slot::three.holds(THREE);
    assert_eq!(pair, (many::Id::three, THREE.target()));
    assert_eq!(many::TABLE.get(many::Id::three as usize), Some(THREE.target()));
    assert_eq!(many::TABLE.ops()[many::Id::three as usize].native(), THREE.target());
}

std::arch::global_asm!(
    ".globl signatures_tail",
    "signatures_tail:",
    patchlet::site_text!(jmp, "signatures_many", dirty_flag),
    "ret",
    options(att_syntax),
);

/// Sites in a naked function and in `global_asm!`: they work, and each has its record.
#[test]
fn sites_by_text() {
    #[unsafe(naked)]
    extern "C" fn naked() -> usize {
        std::arch::naked_asm!(
            ".globl signatures_naked_site, signatures_wide_site",
            "signatures_naked_site:",
            patchlet::site_text!(call, "signatures_many", dirty_byte),
            "signatures_wide_site:",
            patchlet::site_text!(call, "signatures_many", dirty_byte, capacity = 16),
            "signatures_wide_site_end:",
            "ret",
            options(att_syntax),
        )
    }
    unsafe extern "C" {
        safe fn signatures_tail() -> usize;
        safe fn signatures_naked_site();
        safe fn signatures_wide_site();
    }
    assert_eq!([naked(), signatures_tail()], [usize::MAX - 255; 2]);

    let sites = patchlet::Sites::linked();
    for (site, id, capacity, kind) in [
        (signatures_naked_site as *const (), many::Id::dirty_byte, 6, patchlet::Kind::Call),
        (signatures_wide_site as *const (), many::Id::dirty_byte, 16, patchlet::Kind::Call),
        (signatures_tail as *const (), many::Id::dirty_flag, 6, patchlet::Kind::Jump),
    ] {
        let record = sites.find(site.addr()).expect("it has a record");
        assert_eq!(
            (record.number(), record.capacity(), record.kind()),
            (id as u16, capacity, Ok(kind))
        );
        assert_eq!(many::TABLE.index_of_slot(record.subject()), Some(id as usize));
    }
}
