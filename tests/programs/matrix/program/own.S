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

/* The index of each place in the table of second.rs. */
	.set	PLACE_asm_call,	8
	.set	PLACE_asm_jump,	9
	.set	PLACE_dead_asm,	11

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
	PATCHLET_CALL place, capacity=9, table=matrix_places, index=PLACE_asm_call
	ret
	.size	matrix_asm_call, . - matrix_asm_call

FUNCTION matrix_asm_jump
	PATCHLET_JMP place, table=matrix_places, index=PLACE_asm_jump
	/* Where the site is not a jump any more but the instruction itself. */
	ret
	.size	matrix_asm_jump, . - matrix_asm_jump

FUNCTION matrix_asm_ident
	PATCHLET_CALL ident
	ret
	.size	matrix_asm_ident, . - matrix_asm_ident

/* Nobody calls this. */
FUNCTION matrix_dead_asm
	PATCHLET_CALL place, table=matrix_places, index=PLACE_dead_asm
	PATCHLET_CALL place, capacity=32, table=matrix_places, index=PLACE_dead_asm
	ret
	.size	matrix_dead_asm, . - matrix_dead_asm
