/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The ready-made set by CPU feature, for 64 bit: the ways to do what a kernel does
 * differently on different CPUs. `patchlet::cpu_ops` says which feature each needs. Patchlets
 * stand between the macros of patchlet.h, with contracts as in patch_64.S; the functions at
 * the end are for ways that have branches, which a patchlet cannot have, or are too long for a site.
 *
 * The set is linked only into a kernel that uses it: build.rs defines PATCHLET_OPTIONAL, see
 * patchlet.h.
 */
#if !defined(__x86_64__)
#error "asm/cpu_64.S is for 64-bit targets; 32-bit ones use asm/cpu_32.S"
#endif
#include "patchlet.h"

/* user.stac: let the kernel access user memory. SMAP faults such accesses while AC is clear
 * (SDM vol. 3A, "Determination of Access Rights").
 * in: -   out: -   clobbers: -   flags: AC = 1
 * privilege: CPL 0   CPU: SMAP */
PATCHLET(cpu_stac)
	stac
END_PATCHLET(cpu_stac)

/* user.clac: forbid the kernel to access user memory again.
 * in: -   out: -   clobbers: -   flags: AC = 0
 * privilege: CPL 0   CPU: SMAP */
PATCHLET(cpu_clac)
	clac
END_PATCHLET(cpu_clac)

/* segment.read_fs_base: read the base of FS.
 * in: -   out: RAX   clobbers: -   flags: unchanged
 * privilege: any   CPU: FSGSBASE, switched on in CR4 */
PATCHLET(cpu_rdfsbase)
	rdfsbase %rax
END_PATCHLET(cpu_rdfsbase)

/* segment.write_fs_base: write the base of FS. An address that is not canonical raises #GP.
 * in: RDI   out: -   clobbers: FS base   flags: unchanged
 * privilege: any   CPU: FSGSBASE, switched on in CR4 */
PATCHLET(cpu_wrfsbase)
	wrfsbase %rdi
END_PATCHLET(cpu_wrfsbase)

/* segment.read_gs_base: read the base of GS, the one that GS has now.
 * in: -   out: RAX   clobbers: -   flags: unchanged
 * privilege: any   CPU: FSGSBASE, switched on in CR4 */
PATCHLET(cpu_rdgsbase)
	rdgsbase %rax
END_PATCHLET(cpu_rdgsbase)

/* segment.write_gs_base: write the base of GS, the one that GS has now.
 * in: RDI   out: -   clobbers: GS base   flags: unchanged
 * privilege: any   CPU: FSGSBASE, switched on in CR4 */
PATCHLET(cpu_wrgsbase)
	wrgsbase %rdi
END_PATCHLET(cpu_wrgsbase)

/* time.time_stamp: read the time-stamp counter when all earlier instructions have been
 * executed. LFENCE waits for that on Intel's CPUs (SDM vol. 2B, "RDTSC"), and MFENCE on AMD's,
 * where LFENCE waits only if an MSR says so (AMD APM vol. 3, "RDTSC", "LFENCE").
 * in: -   out: RAX   clobbers: RDX   flags: status
 * privilege: any   CPU: SSE2, and no CR4.TSD outside of ring 0 */
PATCHLET(cpu_rdtsc_mfence)
	mfence
	lfence
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
END_PATCHLET(cpu_rdtsc_mfence)

/* time.time_stamp: the same where LFENCE waits for all earlier instructions.
 * in: -   out: RAX   clobbers: RDX   flags: status
 * privilege: any   CPU: Intel's, or LFENCE_SERIALIZING */
PATCHLET(cpu_rdtsc_lfence)
	lfence
	rdtsc
	shlq	$32, %rdx
	orq	%rdx, %rax
END_PATCHLET(cpu_rdtsc_lfence)

/* time.time_stamp: the same by RDTSCP, which waits by itself. It also loads IA32_TSC_AUX into
 * ECX.
 * in: -   out: RAX   clobbers: RCX, RDX   flags: status
 * privilege: any   CPU: RDTSCP */
PATCHLET(cpu_rdtscp)
	rdtscp
	shlq	$32, %rdx
	orq	%rdx, %rax
END_PATCHLET(cpu_rdtscp)

/* hypercall.hypercall: call an Intel-style hypervisor. Arguments and results are those of the
 * hypervisor's own convention, whose registers the assembly around the site knows.
 * in: -   out: -   clobbers: -   flags: status
 * privilege: any   CPU: Intel's VMX below the hypervisor, else #UD */
PATCHLET(cpu_vmcall)
	vmcall
END_PATCHLET(cpu_vmcall)

/* hypercall.hypercall: call a hypervisor on AMD's CPUs.
 * in: -   out: -   clobbers: -   flags: unchanged
 * privilege: any   CPU: AMD's SVM below the hypervisor, else #UD */
