//! A library for processes that patch themselves. It has a second mapping of text, ops of its own,
//! and sites in every place where a compiler puts them.

pub mod branches;
pub mod live;
pub mod remap;
pub mod sites;

use sites::tick;

patchlet::patchlets! {
    /// The patchlets of `asm/own.S`.
    pub mod own {
        swap_bytes,
        relax,
    }
}

patchlet::blobs! {
    /// The blobs of `asm/blobs.S`.
    pub mod blobs {
        /// A system call, and the return from a signal handler.
        stubs {
            offsets { system_call, signal_return }
            holes {
                /// The number of the system call.
                number: u32,
            }
        }
    }
}

patchlet::ops! {
    /// The ops of this process, beside the built-in ones.
    pub mod own_ops as "process_ops" {
        own {
            /// Reverses the bytes of `value`.
            swap_bytes: callee_save fn(value: usize) -> usize = patchlet own::swap_bytes;
            /// Tells the CPU that this is a waiting loop.
            relax: c fn() = patchlet own::relax;
            /// Adds 1 to a counter. The op has no patchlet.
            tick: c fn() = function tick;
        }
    }
}

patchlet::site_set! {
    /// Every site of the program that this crate is linked into.
    pub static PROCESS = [patchlet::pv, own_ops, patchlet::cpu_ops], branches;
}
