//! The patchlets, blobs and ops that this kernel adds to those of the crate, as any kernel can:
//! patchlets and blobs in `.S` files of its own, by the exported header, and an ops table beside the
//! built-in one.

use patchlet::native;

use crate::signatures::{self, Block};

patchlet::patchlets! {
    /// The patchlets of `asm/own.S`.
    pub mod patchlets {
        invlpg,
        rdtsc,
    }
}

#[cfg(target_arch = "x86_64")]
patchlet::blobs! {
    /// The code in which other CPUs start, `asm/ap.S`.
    pub mod start {
        /// From real mode to Rust.
        start_cpu {
            offsets { protected, long, gdt }
            holes {
                gdt_address: u32,
                protected_address: u32,
                next_number: u32,
                stack_size: u32,
                stacks: u32,
                page_table: u32,
                long_address: u32,
                entry: u64,
            }
        }
    }
}

#[cfg(target_arch = "x86")]
patchlet::blobs! {
    /// The code in which other CPUs start, `asm/ap.S`.
    pub mod start {
        /// From real mode to Rust.
        start_cpu {
            offsets { protected, gdt }
            holes {
                gdt_address: u32,
                protected_address: u32,
                next_number: u32,
                stack_size: u32,
                stacks: u32,
                entry: u32,
            }
        }
    }
}

patchlet::blobs! {
    /// The blobs of `asm/hypercall.S`.
    pub mod hypervisor {
        /// A page of hypercalls.
        hypercall_page {
            offsets { intel_64, amd_64, intel_32, amd_32 }
            holes {
                intel_64_interface: u32,
                amd_64_interface: u32,
                intel_32_interface: u32,
                amd_32_interface: u32,
            }
        }
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
        any {
            /// Mixes arguments into a block.
            mix: extern_c fn(
                block: Block, a: u8, b: i16, c: u32, d: usize, e: usize, f: usize, g: i32,
            ) -> Block = function signatures::mix::<0>;
            /// Returns the largest word.
            largest: extern_c fn(block: &Block, how: u64) -> usize = function signatures::largest;
        }
    }
}
