//! The built-in table.

use crate::patchlet::native;

crate::ops! {
    /// The built-in ops table: the ops of the native set.
    ///
    /// The functions are patch sites. Before patching they go through the table
    /// and work; after it they are the instructions themselves.
    pub mod pv as "patchlet_pv_ops" {
        irq {
            /// Keeps external interrupts off this CPU (`cli`).
            irq_disable: callee_save fn() = patchlet native::irq_disable;
            /// Lets external interrupts in (`sti`).
            ///
            /// The instruction STI holds interrupts off until the next instruction has
            /// been executed. That shadow ends inside the site, which has more bytes than
            /// `sti`: an interrupt can be taken before the first instruction behind the
            /// op. Code that relies on the pair has to be one op: [`safe_halt`] for
            /// `sti; hlt`, an op of the kernel's own for `sti; mwait`, `sti; sysexit` and
            /// `sti; ret` (see [two instructions that belong
            /// together](crate::guide::neighbours)).
            irq_enable: callee_save fn() = patchlet native::irq_enable;
            /// Reads RFLAGS (EFLAGS). Bit 9 is IF.
            save_fl: callee_save fn() -> usize = patchlet native::save_fl;
            /// Writes RFLAGS (EFLAGS), usually to a value of [`save_fl`].
            ///
            /// # Safety
            /// - `flags` has the direction flag clear, and no flag that the code
            ///   behind the call does not expect (TF, AC, IOPL, NT).
            restore_fl: callee_save unsafe fn(flags: usize) = patchlet native::restore_fl;
        }
        mmu {
            /// Reads CR2, the linear address of the last page fault.
            read_cr2: callee_save fn() -> usize = patchlet native::read_cr2;
            /// Reads CR3: the physical address of the top page table, and flags.
            read_cr3: c fn() -> usize = patchlet native::read_cr3;
            /// Writes CR3, and with it flushes non-global translations.
            ///
            /// # Safety
            /// - `cr3` names page tables that map everything this CPU goes on to
            ///   use, as it used it before.
            write_cr3: c unsafe fn(cr3: usize) = patchlet native::write_cr3;
            /// The identity; hypervisors replace it where page-table entries need
            /// translating between what the kernel means and what hardware sees.
            #[cfg(target_arch = "x86_64")]
            ident: callee_save fn(value: u64) -> u64 = patchlet native::ident_64;
            /// The identity; hypervisors replace it where page-table entries need
            /// translating between what the kernel means and what hardware sees.
            #[cfg(target_arch = "x86")]
            ident: callee_save fn(value: u64) -> u64 = assembly "patchlet_ident";
        }
        lock {
            /// Releases a spinlock: stores 0 to its byte.
            ///
            /// # Safety
            /// - `lock` points to the lock's byte, valid for writes;
            /// - this CPU holds the lock.
            queued_spin_unlock: callee_save unsafe fn(lock: *mut u8) = patchlet native::queued_spin_unlock;
            /// Whether the virtual CPU of this number is off its core, so that
            /// waiting for it is in vain. On bare metal: no.
            vcpu_is_preempted: callee_save fn(cpu: usize) -> bool = patchlet native::vcpu_is_preempted;
        }
        cpu {
            /// Writes all caches back and invalidates them. Slow: milliseconds.
            #[cfg(target_arch = "x86_64")]
            wbinvd: c fn() = patchlet native::wbinvd;
            /// Exchanges the GS bases. From assembly: `PATCHLET_CALL swapgs`.
            #[cfg(target_arch = "x86_64")]
            swapgs: assembly = patchlet native::swapgs;
            /// Back to user mode: `PATCHLET_JMP usergs_sysret64`.
            #[cfg(target_arch = "x86_64")]
            usergs_sysret64: assembly = patchlet native::usergs_sysret64;
            /// Back from an interrupt: `PATCHLET_JMP iret`.
            #[cfg(target_arch = "x86")]
            iret: assembly = patchlet native::iret;
        }
        // Behind all others, which keep the indices that assembly was built with.
        irq {
            /// Lets external interrupts in and sleeps until one comes (`sti; hlt`).
            ///
            /// An idle loop looks for work with interrupts off and calls this if there is
            /// none. An interrupt that came in between is still pending and wakes the CPU.
            /// [`irq_enable`] followed by [`halt`] would take it before `hlt`, and then
            /// sleep until the next one.
            ///
            /// A CPU that sleeps is inside the site: its return address is behind `hlt`,
            /// before the NOPs. Before the site is switched live, each CPU must have left
            /// its idle loop.
            safe_halt: callee_save fn() = patchlet native::safe_halt;
            /// Sleeps until an interrupt comes (`hlt`); with interrupts off, until an NMI,
            /// an SMI, INIT or a reset comes. What [`safe_halt`] says about live switches
            /// is true of it as well.
            halt: callee_save fn() = patchlet native::halt;
        }
    }
}
