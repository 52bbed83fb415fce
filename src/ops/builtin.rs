//! The built-in ops table, `pv`. It is made by `ops!`, as are the tables of a kernel.

use crate::patchlet::native;

crate::ops! {
    /// The built-in ops table: the ops of the native set.
    ///
    /// Each function is inlined as a patch site. Before patching, the site calls through the
    /// table; after it, the site holds the instructions themselves.
    pub mod pv as "patchlet_pv_ops" {
        irq {
            /// Keeps external interrupts off this CPU (`cli`).
            irq_disable: callee_save fn() = patchlet native::irq_disable;
            /// Lets external interrupts in (`sti`).
            ///
            /// The instruction STI holds interrupts off until the next instruction has
            /// been executed (SDM vol. 2B, "STI"). Here that next instruction is still inside
            /// the site, which is longer than `sti`: an interrupt can be taken before the first
            /// instruction behind the op. Code that relies on the delay has to be one op:
            /// [`safe_halt`] for
            /// `sti; hlt`, an op of the kernel's own for `sti; mwait`, `sti; sysexit` and
            /// `sti; ret` (see [two instructions that belong
            /// together](crate::guide::neighbours)).
            irq_enable: callee_save fn() = patchlet native::irq_enable;
            /// Reads RFLAGS (EFLAGS). Bit 9 is the interrupt flag, IF.
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
            /// Reads CR3: the physical address of the root page table, with PCID or flags in
            /// its lowest 12 bits.
            read_cr3: c fn() -> usize = patchlet native::read_cr3;
            /// Writes CR3, and with it flushes non-global translations.
            ///
            /// # Safety
            /// - `cr3` names page tables that map everything this CPU goes on to
            ///   use, as it used it before.
            write_cr3: c unsafe fn(cr3: usize) = patchlet native::write_cr3;
            /// Returns its argument. A hypervisor's layer replaces it to translate page-table
            /// entries between the kernel's physical addresses and the machine's.
            #[cfg(target_arch = "x86_64")]
            ident: callee_save fn(value: u64) -> u64 = patchlet native::ident_64;
            /// Returns its argument. A hypervisor's layer replaces it to translate page-table
            /// entries between the kernel's physical addresses and the machine's.
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
            /// Returns whether the virtual CPU of this number does not run at present, so that
            /// spinning for a lock it holds is in vain. Natively false.
            vcpu_is_preempted: callee_save fn(cpu: usize) -> bool = patchlet native::vcpu_is_preempted;
        }
        cpu {
            /// Writes all modified cache lines back to memory and invalidates the caches
            /// (`wbinvd`). That takes milliseconds, with interrupts held off.
            #[cfg(target_arch = "x86_64")]
            wbinvd: c fn() = patchlet native::wbinvd;
            /// Exchanges the GS base with IA32_KERNEL_GS_BASE. Used from assembly:
            /// `PATCHLET_CALL swapgs`.
            #[cfg(target_arch = "x86_64")]
            swapgs: assembly = patchlet native::swapgs;
            /// Returns to user mode (`swapgs; sysretq`). Used from assembly:
            /// `PATCHLET_JMP usergs_sysret64`.
            #[cfg(target_arch = "x86_64")]
            usergs_sysret64: assembly = patchlet native::usergs_sysret64;
            /// Returns from an interrupt. Used from assembly: `PATCHLET_JMP iret`.
            #[cfg(target_arch = "x86")]
            iret: assembly = patchlet native::iret;
        }
        // A second group of this name, so that the ops above keep the indices that asm/site.h
        // and existing assembly have for them.
        irq {
            /// Lets external interrupts in and sleeps until one comes (`sti; hlt`).
            ///
            /// An idle loop looks for work with interrupts off and calls this op if there is
            /// none. An interrupt that came in between is still pending and wakes the CPU.
            /// With [`irq_enable`] followed by [`halt`], the CPU would handle that interrupt
            /// before `hlt` and then sleep until the next one.
            ///
            /// A CPU that sleeps here is inside the site: its return address is behind `hlt`,
            /// before the NOPs. Before the site is switched live, each CPU must have left
            /// its idle loop.
            safe_halt: callee_save fn() = patchlet native::safe_halt;
            /// Sleeps until an interrupt comes (`hlt`). With interrupts off, only an NMI, an SMI,
            /// INIT or a reset ends the sleep. What [`safe_halt`] says about live switches
            /// applies here as well.
            halt: callee_save fn() = patchlet native::halt;
        }
    }
}
