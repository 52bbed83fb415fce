//! What this kernel adds to the crate's patchlets and ops, as any kernel would:
//! its own `.S`, through the exported header, and a table beside the built-in one.

use patchlet::native;

patchlet::patchlets! {
    /// Those of `asm/own.S`.
    pub mod patchlets {
        invlpg,
        rdtsc,
    }
}

patchlet::ops! {
    /// What else a hypervisor may replace here.
    pub mod ops as "test_kernel_ops" {
        tlb {
            /// Forgets the translation of one page.
            flush_page: callee_save fn(address: usize) = patchlet patchlets::invlpg;
        }
        time {
            /// The low half of the time-stamp counter.
            ticks_low: c fn() -> usize = patchlet patchlets::rdtsc;
        }
        // What is switched while other CPUs run: a patchlet of one instruction, and one of two,
        // between which a CPU can be interrupted. They stand for nothing.
        live {
            /// 0.
            zero: callee_save fn(argument: usize) -> usize = patchlet native::vcpu_is_preempted;
            /// The flags.
            flags: callee_save fn(argument: usize) -> usize = patchlet native::save_fl;
        }
    }
}
