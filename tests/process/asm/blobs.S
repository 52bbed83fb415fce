/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Code that this process copies into a page of its own, and executes there. */
#include "patchlet.h"

#ifdef __x86_64__
#define SIGRETURN	15	/* asm/unistd_64.h, __NR_rt_sigreturn */
#else
#define SIGRETURN	173	/* asm/unistd_32.h, __NR_rt_sigreturn */
#endif

/* What a process has of its kernel in the vDSO: a system call, and the way back from a signal.
 * offsets: system_call = fn() -> isize, makes the system call
 *          signal_return = where a signal handler returns to, with the signal's frame on the stack
 * holes: number = number of the system call */
PATCHLET_BLOB(stubs)
PATCHLET_OFFSET(stubs, system_call)
	movl	$PATCHLET_UNFILLED(4), %eax
PATCHLET_HOLE(stubs, number, 4)
#ifdef __x86_64__
	syscall
#else
	int	$0x80
#endif
	ret

PATCHLET_ALIGN(stubs, 16)
PATCHLET_OFFSET(stubs, signal_return)
	movl	$SIGRETURN, %eax
#ifdef __x86_64__
	syscall
#else
	int	$0x80
#endif
	ud2
END_PATCHLET_BLOB(stubs)

	.section .note.GNU-stack, "", @progbits
