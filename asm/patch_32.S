/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The native set of 32-bit patchlets. This file has instructions and contracts
 * only; the macros are in patchlet.h. The idea of keeping them as real assembly
 * is from a mail by Ingo Molnar, 25 April 2019, "Re: [patch 3/3] x86/paravirt:
 * Replace paravirt patch asm magic".
 *
 * The comment above a patchlet is its contract: the op it belongs to, its inputs
 * and outputs, what else it changes, and the privilege and CPU it needs. "flags"
 * are those of EFLAGS. The contract is data: src/contract/ reads it (the fields are
 * described in src/contract/mod.rs), and tests/contract.rs proves it from the
 * bytes.
 */
#if !defined(__i386__)
#error "asm/patch_32.S is for 32-bit targets; 64-bit ones use asm/patch_64.S"
#endif
#include "patchlet.h"

/* irq.irq_disable: keep external interrupts off this CPU.
 * in: -   out: -   clobbers: -   flags: IF = 0
 * privilege: CPL <= IOPL   CPU: any */
PATCHLET(irq_disable)
	cli
END_PATCHLET(irq_disable)

/* irq.irq_enable: let external interrupts in. STI holds them off for one more
 * instruction (SDM vol. 2B, "STI"). In a site that instruction is one of the NOPs
 * behind it, so an interrupt can come before the first instruction behind the
 * site. Use safe_halt for `sti; hlt`.
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

/* mmu.read_cr2: read the address of the last page fault.
 * in: -   out: EAX = CR2   clobbers: -   flags: undefined (SDM vol. 2 "MOV")
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr2)
	movl	%cr2, %eax
END_PATCHLET(read_cr2)

/* mmu.read_cr3: read the page-table base.
 * in: -   out: EAX = CR3   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr3)
	movl	%cr3, %eax
END_PATCHLET(read_cr3)

/* mmu.write_cr3: set the page-table base, which flushes non-global translations.
 * in: EAX = CR3   out: -   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(write_cr3)
	movl	%eax, %cr3
END_PATCHLET(write_cr3)

/* cpu.iret: return from an interrupt or exception. For jump sites in assembly
 * only.
 * in: ESP = the interrupt frame   out: does not return
 * clobbers: CS, SS, ESP (the last two if the privilege changes)
 * flags: from the frame
 * privilege: that of the frame   CPU: any */
PATCHLET(iret)
	iret
END_PATCHLET_JUMP(iret)

/* lock.queued_spin_unlock: release the lock byte. On x86, a plain store has
 * release semantics (SDM vol. 3A, "Memory Ordering").
 * in: EAX = address of the lock byte   out: -   clobbers: -   flags: unchanged
 * memory: writes one byte at EAX   privilege: any   CPU: any */
PATCHLET(queued_spin_unlock)
	movb	$0, (%eax)
END_PATCHLET(queued_spin_unlock)

/* lock.vcpu_is_preempted: return whether a virtual CPU does not run at present.
 * On bare metal every CPU runs: return 0.
 * in: EAX = CPU number (unused)   out: EAX = 0   clobbers: -   flags: status
 * privilege: any   CPU: any */
PATCHLET(vcpu_is_preempted)
	xorl	%eax, %eax
END_PATCHLET(vcpu_is_preempted)

/* The trap: the replacement at a site whose slot is null.
 * in: -   out: raises #UD   clobbers: -   flags: unchanged
 * privilege: any   CPU: any */
PATCHLET(ud2)
	ud2
END_PATCHLET_JUMP(ud2)

/* irq.safe_halt: let external interrupts in and sleep until one comes. STI holds
 * interrupts off until HLT has begun, so that an interrupt which is already
 * pending wakes the CPU (SDM vol. 2B, "STI"). That is why both are one patchlet:
 * with two, the CPU would take the interrupt between them, and then sleep
 * although there is work.
 * in: -   out: -   clobbers: -   flags: IF = 1
 * privilege: CPL 0   CPU: any */
PATCHLET(safe_halt)
	sti
	hlt
END_PATCHLET(safe_halt)

/* irq.halt: sleep until an interrupt comes. With interrupts off, only an NMI, an
 * SMI, INIT or a reset ends the sleep (SDM vol. 2A, "HLT").
 * in: -   out: -   clobbers: -   flags: unchanged
 * privilege: CPL 0   CPU: any */
PATCHLET(halt)
	hlt
END_PATCHLET(halt)
