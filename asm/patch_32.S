/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The native set, 32-bit. Instructions and contracts only; the macros are in
 * patchlet.h. The mail that asked for this form: Ingo Molnar, 25 April 2019,
 * "Re: [patch 3/3] x86/paravirt: Replace paravirt patch asm magic".
 *
 * A contract reads: the op it replaces; inputs; outputs; what else it changes;
 * the privilege and CPU it needs. "Flags" are those of EFLAGS. It is data:
 * src/contract/ reads it, and tests/contract.rs proves it from the bytes.
 */
#if !defined(__i386__)
#error "asm/patch_32.S is for 32-bit targets; 64-bit ones use asm/patch_64.S"
#endif
#include "patchlet.h"

/* irq.irq_disable: no external interrupts on this CPU.
 * in: -   out: -   clobbers: -   flags: IF = 0
 * privilege: CPL <= IOPL   CPU: any */
PATCHLET(irq_disable)
	cli
END_PATCHLET(irq_disable)

/* irq.irq_enable: let external interrupts in. STI holds them off for one more
 * instruction; at a site that instruction is one of the filling NOPs, so what
 * follows the site is not covered. For `sti; hlt` there is safe_halt.
 * in: -   out: -   clobbers: -   flags: IF = 1
 * privilege: CPL <= IOPL   CPU: any */
PATCHLET(irq_enable)
	sti
END_PATCHLET(irq_enable)

/* irq.save_fl: read EFLAGS.
 * in: -   out: EAX = EFLAGS   clobbers: -   flags: unchanged
 * stack: 4 bytes below ESP   privilege: any   CPU: any */
PATCHLET(save_fl)
	pushfl
	popl	%eax
END_PATCHLET(save_fl)

/* irq.restore_fl: write EFLAGS.
 * in: EAX = EFLAGS   out: -   clobbers: -   flags: all, from EAX
 * stack: 4 bytes below ESP   privilege: CPL <= IOPL to change IF   CPU: any */
PATCHLET(restore_fl)
	pushl	%eax
	popfl
END_PATCHLET(restore_fl)

/* mmu.read_cr2: the address of the last page fault.
 * in: -   out: EAX = CR2   clobbers: -   flags: undefined (SDM vol. 2 "MOV")
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr2)
	movl	%cr2, %eax
END_PATCHLET(read_cr2)

/* mmu.read_cr3: the page-table base.
 * in: -   out: EAX = CR3   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr3)
	movl	%cr3, %eax
END_PATCHLET(read_cr3)

/* mmu.write_cr3: set the page-table base; flushes non-global translations.
 * in: EAX = CR3   out: -   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(write_cr3)
	movl	%eax, %cr3
END_PATCHLET(write_cr3)

/* cpu.iret: back from an interrupt or exception. A jump; assembly only.
 * in: ESP = the interrupt frame   out: does not return
 * clobbers: CS, SS, ESP (the last two if the privilege changes)
 * flags: from the frame
 * privilege: that of the frame   CPU: any */
PATCHLET(iret)
	iret
END_PATCHLET_JUMP(iret)

/* lock.queued_spin_unlock: release the lock byte. A plain store is a release
 * on x86 (SDM vol. 3A, "Memory Ordering").
 * in: EAX = address of the lock byte   out: -   clobbers: -   flags: unchanged
 * memory: writes one byte at EAX   privilege: any   CPU: any */
PATCHLET(queued_spin_unlock)
	movb	$0, (%eax)
END_PATCHLET(queued_spin_unlock)

/* lock.vcpu_is_preempted: is that virtual CPU off its core? On bare metal no.
 * in: EAX = CPU number (unused)   out: EAX = 0   clobbers: -   flags: status
 * privilege: any   CPU: any */
PATCHLET(vcpu_is_preempted)
	xorl	%eax, %eax
END_PATCHLET(vcpu_is_preempted)

/* The missing op: what a site gets whose slot is null.
 * in: -   out: raises #UD   clobbers: -   flags: unchanged
 * privilege: any   CPU: any */
PATCHLET(ud2)
	ud2
END_PATCHLET_JUMP(ud2)

/* irq.safe_halt: let external interrupts in and sleep until one comes. One
 * patchlet, since STI holds interrupts off until HLT has begun: one that is
 * already pending wakes the CPU (SDM vol. 2B, "STI"). Between two patchlets it
 * would be taken before HLT, and the CPU would sleep although there is work.
 * in: -   out: -   clobbers: -   flags: IF = 1
 * privilege: CPL 0   CPU: any */
PATCHLET(safe_halt)
	sti
	hlt
END_PATCHLET(safe_halt)

/* irq.halt: sleep until an interrupt comes; with interrupts off, until an NMI,
 * an SMI, INIT or a reset comes (SDM vol. 2A, "HLT").
 * in: -   out: -   clobbers: -   flags: unchanged
 * privilege: CPL 0   CPU: any */
PATCHLET(halt)
	hlt
END_PATCHLET(halt)
