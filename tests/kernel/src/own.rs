//! What this kernel adds to the crate's patchlets and ops, as any kernel would:
//! its own `.S`, through the exported header, and a table beside the built-in one.

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
    }
}
