//! The patchlets and ops that this kernel adds to those of the crate, as any kernel can: patchlets
//! in a `.S` file of its own, by the exported header, and an ops table beside the built-in one.

use patchlet::native;

patchlet::patchlets! {
    /// The patchlets of `asm/own.S`.
    pub mod patchlets {
        invlpg,
        rdtsc,
    }
}

patchlet::ops! {
    /// The ops that a hypervisor may replace besides the built-in ones.
    pub mod ops as "test_kernel_ops" {
        tlb {
            /// Forgets the translation of one page.
            flush_page: callee_save fn(address: usize) = patchlet patchlets::invlpg;
        }
        time {
            /// Returns the low half of the time-stamp counter.
            ticks_low: c fn() -> usize = patchlet patchlets::rdtsc;
        }
        // Ops for the test of live switches, without another meaning. The first has a patchlet of
        // one instruction, the second one of two, between which a CPU can be interrupted.
        live {
            /// Returns 0.
            zero: callee_save fn(argument: usize) -> usize = patchlet native::vcpu_is_preempted;
            /// Returns the flags.
            flags: callee_save fn(argument: usize) -> usize = patchlet native::save_fl;
        }
    }
}