PATCHLET(cpu_vmmcall)
	vmmcall
END_PATCHLET(cpu_vmmcall)

/* state.save_state: save the x87 and SSE registers. The mask is not used.
 * in: RDI = area, RSI = mask   out: -   clobbers: -   flags: unchanged
 * memory: writes 512 bytes at RDI   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxsave)
	fxsave64 (%rdi)
END_PATCHLET(cpu_fxsave)

/* state.save_state: save the state components of the mask.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: reads some bytes at RDI, writes some bytes at RDI
 * privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xsave)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xsave64	(%rdi)
END_PATCHLET(cpu_xsave)

/* state.save_state: the same, without components that are in their initial state, or that did not
 * change since they were restored from this area.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: reads some bytes at RDI, writes some bytes at RDI
 * privilege: any   CPU: OSXSAVE, XSAVEOPT */
PATCHLET(cpu_xsaveopt)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xsaveopt64 (%rdi)
END_PATCHLET(cpu_xsaveopt)

/* state.save_state: the same in the compacted form, without components in their initial state.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: writes some bytes at RDI   privilege: any   CPU: OSXSAVE, XSAVEC */
PATCHLET(cpu_xsavec)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xsavec64 (%rdi)
END_PATCHLET(cpu_xsavec)

/* state.save_state: the same, with the components of IA32_XSS too.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: writes some bytes at RDI   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xsaves)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xsaves64 (%rdi)
END_PATCHLET(cpu_xsaves)

/* state.restore_state: load the x87 and SSE registers that cpu_fxsave saved.
 * in: RDI = area, RSI = mask   out: -   clobbers: -   flags: unchanged
 * memory: reads 512 bytes at RDI   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxrstor)
	fxrstor64 (%rdi)
END_PATCHLET(cpu_fxrstor)

/* state.restore_state: load the state components of the mask, in the standard or the compacted form.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: reads some bytes at RDI   privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xrstor)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xrstor64 (%rdi)
END_PATCHLET(cpu_xrstor)

/* state.restore_state: load the state components of the mask that cpu_xsaves saved.
 * in: RDI = area, RSI = mask   out: -   clobbers: RAX, RDX   flags: status
 * memory: reads some bytes at RDI   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xrstors)
	movl	%esi, %eax
	movq	%rsi, %rdx
	shrq	$32, %rdx
	xrstors64 (%rdi)
END_PATCHLET(cpu_xrstors)

/* cache.flush_line: write a cache line back and forget it, in order with earlier stores.
 * in: RDI   out: -   clobbers: -   flags: unchanged
 * memory: reads one byte at RDI   privilege: any   CPU: CLFSH */
PATCHLET(cpu_clflush)
	clflush	(%rdi)
END_PATCHLET(cpu_clflush)

/* cache.flush_line: the same, in order with no other line.
 * in: RDI   out: -   clobbers: -   flags: unchanged
 * memory: reads one byte at RDI   privilege: any   CPU: CLFLUSHOPT */
PATCHLET(cpu_clflushopt)
	clflushopt (%rdi)
END_PATCHLET(cpu_clflushopt)

/* The functions. Each begins a section of its own.
 *	name	the function is patchlet_cpu_<name> */
.macro function name:req
	.section .text.patchlet_cpu_\name, "ax", @progbits
	.globl	patchlet_cpu_\name
	.hidden	patchlet_cpu_\name
	.type	patchlet_cpu_\name, @function
	.balign	16
patchlet_cpu_\name:
	patchlet_endbr
.endm

.macro end_function name:req
	.size	patchlet_cpu_\name, . - patchlet_cpu_\name
.endm

/* The bases of FS and GS by MSR: IA32_FS_BASE, and IA32_GS_BASE, which is the base that GS has now.
 * The functions keep the registers of RDMSR and WRMSR, because sites expect that, and so are too long
 * for a site. An address that is not canonical raises #GP.
 *
 * fn() -> RAX = base: usize, class callee_save */
function rdmsr_fs_base
	pushq	%rcx
	pushq	%rdx
	movl	$0xc0000100, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	popq	%rdx
	popq	%rcx
	ret
end_function rdmsr_fs_base

/* fn(RDI = base: usize), class callee_save */
function wrmsr_fs_base
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	movl	$0xc0000100, %ecx
	movq	%rdi, %rdx
	movl	%edi, %eax
	shrq	$32, %rdx
	wrmsr
	popq	%rdx
	popq	%rcx
	popq	%rax
	ret
end_function wrmsr_fs_base

/* fn() -> RAX = base: usize, class callee_save */
function rdmsr_gs_base
	pushq	%rcx
	pushq	%rdx
	movl	$0xc0000101, %ecx
	rdmsr
	shlq	$32, %rdx
	orq	%rdx, %rax
	popq	%rdx
	popq	%rcx
	ret
