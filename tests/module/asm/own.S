/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The module's own patchlet, and the sites that the test of live switches runs. */
#include "live_site.h"

/* module.answer: a number. The test of live switches knows it.
 * in: -   out: EAX   clobbers: -   flags: unchanged   privilege: any   CPU: 386 and later */
PATCHLET(answer)
	movl	$0x2a2a2a2a, %eax
END_PATCHLET(answer)

/* The op of the module's table. In the list of sites, the module's ops have numbers behind those of
 * the kernel. */
#define ANSWER		0
#define FIRST		4

	.section .rodata.live_sites, "a", @progbits
	.balign	8
	.globl	module_sites, module_sites_end
module_sites:

	.section .text.live, "ax", @progbits
	.irp	op, ZERO, FLAGS
	.irp	before, 1, 2, 3, 4, 5
	LIVE_SITE PATCHLET_CALL, \op, CACHE_LINE, \before
	.endr
	LIVE_SITE PATCHLET_JMP, \op, CACHE_LINE, 2
	.endr
	.irp	before, 1, 2, 3, 4, 5
	LIVE_SITE PATCHLET_CALL, ANSWER, CACHE_LINE, \before, test_module_ops, FIRST
	.endr
	LIVE_SITE PATCHLET_CALL, ZERO, PAGE, 3
	LIVE_SITE PATCHLET_JMP, ANSWER, PAGE, 2, test_module_ops, FIRST

	.section .rodata.live_sites
module_sites_end:

	.section .note.GNU-stack, "", @progbits
