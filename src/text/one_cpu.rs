//! The proof that one CPU runs.
//!
//! Unsafe code here switches interrupts off and on.
#![allow(unsafe_code)]

use core::marker::PhantomData;

/// The proof that one CPU runs, with interrupts off. It cannot leave the closure
/// in which that holds, so what is written under it is serialized before
/// interrupts come back:
///
/// ```compile_fail,E0521
/// # use patchlet::OneCpu;
/// let mut kept: Option<&OneCpu<'_>> = None;
/// // SAFETY: it is not compiled.
/// unsafe { OneCpu::assume(|cpu| kept = Some(cpu)) };
/// ```
#[derive(Debug)]
pub struct OneCpu<'a> {
    /// Neither `Send` nor `Sync`, and no longer than the closure.
    _here: PhantomData<*mut &'a ()>,
}

impl OneCpu<'_> {
    /// Switches interrupts off, calls `f`, and switches them on again if they
    /// were on.
    ///
    /// # Safety
    /// - the code runs in ring 0, on hardware or under a hypervisor that lets
    ///   `cli` through;
    /// - no other CPU executes code that has sites which are patched (at boot: none is started);
    /// - no NMI or machine-check handler that can come meanwhile uses a site;
    /// - nobody is inside such a site: no return address, this CPU's included, and no instruction
    ///   pointer of a suspended thread or an interrupted context is behind its first byte and before
    ///   its end. (No function that a site called may call this.)
    pub unsafe fn with_interrupts_off<R>(f: impl FnOnce(&OneCpu<'_>) -> R) -> R {
        let flags: usize;
        // SAFETY: reads the flags and clears IF, in ring 0 by the contract. Plain
        // instructions: an op here would be code that is being patched. AT&T
        // syntax, because in the other one `pushf` means 16 bits in 32-bit code.
        unsafe {
            core::arch::asm!("pushf", "pop {}", "cli", out(reg) flags, options(att_syntax));
        }
        let result = f(&OneCpu { _here: PhantomData });
        const IF: usize = 1 << 9;
        if flags & IF != 0 {
            // SAFETY: interrupts were on when this was called.
            unsafe { core::arch::asm!("sti") };
        }
        result
    }

    /// Calls `f`, taking the caller's word for it. For user processes with one
    /// thread, for guests in which `cli` is not what keeps interrupts off, and for
    /// modules whose text cannot be executed yet.
    ///
    /// # Safety
    /// During `f`
    /// - no other CPU or thread executes code that has sites which are patched;
    /// - no interrupt or signal handler that can come uses such a site;
    /// - nobody is inside such a site, as for [`with_interrupts_off`](Self::with_interrupts_off).
    pub unsafe fn assume<R>(f: impl FnOnce(&OneCpu<'_>) -> R) -> R {
        f(&OneCpu { _here: PhantomData })
    }
}
