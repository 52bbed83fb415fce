/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Patchlets and sites of this process, written like those of the native set. */
#include "patchlet.h"

/* own.swap_bytes: reverse the bytes of a register.
 * in: RDI (32-bit: EAX)   out: RAX (EAX)   clobbers: -   flags: unchanged
 * privilege: any   CPU: 486 and later */
PATCHLET(swap_bytes)
#ifdef __x86_64__
	movq	%rdi, %rax
	bswapq	%rax
#else
	bswapl	%eax
#endif
END_PATCHLET(swap_bytes)

/* own.relax: a hint to the CPU that this is a waiting loop.
 * in: -   out: -   clobbers: -   flags: unchanged
 * privilege: any   CPU: any */
PATCHLET(relax)
	pause
END_PATCHLET(relax)

/* Sites in assembly, in functions that C can call: save_fl() and swap_bytes(x) by a
 * call, and swap_bytes(x) by a jump. */
	.globl	asm_save_fl
	.type	asm_save_fl, @function
asm_save_fl:
	PATCHLET_CALL save_fl
	ret
	.size	asm_save_fl, . - asm_save_fl

	.globl	asm_swap_bytes
	.type	asm_swap_bytes, @function
asm_swap_bytes:
#ifdef __i386__
	movl	4(%esp), %eax
#endif
	PATCHLET_CALL swap_bytes, capacity=9, table=process_ops
	ret
	.size	asm_swap_bytes, . - asm_swap_bytes

	.globl	asm_tail_swap_bytes
	.type	asm_tail_swap_bytes, @function
asm_tail_swap_bytes:
#ifdef __i386__
	movl	4(%esp), %eax
#endif
	PATCHLET_JMP swap_bytes, table=process_ops
	/* Reached if the site holds the patchlet, which does not leave by itself. */
	ret
	.size	asm_tail_swap_bytes, . - asm_tail_swap_bytes


/* Static branches by keys that Rust defines. */
	.text
	.globl	asm_is_on, asm_is_on_inverted, asm_starts_on
	.type	asm_is_on, @function
	.type	asm_is_on_inverted, @function
	.type	asm_starts_on, @function
asm_is_on:
	PATCHLET_BRANCH process_key_off, 1f
	xorl	%eax, %eax
	ret
1:	movl	$1, %eax
	ret
	.size	asm_is_on, . - asm_is_on

asm_is_on_inverted:
	PATCHLET_BRANCH process_key_off, 1f, if=off
	movl	$1, %eax
	ret
1:	xorl	%eax, %eax
	ret
	.size	asm_is_on_inverted, . - asm_is_on_inverted

asm_starts_on:
	PATCHLET_BRANCH process_key_on, 1f, if=off, starts=on
	movl	$1, %eax
	ret
1:	xorl	%eax, %eax
	ret
	.size	asm_starts_on, . - asm_starts_on
