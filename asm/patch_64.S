/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The native set of 64-bit patchlets. This file has instructions and contracts
 * only; the macros are in patchlet.h. The idea of keeping them as real assembly
 * is from a mail by Ingo Molnar, 25 April 2019, "Re: [patch 3/3] x86/paravirt:
 * Replace paravirt patch asm magic".
 *
 * The comment above a patchlet is its contract: the op it belongs to, its inputs
 * and outputs, what else it changes, and the privilege and CPU it needs. "flags"
 * are those of RFLAGS. The contract is data: src/contract/ reads it (the fields are
 * described in src/contract/mod.rs), and tests/contract.rs proves it from the
 * bytes.
 */
#if !defined(__x86_64__)
#error "asm/patch_64.S is for 64-bit targets; 32-bit ones use asm/patch_32.S"
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

/* irq.save_fl: read RFLAGS.
 * in: -   out: RAX = RFLAGS   clobbers: -   flags: unchanged
 * stack: 8 bytes below RSP   privilege: any   CPU: any */
PATCHLET(save_fl)
	pushfq
	popq	%rax
END_PATCHLET(save_fl)

/* irq.restore_fl: write RFLAGS.
 * in: RDI = RFLAGS   out: -   clobbers: -   flags: all, from RDI
 * stack: 8 bytes below RSP   privilege: CPL <= IOPL to change IF   CPU: any */
PATCHLET(restore_fl)
	pushq	%rdi
	popfq
END_PATCHLET(restore_fl)

/* mmu.read_cr2: read the address of the last page fault.
 * in: -   out: RAX = CR2   clobbers: -   flags: undefined (SDM vol. 2 "MOV")
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr2)
	movq	%cr2, %rax
END_PATCHLET(read_cr2)

/* mmu.read_cr3: read the page-table base.
 * in: -   out: RAX = CR3   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(read_cr3)
	movq	%cr3, %rax
END_PATCHLET(read_cr3)

/* mmu.write_cr3: set the page-table base, which flushes non-global translations.
 * in: RDI = CR3   out: -   clobbers: -   flags: undefined
 * privilege: CPL 0   CPU: any */
PATCHLET(write_cr3)
	movq	%rdi, %cr3
END_PATCHLET(write_cr3)

/* cpu.wbinvd: write all caches back to memory and invalidate them.
 * in: -   out: -   clobbers: -   flags: unchanged
 * privilege: CPL 0   CPU: 486 and later */
PATCHLET(wbinvd)
	wbinvd
END_PATCHLET(wbinvd)

/* cpu.swapgs: exchange the GS base with IA32_KERNEL_GS_BASE. For sites in
 * assembly only.
 * in: -   out: -   clobbers: GS base   flags: unchanged
 * privilege: CPL 0   CPU: 64-bit mode */
PATCHLET(swapgs)
	swapgs
END_PATCHLET(swapgs)

/* cpu.usergs_sysret64: return to 64-bit user mode after a system call. For jump
 * sites in assembly only.
 * in: RCX = user RIP, R11 = user RFLAGS, RSP = user stack   out: does not return
 * clobbers: GS base, CS, SS   flags: from R11
 * privilege: CPL 0   CPU: EFER.SCE */
PATCHLET(usergs_sysret64)
	swapgs
	sysretq
END_PATCHLET_JUMP(usergs_sysret64)

/* mmu.ident: return the argument. Also the replacement at a site of any op whose
 * slot holds the identity function.
 * in: RDI   out: RAX = RDI   clobbers: -   flags: unchanged
 * privilege: any   CPU: any */
PATCHLET(ident_64)
	movq	%rdi, %rax
END_PATCHLET(ident_64)

/* lock.queued_spin_unlock: release the lock byte. On x86, a plain store has
 * release semantics (SDM vol. 3A, "Memory Ordering").
 * in: RDI = address of the lock byte   out: -   clobbers: -   flags: unchanged
 * memory: writes one byte at RDI   privilege: any   CPU: any */
PATCHLET(queued_spin_unlock)
	movb	$0, (%rdi)
END_PATCHLET(queued_spin_unlock)

/* lock.vcpu_is_preempted: return whether a virtual CPU does not run at present.
 * On bare metal every CPU runs: return 0.
 * in: RDI = CPU number (unused)   out: RAX = 0   clobbers: -   flags: status
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
