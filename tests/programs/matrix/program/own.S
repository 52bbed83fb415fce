/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Patchlets of the program's own, and sites in assembly. */
#include "patchlet.h"

/* place.*: reverse the bytes of a register.
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

/* place.asm_jump: the very bytes of a built-in patchlet (64-bit: ident_64;
 * 32-bit: save_fl), which --icf may fold its native function with.
 * in: RDI (32-bit: -)   out: RAX (EAX)   clobbers: -   flags: unchanged
 * stack: 0 (32-bit: 4) bytes   privilege: any   CPU: any */
PATCHLET(like_native)
#ifdef __x86_64__
	movq	%rdi, %rax
#else
	pushfl
	popl	%eax
#endif
END_PATCHLET(like_native)

/* place.by_hand: too long for a site of 6 bytes.
 * in: RDI (32-bit: EAX)   out: RAX (EAX)   clobbers: -   flags: status
 * privilege: any   CPU: any */
PATCHLET(long)
#ifdef __x86_64__
	movq	%rdi, %rax
	addq	$0x11223344, %rax
#else
	addl	$0x11223344, %eax
	notl	%eax
#endif
END_PATCHLET(long)

.macro FUNCTION name
	.section .text.\name, "ax", @progbits
	.globl	\name
	.type	\name, @function
\name:
#ifdef __i386__
	movl	4(%esp), %eax
#endif
.endm

/* C functions of one argument with a site each. */
FUNCTION matrix_asm_call
	PATCHLET_CALL asm_call, capacity=9, table=matrix_places
	ret
	.size	matrix_asm_call, . - matrix_asm_call

FUNCTION matrix_asm_jump
	PATCHLET_JMP asm_jump, table=matrix_places
	/* Where the site is not a jump any more but the instruction itself. */
	ret
	.size	matrix_asm_jump, . - matrix_asm_jump

FUNCTION matrix_asm_ident
	PATCHLET_CALL ident
	ret
	.size	matrix_asm_ident, . - matrix_asm_ident

/* Nobody calls this. */
FUNCTION matrix_dead_asm
	PATCHLET_CALL dead_asm, table=matrix_places
	PATCHLET_CALL dead_asm, capacity=32, table=matrix_places
	ret
	.size	matrix_dead_asm, . - matrix_dead_asm
