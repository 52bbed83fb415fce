//! The layer of a made-up hypervisor. It has a virtual interrupt flag, shadow registers, and a
//! counter of the calls of every op.

use core::{
    arch::asm,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use patchlet::{ops::Target, pv};

use crate::{cpu, live_sites, own, signatures};

/// The virtual interrupt flag, as a bit of EFLAGS.
pub static FLAGS: AtomicUsize = AtomicUsize::new(0);
/// The shadow of CR3.
pub static CR3: AtomicUsize = AtomicUsize::new(0);
/// The value that CR2 reads as.
pub const CR2: usize = 0x00c0_ffee;
/// The value that the lock byte is set to on release. It differs from the native one, 0.
pub const RELEASED: u8 = 0x5a;

macro_rules! counters {
    ($($name:ident)*) => {
        /// The number of calls of one op.
        #[allow(non_upper_case_globals)]
        pub mod calls {
            use core::sync::atomic::AtomicUsize;
            $(pub static $name: AtomicUsize = AtomicUsize::new(0);)*
            /// Returns the sum over all ops whose slots hold Rust functions.
            pub fn all() -> usize {
                [$(&$name),*].iter().map(|calls| calls.load(super::Relaxed)).sum()
            }
        }
    };
}

counters! {
    irq_disable irq_enable save_fl restore_fl read_cr2 read_cr3 write_cr3 wbinvd ident
    queued_spin_unlock vcpu_is_preempted safe_halt halt flush_page ticks_low
}

// The functions of these ops are in asm/own.S, and count their calls there.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
pub static guest_swapgs_calls: AtomicUsize = AtomicUsize::new(0);
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
pub static guest_sysret_calls: AtomicUsize = AtomicUsize::new(0);
#[cfg(target_arch = "x86")]
#[unsafe(no_mangle)]
pub static guest_iret_calls: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    #[cfg(target_arch = "x86_64")]
    fn guest_swapgs();
    #[cfg(target_arch = "x86_64")]
    fn guest_sysret();
    #[cfg(target_arch = "x86")]
    fn guest_iret();
}

fn count(calls: &AtomicUsize) {
    calls.fetch_add(1, Relaxed);
}

/// Changes every register that C may change. Otherwise `asm_changed_registers` could pass although
/// a thunk does not save a register, because the function happens not to change it.
fn change_registers() {
    // SAFETY: every register that is changed is declared as clobbered.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "xor esi, esi",
            "xor edi, edi",
            "xor r8, r8",
            "xor r9, r9",
            "xor r10, r10",
            "xor r11, r11",
            clobber_abi("C"),
            options(nomem, nostack),
        );
        asm!(
            "xor eax, eax",
            "xor ecx, ecx",
            "xor edx, edx",
            clobber_abi("C"),
            options(nomem, nostack),
        );
    }
}

patchlet::slot_fn! {
    const IRQ_DISABLE = callee_save fn() {
        count(&calls::irq_disable);
        FLAGS.store(0, Relaxed);
        change_registers();
    };
    const IRQ_ENABLE = callee_save fn() {
        count(&calls::irq_enable);
        FLAGS.store(cpu::FLAGS_IF, Relaxed);
    };
    pub const SAVE_FL = callee_save fn() -> usize {
        count(&calls::save_fl);
        FLAGS.load(Relaxed)
    };
    const RESTORE_FL = callee_save fn(flags: usize) {
        count(&calls::restore_fl);
        FLAGS.store(flags & cpu::FLAGS_IF, Relaxed);
    };
    const READ_CR2 = callee_save fn() -> usize {
        count(&calls::read_cr2);
        CR2
    };
    const READ_CR3 = c fn() -> usize {
        count(&calls::read_cr3);
        CR3.load(Relaxed)
    };
    const WRITE_CR3 = c fn(cr3: usize) {
        count(&calls::write_cr3);
        CR3.store(cr3, Relaxed);
    };
    const IDENT = callee_save fn(value: u64) -> u64 {
        count(&calls::ident);
        !value
    };
    const UNLOCK = callee_save fn(lock: *mut u8) {
        count(&calls::queued_spin_unlock);
        // SAFETY: by the contract of `queued_spin_unlock`, `lock` is valid for writes.
        unsafe { lock.write_volatile(RELEASED) };
    };
    const PREEMPTED = callee_save fn(cpu: usize) -> bool {
        count(&calls::vcpu_is_preempted);
        cpu & 1 == 1
    };
    const SAFE_HALT = callee_save fn() {
        count(&calls::safe_halt);
        FLAGS.store(cpu::FLAGS_IF, Relaxed);
    };
    const HALT = callee_save fn() {
        count(&calls::halt);
    };
    const FLUSH_PAGE = callee_save fn(_address: usize) {
        count(&calls::flush_page);
    };
    const TICKS_LOW = c fn() -> usize {
        count(&calls::ticks_low);
        42
    };
}

#[cfg(target_arch = "x86_64")]
patchlet::slot_fn! {
    const WBINVD = c fn() {
        count(&calls::wbinvd);
    };
}

/// Puts the functions of this layer into the slots of every op of both tables.
pub fn install() {
    // SAFETY: each function does what its op is for, those in assembly and those for live
    // switches as their class says, and all are part of the kernel.
    unsafe {
        pv::install(&[
            pv::slot::irq_disable.holds(IRQ_DISABLE),
            pv::slot::irq_enable.holds(IRQ_ENABLE),
            pv::slot::save_fl.holds(SAVE_FL),
            pv::slot::restore_fl.holds(RESTORE_FL),
            pv::slot::read_cr2.holds(READ_CR2),
            pv::slot::read_cr3.holds(READ_CR3),
            pv::slot::write_cr3.holds(WRITE_CR3),
            pv::slot::ident.holds(IDENT),
            pv::slot::queued_spin_unlock.holds(UNLOCK),
            pv::slot::vcpu_is_preempted.holds(PREEMPTED),
            pv::slot::safe_halt.holds(SAFE_HALT),
            pv::slot::halt.holds(HALT),
            #[cfg(target_arch = "x86_64")]
            pv::slot::wbinvd.holds(WBINVD),
            #[cfg(target_arch = "x86_64")]
            (pv::Id::swapgs, Target::function(guest_swapgs as *const ())),
            #[cfg(target_arch = "x86_64")]
            (pv::Id::usergs_sysret64, Target::function(guest_sysret as *const ())),
            #[cfg(target_arch = "x86")]
            (pv::Id::iret, Target::function(guest_iret as *const ())),
        ]);
        own::ops::install(&[
            own::ops::slot::flush_page.holds(FLUSH_PAGE),
            own::ops::slot::ticks_low.holds(TICKS_LOW),
            own::ops::slot::mix.holds(signatures::mix::<1>),
            own::ops::slot::largest.holds(signatures::largest_as_guest),
            (own::ops::Id::zero, live_sites::A),
            (own::ops::Id::flags, live_sites::A),
        ]);
    }
}
