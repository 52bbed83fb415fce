/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The sites of the live tests and the benchmark. They straddle cache lines and pages
 * at every byte, and each replacement gives another result. Everything is in sections
 * of its own, so that the linker leaves it out of a program that does not use it. */
#include "patchlet.h"

/* live.probe: reverse the bytes of a register.
 * in: RDI (32-bit: EAX)   out: RAX (EAX)   clobbers: -   flags: unchanged
 * privilege: any   CPU: 486 and later */
PATCHLET(live_probe)
#ifdef __x86_64__
	movq	%rdi, %rax
	bswapq	%rax
#else
	bswapl	%eax
#endif
END_PATCHLET(live_probe)

/* live.extend: sign-extend AX. The instruction has one byte, so that the NOP behind
 * it in a site has 5.
 * in: EAX   out: RAX (EAX)   clobbers: -   flags: unchanged
 * privilege: any   CPU: 386 and later */
PATCHLET(live_extend)
	cwtl
END_PATCHLET(live_extend)

/* The functions of two made-up hypervisors. The second takes a while, so that threads
 * are inside of it, called from a site, when the site changes.
 * in: RDI (EAX)   out: RAX (EAX)   clobbers: -   flags: status */
	.section .text.live, "ax", @progbits
	.globl	live_a, live_b
	.hidden	live_a, live_b
	.type	live_a, @function
	.type	live_b, @function
live_a:
#ifdef __x86_64__
	leaq	1(%rdi), %rax
#else
	addl	$1, %eax
#endif
	ret
	.size	live_a, . - live_a

	/* Far from the first, so that calls of the two differ in more than one byte. */
	.section .text.live_far, "ax", @progbits
	.skip	0x12345
live_b:
#ifdef __x86_64__
	movl	$8, %eax
1:	pause
	decl	%eax
	jnz	1b
	leaq	2(%rdi), %rax
#else
	pushl	%ecx
	movl	$8, %ecx
1:	pause
	decl	%ecx
	jnz	1b
	popl	%ecx
	addl	$2, %eax
#endif
	ret
	.size	live_b, . - live_b

/* Emits a function of one site and a return. Puts its address and the number of its op
 * into the list of functions.
 *	insn	the kind of the site, `call` or `jmp`
 *	op	the name of the op
 *	align	a power of two
 *	before	how many bytes of the site lie before a multiple of `align` */
.macro live_function insn:req, op:req, align:req, before:req
	.section .text.live, "ax", @progbits
	.balign	\align
	.skip	\align - \before
	.ifc	\insn, call
.Llive_\@:
	PATCHLET_CALL table=live_ops, index=LIVE_\op
	.else
.Llive_\@:
	PATCHLET_JMP table=live_ops, index=LIVE_\op
	.endif
	ret
	.section .data.rel.ro.live, "aw", @progbits
#ifdef __x86_64__
	.quad	.Llive_\@, LIVE_\op
#else
	.long	.Llive_\@, LIVE_\op
#endif
.endm

	.set	LIVE_probe,	0
	.set	LIVE_leap,	1
	.set	LIVE_extend,	2

	.section .data.rel.ro.live, "aw", @progbits
	.balign	8
	.globl	live_functions, live_functions_end
	.hidden	live_functions, live_functions_end
live_functions:
	.irp	before, 0, 1, 2, 3, 4, 5
	live_function call, probe, 64, \before
	live_function call, probe, 4096, \before
	live_function jmp, leap, 64, \before
	live_function jmp, leap, 4096, \before
	live_function call, extend, 64, \before
	live_function call, extend, 4096, \before
	.endr
	.section .data.rel.ro.live, "aw", @progbits
live_functions_end:

/* Emits a function of one static branch, which returns 1 in EAX if the key is on, else 0. Puts its
 * address into the list of branches.
 *	if	the state of the key in which it jumps, `on` or `off`
 *	align	a power of two
 *	before	how many bytes of the branch lie before a multiple of `align` */
.macro live_branch if:req, align:req, before:req
	.section .text.live, "ax", @progbits
	.balign	\align
	.skip	\align - \before
.Llive_branch_\@:
	PATCHLET_BRANCH live_key, .Llive_taken_\@, if=\if
	.ifc	\if, on
	xorl	%eax, %eax
	ret
.Llive_taken_\@:
	movl	$1, %eax
	ret
	.else
	movl	$1, %eax
	ret
.Llive_taken_\@:
	xorl	%eax, %eax
	ret
	.endif
	.section .data.rel.ro.live_branches, "aw", @progbits
#ifdef __x86_64__
	.quad	.Llive_branch_\@
#else
	.long	.Llive_branch_\@
#endif
.endm

	.section .data.rel.ro.live_branches, "aw", @progbits
	.balign	8
	.globl	live_branches, live_branches_end
	.hidden	live_branches, live_branches_end
live_branches:
	.irp	before, 0, 1, 2, 3, 4
	live_branch on, 64, \before
	live_branch on, 4096, \before
	live_branch off, 64, \before
	live_branch off, 4096, \before
	.endr
	.section .data.rel.ro.live_branches, "aw", @progbits
live_branches_end:

/* The sites of the benchmark: a function of 4096 sites, one after the other.
 * in: -   out: -   clobbers: -   flags: unchanged */
	.section .text.live_many, "ax", @progbits
	.balign	4096
	.globl	live_many
	.hidden	live_many
	.type	live_many, @function
live_many:
	.rept	4096
	PATCHLET_CALL table=live_many_ops, index=0
	.endr
	ret
	.size	live_many, . - live_many

/* The branches of the benchmark, one after the other. In either state the next one follows.
 * in: -   out: -   clobbers: -   flags: unchanged */
	.section .text.live_many_branches, "ax", @progbits
	.balign	4096
	.globl	live_many_branches
	.hidden	live_many_branches
	.type	live_many_branches, @function
live_many_branches:
	.rept	4096
	PATCHLET_BRANCH live_many_key, 1f
1:
	.endr
	ret
	.size	live_many_branches, . - live_many_branches

	.section .text.live_many, "ax", @progbits
/* One more site, which a reader executes while the others are switched. */
	.globl	live_one
	.hidden	live_one
	.type	live_one, @function
live_one:
	PATCHLET_CALL table=live_many_ops, index=0
	ret
	.size	live_one, . - live_one
