//! Checks the layer for unit tests on the build machine, of which this test is one. Every op that
//! has a function is used, and none may end the process.
#![allow(unsafe_code)]

use patchlet::pv;

/// Runs before `main`, as the guide has it.
#[used]
#[unsafe(link_section = ".init_array")]
static OPS_FOR_TESTS: extern "C" fn() = {
    extern "C" fn install() {
        // SAFETY: a test program is a process.
        unsafe { patchlet::ops::install_for_user_mode() }
    }
    install
};

#[test]
fn every_op_can_be_used_in_a_process() {
    let flags = pv::save_fl();
    pv::irq_disable();
    pv::irq_enable();
    pv::safe_halt();
    pv::halt();
    #[cfg(target_arch = "x86_64")]
    pv::wbinvd();
    let mut lock = 1;
    // SAFETY: the flags from above; a number that nothing uses as page tables; a byte of this
    // function.
    unsafe {
        pv::restore_fl(flags);
        pv::write_cr3(0x5000);
        pv::queued_spin_unlock(&raw mut lock);
    }
    assert_eq!((pv::read_cr2(), pv::read_cr3(), lock), (0, 0x5000, 0));
    assert!(!pv::vcpu_is_preempted(1));
    assert_eq!(pv::ident(7), 7);
}