end_function rdmsr_gs_base

/* fn(RDI = base: usize), class callee_save */
function wrmsr_gs_base
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	movl	$0xc0000101, %ecx
	movq	%rdi, %rdx
	movl	%edi, %eax
	shrq	$32, %rdx
	wrmsr
	popq	%rdx
	popq	%rcx
	popq	%rax
	ret
end_function wrmsr_gs_base

/* Copies at most 32 bytes and returns, or goes on at 9 with more. A length that is no power of
 * two is copied by accesses that overlap.
 * RDI = to, RSI = from, RDX = length. Changes RAX, RCX, R8, R9. */
.macro copy_short
	cmpq	$16, %rdx
	ja	3f
	cmpl	$8, %edx
	jae	2f
	cmpl	$4, %edx
	jae	1f
	testl	%edx, %edx
	jz	0f
	movzbl	(%rsi), %eax
	movzbl	-1(%rsi,%rdx), %ecx
	cmpl	$3, %edx
	jb	4f
	movzbl	1(%rsi), %r8d
	movb	%r8b, 1(%rdi)
4:	movb	%al, (%rdi)
	movb	%cl, -1(%rdi,%rdx)
0:	ret
1:	movl	(%rsi), %eax
	movl	-4(%rsi,%rdx), %ecx
	movl	%eax, (%rdi)
	movl	%ecx, -4(%rdi,%rdx)
	ret
2:	movq	(%rsi), %rax
	movq	-8(%rsi,%rdx), %rcx
	movq	%rax, (%rdi)
	movq	%rcx, -8(%rdi,%rdx)
	ret
3:	cmpq	$32, %rdx
	ja	9f
	movq	(%rsi), %rax
	movq	8(%rsi), %rcx
	movq	-16(%rsi,%rdx), %r8
	movq	-8(%rsi,%rdx), %r9
	movq	%rax, (%rdi)
	movq	%rcx, 8(%rdi)
	movq	%r8, -16(%rdi,%rdx)
	movq	%r9, -8(%rdi,%rdx)
	ret
9:
.endm

/* Copies more than 32 bytes, 32 at a time, and returns. The last 32 overlap those before.
 * RDI = to, RSI = from, RDX = length. Changes RAX, RCX, R8, R9, R10, RSI, RDI. */
.macro copy_loop
	leaq	-32(%rsi,%rdx), %r10		/* the last 32 bytes of the source */
	subq	%rsi, %rdi			/* from the source to the target */
1:	movq	(%rsi), %rax
	movq	8(%rsi), %rcx
	movq	16(%rsi), %r8
	movq	24(%rsi), %r9
	movq	%rax, (%rdi,%rsi)
	movq	%rcx, 8(%rdi,%rsi)
	movq	%r8, 16(%rdi,%rsi)
	movq	%r9, 24(%rdi,%rsi)
	addq	$32, %rsi
	cmpq	%r10, %rsi
	jb	1b
	movq	(%r10), %rax
	movq	8(%r10), %rcx
	movq	16(%r10), %r8
	movq	24(%r10), %r9
	addq	%r10, %rdi
	movq	%rax, (%rdi)
	movq	%rcx, 8(%rdi)
	movq	%r8, 16(%rdi)
	movq	%r9, 24(%rdi)
	ret
.endm

/* Copies 16 bytes or more by REP MOVSQ, and returns. The first eight bytes are copied before, so that
 * the stores can begin at a multiple of eight, and the last eight behind it.
 * RDI = to, RSI = from, RDX = length. Changes RAX, RCX, RDX, R8, R9, RSI, RDI. */
.macro copy_movsq
	movq	(%rsi), %rax
	movq	-8(%rsi,%rdx), %r8
	leaq	-8(%rdi,%rdx), %r9
	movq	%rax, (%rdi)
	movl	%edi, %eax
	negl	%eax
	andl	$7, %eax
	addq	%rax, %rdi
	addq	%rax, %rsi
	subq	%rax, %rdx
	movq	%rdx, %rcx
	shrq	$3, %rcx
	rep movsq
	movq	%r8, (%r9)
	ret
.endm

/* Lengths from which on a REP instruction is faster than the loops: REP MOVSQ and REP STOSQ on all
 * CPUs, and REP MOVSB and REP STOSB on those with ERMS. To start one takes as long as a loop takes
 * for some hundreds of bytes (Intel, "Optimization Reference Manual", "Enhanced REP MOVSB and STOSB
 * Operation"; tests/process/benches/memory.rs). */
#define LONG_BY_WORDS	1536
#define LONG_BY_BYTES	768

/* fn(RDI = to: *mut u8, RSI = from: *const u8, RDX = length: usize), class c: copies as every CPU
 * can. */
