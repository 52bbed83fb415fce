/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Patchlets of this kernel's own, through the header that comes with the crate,
 * and what else is only possible in assembly: sites of the ops that are no
 * functions, and the guest's versions of these ops. */
#include "patchlet.h"

/* tlb.flush_page: forget the translation of one page.
 * in: RDI (32-bit: EAX) = address   out: -   clobbers: -   flags: unchanged
 * privilege: CPL 0   CPU: 486 and later */
PATCHLET(invlpg)
#ifdef __x86_64__
	invlpg	(%rdi)
#else
	invlpg	(%eax)
#endif
END_PATCHLET(invlpg)

/* time.ticks_low: the low half of the time-stamp counter.
 * in: -   out: EAX   clobbers: EDX   flags: unchanged
 * privilege: CR4.TSD   CPU: Pentium and later */
PATCHLET(rdtsc)
	rdtsc
END_PATCHLET(rdtsc)

.macro FUNCTION name
	.globl	\name
	.type	\name, @function
\name:
.endm

	.text

/* asm_changed_registers(): fills the registers, passes a site of the callee-save
 * op irq_disable, and returns a bit for each register that is another one then. */
#ifdef __x86_64__

FUNCTION asm_changed_registers
	.irp	reg, rbx, rbp, r12, r13, r14, r15
	pushq	%\reg
	.endr
	.set	count, 0
	.irp	reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	movq	$0x5a5a0000 + count, %\reg
	.set	count, count + 1
	.endr
	PATCHLET_CALL irq_disable
	.irp	reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	pushq	%\reg
	.endr
	xorl	%eax, %eax
	.set	count, 0
	.rept	15
	popq	%rcx
	cmpq	$0x5a5a0000 + count, %rcx
	je	1f
	orl	$1 << count, %eax
1:
	.set	count, count + 1
	.endr
	.irp	reg, r15, r14, r13, r12, rbp, rbx
	popq	%\reg
	.endr
	ret

/* asm_swapgs(): one site. */
FUNCTION asm_swapgs
	PATCHLET_CALL swapgs
	ret

/* asm_sysret(address): to ring 3. GS is exchanged on the way. */
FUNCTION asm_sysret
	movq	%rdi, %rcx
	movl	$2, %r11d		/* flags: none but the one that is always 1 */
	PATCHLET_JMP usergs_sysret64

/* The guest's versions; they count and do it. */
FUNCTION guest_swapgs
	lock incq guest_swapgs_calls(%rip)
	swapgs
	ret

FUNCTION guest_sysret
	lock incq guest_sysret_calls(%rip)
	swapgs
	sysretq

#else

FUNCTION asm_changed_registers
	.irp	reg, ebx, ebp, esi, edi
	pushl	%\reg
	.endr
	.set	count, 0
	.irp	reg, eax, ecx, edx, ebx, ebp, esi, edi
	movl	$0x5a5a0000 + count, %\reg
	.set	count, count + 1
	.endr
	PATCHLET_CALL irq_disable
	.irp	reg, edi, esi, ebp, ebx, edx, ecx, eax
	pushl	%\reg
	.endr
	xorl	%eax, %eax
	.set	count, 0
	.rept	7
	popl	%ecx
	cmpl	$0x5a5a0000 + count, %ecx
	je	1f
	orl	$1 << count, %eax
1:
	.set	count, count + 1
	.endr
	.irp	reg, edi, esi, ebp, ebx
	popl	%\reg
	.endr
	ret

/* asm_iret(frame): leaves by the interrupt frame at `frame`. */
FUNCTION asm_iret
	movl	4(%esp), %esp
	PATCHLET_JMP iret

FUNCTION guest_iret
	lock incl guest_iret_calls
	iret

#endif
