//! A freestanding process with the crate's patchlets, and with sites in every place. It prints what
//! it finds in itself, patches itself, and prints whether everything still works. It has no C
//! library, because it is linked like a kernel.
#![no_std]
#![no_main]

mod out;
mod system;

use core::hint::black_box;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use out::Out;
use patchlet::{OneCpu, Patcher, Sites, Writable, native, pv, text::Report};
use second::{Method, NoSite, own, places};

patchlet::ops! {
    /// A second table, with an op that has no patchlet.
    pub mod main_ops as "matrix_main_slots" {
        own {
            /// Counts.
            tick: c fn() = function tick_natively;
        }
    }
}

static TICKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn tick_natively() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "C" {
    safe fn matrix_asm_call(value: usize) -> usize;
    safe fn matrix_asm_jump(value: usize) -> usize;
    safe fn matrix_asm_ident(value: usize) -> usize;
    #[cfg(with_c)]
    safe fn matrix_c_part(value: usize) -> usize;
}

/// Executes a site. The C part calls this function.
#[unsafe(no_mangle)]
pub extern "C" fn matrix_from_c(value: usize) -> usize {
    places::from_c(value)
}

#[cfg(not(with_c))]
fn matrix_c_part(value: usize) -> usize {
    matrix_from_c(value)
}

/// Executes a site of 16 bytes, which is written by hand.
#[inline(never)]
fn by_hand(value: usize) -> usize {
    let result: usize;
    // SAFETY: the operands are those of a callee-save op of one argument.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        patchlet::site_asm!(
            call,
            places::SLOTS,
            places::Id::by_hand as usize,
            capacity = 16,
            in("rdi") value,
            lateout("rax") result,
        );
        #[cfg(target_arch = "x86")]
        patchlet::site_asm!(
            call,
            places::SLOTS,
            places::Id::by_hand as usize,
            capacity = 16,
            inlateout("eax") value => result,
        );
    }
    result
}

/// Has sites that a process must not execute. They are patched like the others.
#[inline(never)]
fn privileged(execute: bool) {
    if black_box(execute) {
        pv::irq_disable();
        pv::irq_enable();
        // SAFETY: not executed.
        unsafe { pv::write_cr3(pv::read_cr3() ^ pv::read_cr2()) };
        #[cfg(target_arch = "x86_64")]
        pv::wbinvd();
    }
}

/// Returns a number to which every op contributes that a process may execute.
#[inline(never)]
fn effects() -> usize {
    let mut value: usize = black_box(0x1234_5678);
    let mut mix = |result: usize| value = value.rotate_left(5) ^ result;
    mix(second::inlined(1));
    mix(second::inlined(2));
    mix(second::generic::<0>(3));
    mix(second::generic::<1>(4));
    mix(second::generic::<2>(5));
    mix(second::generic::<3>(6));
    mix(second::plain(7));
    mix((0..4).map(|step| places::closure(black_box(step))).fold(0, usize::wrapping_add));
    let objects: [&dyn Method; 2] = [black_box(&second::Site), black_box(&NoSite)];
    for object in objects {
        mix(object.call(8));
    }
    mix(second::matrix_twin_a(9));
    mix(second::matrix_twin_b(10));
    mix(by_hand(11));
    mix(matrix_asm_call(12));
    #[cfg(target_arch = "x86_64")]
    mix(matrix_asm_jump(13));
    // There the patchlet reads the flags, of which some are as they are.
    #[cfg(target_arch = "x86")]
    mix(matrix_asm_jump(13) & 0x202);
    mix(matrix_asm_ident(14));
    mix(matrix_c_part(15));
    mix(pv::ident(0x1_0000_0003) as usize);
    let flags = pv::save_fl();
    // SAFETY: the flags as they are.
    unsafe { pv::restore_fl(flags) };
    mix(flags & 0x202);
    mix(usize::from(pv::vcpu_is_preempted(3)));
    let mut lock = 1_u8;
    // SAFETY: the lock's byte is ours.
    unsafe { pv::queued_spin_unlock(&raw mut lock) };
    mix(usize::from(black_box(lock)));
    main_ops::tick();
    value
}

fn describe(out: &mut Out) {
    for patchlet in native::ALL.iter().chain(own::ALL) {
        out.word("patchlet").word(patchlet.name());
        out.number(patchlet.bytes().as_ptr().addr());
        out.number((patchlet.native() as *const ()).addr());
        out.bytes(patchlet.bytes()).line();
    }
    out.word("table").number(Sites::linked().size()).line();
    for record in Sites::linked().records() {
        out.word("site").number(record.site()).number(record.subject());
        out.number(record.number().into()).number(record.capacity().into());
        out.number(record.kind().map_or(0xff, |kind| kind as usize)).line();
    }
}

patchlet::site_set! {
    static PROGRAM = [pv, places, main_ops];
}

fn report(out: &mut Out, title: &str, result: Result<Report, patchlet::Error>) {
    let Ok(report) = result else {
        out.word("failed").word(title).line();
        out.flush();
        system::exit(3);
    };
    // A native function that --icf folded with the identity's makes an identity.
    let inline = report.patchlets + report.identities + report.nops;
    out.word(title).number(report.sites).number(report.changed).number(inline);
    out.number(report.calls).number(report.indirect).line();
}

#[unsafe(no_mangle)]
extern "C" fn matrix_main(start: usize) -> ! {
    let mut out = Out::new();
    out.word("start").number(start).line();
    describe(&mut out);
    privileged(false);

    let before = effects();
    let records = Sites::linked().records();
    const PAGE: usize = 4096;
    let first = records.clone().map(|record| record.site()).min().unwrap_or(0) & !(PAGE - 1);
    let end = |record: &patchlet::site::Record| record.site() + usize::from(record.capacity());
    let text = first..records.map(end).max().unwrap_or(0).next_multiple_of(PAGE);
    out.word("writable").number(usize::from(system::make_writable(text.clone()))).line();
    // SAFETY: made writable above.
    let platform = unsafe { Writable::new(text) };
    let mut patcher = Patcher::new(&PROGRAM, platform);
    // SAFETY: the process has one thread and no signal handler.
    report(&mut out, "apply", unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) });
    let patched = effects();
    // SAFETY: as above.
    report(&mut out, "again", unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) });
    // SAFETY: as above.
    report(&mut out, "revert", unsafe { OneCpu::assume(|cpu| patcher.revert(cpu)) });
    let reverted = effects();
    out.word("effects").number(before).number(patched).number(reverted);
    out.number(TICKS.load(Ordering::Relaxed)).line();
    out.word("end").line();
    out.flush();
    system::exit(0)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    system::write(b"panic\n");
    system::exit(2)
}