function copy
	copy_short
	cmpq	$LONG_BY_WORDS, %rdx
	jae	2f
	copy_loop
2:	copy_movsq
end_function copy

/* The same with REP MOVSB for long ranges. */
function copy_long_movsb
	copy_short
	cmpq	$LONG_BY_BYTES, %rdx
	jae	2f
	copy_loop
2:	movq	%rdx, %rcx
	rep movsb
	ret
end_function copy_long_movsb

/* The same with REP MOVSB also for those of the short ranges for which it is faster with FSRM, which
 * is about up to 127 bytes. */
function copy_short_movsb
	copy_short
	leaq	-65(%rdx), %rax
	cmpq	$LONG_BY_BYTES - 65, %rax
	jae	2f				/* LONG_BY_BYTES or more, or 33 to 64 */
	cmpl	$128 - 65, %eax
	jb	3f				/* 65 to 127 */
5:	copy_loop
2:	cmpq	$64, %rdx
	jbe	5b
3:	movq	%rdx, %rcx
	rep movsb
	ret
end_function copy_short_movsb

/* fn(RDI = to: *mut u8, ESI = value: u8, RDX = length: usize), class c: fills as every CPU
 * can. The value is in all eight bytes of RAX. Short ranges are filled as copy_short copies. */
.macro fill_short
	movzbl	%sil, %eax
	movabsq	$0x0101010101010101, %rcx
	imulq	%rcx, %rax
	cmpq	$16, %rdx
	ja	3f
	cmpl	$8, %edx
	jae	2f
	cmpl	$4, %edx
	jae	1f
	testl	%edx, %edx
	jz	0f
	movb	%al, (%rdi)
	movb	%al, -1(%rdi,%rdx)
	cmpl	$3, %edx
	jb	0f
	movb	%al, 1(%rdi)
0:	ret
1:	movl	%eax, (%rdi)
	movl	%eax, -4(%rdi,%rdx)
	ret
2:	movq	%rax, (%rdi)
	movq	%rax, -8(%rdi,%rdx)
	ret
3:	cmpq	$32, %rdx
	ja	9f
	movq	%rax, (%rdi)
	movq	%rax, 8(%rdi)
	movq	%rax, -16(%rdi,%rdx)
	movq	%rax, -8(%rdi,%rdx)
	ret
9:
.endm

/* Fills more than 32 bytes, 32 at a time, and returns. */
.macro fill_loop
	leaq	-32(%rdi,%rdx), %r10		/* the last 32 bytes */
1:	movq	%rax, (%rdi)
	movq	%rax, 8(%rdi)
	movq	%rax, 16(%rdi)
	movq	%rax, 24(%rdi)
	addq	$32, %rdi
	cmpq	%r10, %rdi
	jb	1b
	movq	%rax, (%r10)
	movq	%rax, 8(%r10)
	movq	%rax, 16(%r10)
	movq	%rax, 24(%r10)
	ret
.endm

/* Fills 16 bytes or more by REP STOSQ, and returns, as copy_movsq copies.
 * RDI = to, RAX = value, RDX = length. Changes RCX, RDX, R8, RDI. */
.macro fill_stosq
	movq	%rax, (%rdi)
	leaq	-8(%rdi,%rdx), %r8
	movl	%edi, %ecx
	negl	%ecx
	andl	$7, %ecx
	addq	%rcx, %rdi
	subq	%rcx, %rdx
	movq	%rdx, %rcx
	shrq	$3, %rcx
	rep stosq
	movq	%rax, (%r8)
	ret
.endm

function fill
	fill_short
	cmpq	$LONG_BY_WORDS, %rdx
	jae	2f
	fill_loop
2:	fill_stosq
end_function fill

/* The same with REP STOSB for long ranges. */
function fill_long_stosb
	fill_short
	cmpq	$LONG_BY_BYTES, %rdx
	jae	2f
	fill_loop
2:	movq	%rdx, %rcx
	rep stosb
	ret
end_function fill_long_stosb

/* hypercall.hypercall before anything was selected: asks CPUID for the vendor, each time, and
 * keeps all registers for the hypervisor. AMD's and Hygon's CPUs know VMMCALL, all others
 * VMCALL. */
function hypercall
	pushq	%rax
	pushq	%rbx
	pushq	%rcx
	pushq	%rdx
	xorl	%eax, %eax
	cpuid
	cmpl	$0x68747541, %ebx		/* "Auth" of AuthenticAMD */
	je	1f
	cmpl	$0x6f677948, %ebx		/* "Hygo" of HygonGenuine */
1:	popq	%rdx				/* POP changes no flag */
	popq	%rcx
	popq	%rbx
	popq	%rax
	je	2f
	vmcall
	ret
2:	vmmcall
	ret
end_function hypercall
