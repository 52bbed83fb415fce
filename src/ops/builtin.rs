//! The built-in table.

#[cfg(target_arch = "x86")]
use super::target::ident;
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
            /// Lets external interrupts in, after the next instruction (`sti`).
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
            ident: callee_save fn(value: u64) -> u64 = function ident;
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
    }
}
