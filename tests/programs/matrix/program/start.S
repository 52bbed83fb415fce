/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The entry of a process without a C library, and what compilers expect to find
 * in every program. With PIE defined it also does what a loader would: the
 * kernel maps a static PIE, but does not relocate it. */
	.section .text._start, "ax", @progbits
	.globl	_start
	.type	_start, @function
_start:
#ifdef __x86_64__
	xorl	%ebp, %ebp
#ifdef PIE
	/* Linked at 0, so the address of the ELF header is the bias. */
	leaq	__ehdr_start(%rip), %rdi
	leaq	_DYNAMIC(%rip), %rsi
	xorl	%ecx, %ecx		/* DT_RELA */
	xorl	%edx, %edx		/* DT_RELASZ */
1:	movq	(%rsi), %rax
	cmpq	$7, %rax
	jne	2f
	movq	8(%rsi), %rcx
	addq	%rdi, %rcx
2:	cmpq	$8, %rax
	jne	3f
	movq	8(%rsi), %rdx
3:	addq	$16, %rsi
	testq	%rax, %rax
	jnz	1b
	addq	%rcx, %rdx
4:	cmpq	%rdx, %rcx
	jae	5f
	movq	(%rcx), %rax
	cmpl	$8, 8(%rcx)		/* R_X86_64_RELATIVE */
	jne	6f
	movq	16(%rcx), %rsi
	addq	%rdi, %rsi
	movq	%rsi, (%rdi,%rax)
	addq	$24, %rcx
	jmp	4b
6:	ud2
5:
#endif
	leaq	_start(%rip), %rdi
	andq	$-16, %rsp
	call	matrix_main
#else
	xorl	%ebp, %ebp
	/* Without an absolute address: it is for the sites to say that they have one. */
	call	1f
1:	popl	%eax
	leal	_start - 1b(%eax), %eax
	andl	$-16, %esp
	subl	$12, %esp
	pushl	%eax
	call	matrix_main
#endif
	ud2
	.size	_start, . - _start

#ifdef __i386__
/* The memory functions, which the crate of compiler built-ins has for targets
 * without an operating system only; and the names that core, built to unwind,
 * refers to. */
#include "../../../kernel/asm/mem_32.S"

FUNCTION rust_eh_personality
	ud2
FUNCTION _Unwind_Resume
	ud2
#endif

	.section .note.GNU-stack, "", @progbits
