/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The ready-made set by CPU feature, for 32 bit: the ways to do what a kernel does
 * differently on different CPUs. `patchlet::cpu_ops` says which feature each needs. Patchlets
 * stand between the macros of patchlet.h, with contracts as in patch_32.S; the functions at
 * the end are for ways that have branches, which a patchlet cannot have.
 *
 * The set is linked only into a kernel that uses it: build.rs defines PATCHLET_OPTIONAL, see
 * patchlet.h.
 */
#if !defined(__i386__)
#error "asm/cpu_32.S is for 32-bit targets; 64-bit ones use asm/cpu_64.S"
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

/* time.time_stamp: a CPU without time-stamp counter has none to read: 0.
 * in: -   out: EAX = 0, EDX = 0   clobbers: -   flags: status
 * privilege: any   CPU: any */
PATCHLET(cpu_no_time_stamp)
	xorl	%eax, %eax
	xorl	%edx, %edx
END_PATCHLET(cpu_no_time_stamp)

/* time.time_stamp: read the time-stamp counter when all earlier instructions have been
 * executed. Without SSE2 there is no fence that waits for that, so CPUID does, which serializes
 * (SDM vol. 3A, "Serializing Instructions").
 * in: -   out: EAX, EDX   clobbers: ECX   saves: EBX   flags: status
 * stack: 4 bytes below ESP   privilege: any   CPU: TSC, and no CR4.TSD outside of ring 0 */
PATCHLET(cpu_rdtsc_cpuid)
	pushl	%ebx
	xorl	%eax, %eax
	xorl	%ecx, %ecx
	cpuid
	popl	%ebx
	rdtsc
END_PATCHLET(cpu_rdtsc_cpuid)

/* time.time_stamp: the same by fences. LFENCE waits for that on Intel's CPUs (SDM vol. 2B,
 * "RDTSC"), and MFENCE on AMD's, where LFENCE waits only if an MSR says so (AMD APM vol. 3,
 * "RDTSC", "LFENCE").
 * in: -   out: EAX, EDX   clobbers: -   flags: unchanged
 * privilege: any   CPU: TSC, SSE2 */
PATCHLET(cpu_rdtsc_mfence)
	mfence
	lfence
	rdtsc
END_PATCHLET(cpu_rdtsc_mfence)

/* time.time_stamp: the same where LFENCE waits for all earlier instructions.
 * in: -   out: EAX, EDX   clobbers: -   flags: unchanged
 * privilege: any   CPU: TSC, SSE2; and Intel's, or LFENCE_SERIALIZING */
PATCHLET(cpu_rdtsc_lfence)
	lfence
	rdtsc
END_PATCHLET(cpu_rdtsc_lfence)

/* time.time_stamp: the same by RDTSCP, which waits by itself. It also loads IA32_TSC_AUX into
 * ECX.
 * in: -   out: EAX, EDX   clobbers: ECX   flags: unchanged
 * privilege: any   CPU: RDTSCP */
PATCHLET(cpu_rdtscp)
	rdtscp
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

/* state.save_state: save the x87 registers. FNSAVE resets the unit, so what it saved is loaded again.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: writes 108 bytes at EAX, reads 108 bytes at EAX   privilege: any   CPU: x87 */
PATCHLET(cpu_fnsave)
	fnsave	(%eax)
	frstor	(%eax)
END_PATCHLET(cpu_fnsave)

/* state.save_state: save the x87 and SSE registers. The mask is not used.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: writes 512 bytes at EAX   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxsave)
	fxsave	(%eax)
END_PATCHLET(cpu_fxsave)

/* state.save_state: save the state components of the mask. The exchanges bring the mask to EDX:EAX.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX, writes some bytes at ECX
 * privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xsave)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xsave	(%ecx)
END_PATCHLET(cpu_xsave)

/* state.save_state: the same, without components that are in their initial state, or that did not
 * change since they were restored from this area.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX, writes some bytes at ECX
 * privilege: any   CPU: OSXSAVE, XSAVEOPT */
PATCHLET(cpu_xsaveopt)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xsaveopt (%ecx)
END_PATCHLET(cpu_xsaveopt)

/* state.save_state: the same in the compacted form, without components in their initial state.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: writes some bytes at ECX   privilege: any   CPU: OSXSAVE, XSAVEC */
PATCHLET(cpu_xsavec)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xsavec	(%ecx)
END_PATCHLET(cpu_xsavec)

/* state.save_state: the same, with the components of IA32_XSS too.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: writes some bytes at ECX   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xsaves)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xsaves	(%ecx)
END_PATCHLET(cpu_xsaves)

/* state.restore_state: load the x87 registers that cpu_fnsave saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: reads 108 bytes at EAX   privilege: any   CPU: x87 */
PATCHLET(cpu_frstor)
	frstor	(%eax)
END_PATCHLET(cpu_frstor)

/* state.restore_state: load the x87 and SSE registers that cpu_fxsave saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: reads 512 bytes at EAX   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxrstor)
	fxrstor	(%eax)
END_PATCHLET(cpu_fxrstor)

/* state.restore_state: load the state components of the mask, in the standard or the compacted form.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX   privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xrstor)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xrstor	(%ecx)
END_PATCHLET(cpu_xrstor)

/* state.restore_state: load the state components of the mask that cpu_xsaves saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xrstors)
	xchgl	%eax, %ecx
	xchgl	%eax, %edx
	xrstors	(%ecx)
END_PATCHLET(cpu_xrstors)

/* cache.flush_line: no instruction flushes a line, so flush all caches.
 * in: EAX   out: -   clobbers: -   flags: unchanged
 * privilege: CPL 0   CPU: 486 and later */
PATCHLET(cpu_wbinvd)
	wbinvd
END_PATCHLET(cpu_wbinvd)

/* cache.flush_line: write a cache line back and forget it, in order with earlier stores.
 * in: EAX   out: -   clobbers: -   flags: unchanged
 * memory: reads one byte at EAX   privilege: any   CPU: CLFSH */
PATCHLET(cpu_clflush)
	clflush	(%eax)
END_PATCHLET(cpu_clflush)

/* cache.flush_line: the same, in order with no other line.
 * in: EAX   out: -   clobbers: -   flags: unchanged
 * memory: reads one byte at EAX   privilege: any   CPU: CLFLUSHOPT */
PATCHLET(cpu_clflushopt)
	clflushopt (%eax)
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

/* Copies at most 15 bytes and returns, or goes on at 9 with more. A length that is no power of two is
 * copied by accesses that overlap.
 * EAX = to, EDX = from, ECX = length. EBX, ESI and EDI are kept. */
.macro copy_short
	cmpl	$16, %ecx
	jae	9f
	pushl	%ebx
	pushl	%esi
	cmpl	$8, %ecx
	jae	2f
	cmpl	$4, %ecx
	jae	1f
	testl	%ecx, %ecx
	jz	0f
	movzbl	(%edx), %ebx
	cmpl	$2, %ecx
	jb	3f
	movzwl	-2(%edx,%ecx), %esi
	movw	%si, -2(%eax,%ecx)
3:	movb	%bl, (%eax)
0:	popl	%esi
	popl	%ebx
	ret
1:	movl	(%edx), %ebx
	movl	-4(%edx,%ecx), %esi
	movl	%ebx, (%eax)
	movl	%esi, -4(%eax,%ecx)
	popl	%esi
	popl	%ebx
	ret
2:	movl	(%edx), %ebx
	movl	4(%edx), %esi
	movl	%ebx, (%eax)
	movl	%esi, 4(%eax)
	movl	-8(%edx,%ecx), %ebx
	movl	-4(%edx,%ecx), %esi
	movl	%ebx, -8(%eax,%ecx)
	movl	%esi, -4(%eax,%ecx)
	popl	%esi
	popl	%ebx
	ret
9:
.endm

/* Copies 16 bytes or more, 16 at a time, and returns. The last 16 overlap those before.
 * EAX = to, EDX = from, ECX = length. EBX, ESI and EDI are kept. */
.macro copy_loop
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	leal	-16(%edx,%ecx), %edi		/* the last 16 bytes of the source */
	subl	%edx, %eax			/* from the source to the target */
1:	movl	(%edx), %ebx
	movl	4(%edx), %esi
	movl	%ebx, (%eax,%edx)
	movl	%esi, 4(%eax,%edx)
	movl	8(%edx), %ebx
	movl	12(%edx), %esi
	movl	%ebx, 8(%eax,%edx)
	movl	%esi, 12(%eax,%edx)
	addl	$16, %edx
	cmpl	%edi, %edx
	jb	1b
	movl	(%edi), %ebx
	movl	4(%edi), %esi
	movl	%ebx, (%eax,%edi)
	movl	%esi, 4(%eax,%edi)
	movl	8(%edi), %ebx
	movl	12(%edi), %esi
	movl	%ebx, 8(%eax,%edi)
	movl	%esi, 12(%eax,%edi)
	popl	%edi
	popl	%esi
	popl	%ebx
	ret
.endm

/* Copies by REP MOVSB, and returns. */
.macro copy_movsb
	pushl	%esi
	pushl	%edi
	movl	%eax, %edi
	movl	%edx, %esi
	rep movsb
	popl	%edi
	popl	%esi
	ret
.endm

/* Copies 8 bytes or more by REP MOVSL, and returns. The first four bytes are copied before, so that
 * the stores can begin at a multiple of four, and the last four behind it.
 * EAX = to, EDX = from, ECX = length. EBX, ESI and EDI are kept. */
.macro copy_movsl
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	movl	%eax, %edi
	movl	%edx, %esi
	movl	(%esi), %eax
	movl	-4(%esi,%ecx), %ebx
	leal	-4(%edi,%ecx), %edx
	movl	%eax, (%edi)
	movl	%edi, %eax
	negl	%eax
	andl	$3, %eax
	addl	%eax, %edi
	addl	%eax, %esi
	subl	%eax, %ecx
	shrl	$2, %ecx
	rep movsl
	movl	%ebx, (%edx)
	popl	%edi
	popl	%esi
	popl	%ebx
	ret
.endm

/* The length from which on a REP instruction is faster than the loops. To start one takes as long as a
 * loop takes for some hundreds of bytes (Intel, "Optimization Reference Manual", "Enhanced REP MOVSB
 * and STOSB Operation"; tests/process/benches/memory.rs). */
#define LONG	512

/* fn(EAX = to: *mut u8, EDX = from: *const u8, ECX = length: usize), class c: copies as every CPU
 * can. */
function copy
	copy_short
	cmpl	$LONG, %ecx
	jae	2f
	copy_loop
2:	copy_movsl
end_function copy

/* The same with REP MOVSB for long ranges. */
function copy_long_movsb
	copy_short
	cmpl	$LONG, %ecx
	jae	2f
	copy_loop
2:	copy_movsb
end_function copy_long_movsb

/* The same with REP MOVSB also for those of the short ranges for which it is faster with FSRM, which
 * is about up to 127 bytes. */
function copy_short_movsb
	copy_short
	cmpl	$LONG, %ecx
	jae	2f
	cmpl	$64, %ecx
	jbe	3f
	cmpl	$128, %ecx
	jb	2f
3:	copy_loop
2:	copy_movsb
end_function copy_short_movsb

/* fn(EAX = to: *mut u8, EDX = value: u8, ECX = length: usize), class c: fills as every CPU
 * can. The value is in all four bytes of EDX. Short ranges are filled as copy_short copies. */
.macro fill_short
	movzbl	%dl, %edx
	imull	$0x01010101, %edx
	cmpl	$16, %ecx
	jae	9f
	cmpl	$8, %ecx
	jae	2f
	cmpl	$4, %ecx
	jae	1f
	testl	%ecx, %ecx
	jz	0f
	movb	%dl, (%eax)
	cmpl	$2, %ecx
	jb	0f
	movw	%dx, -2(%eax,%ecx)
0:	ret
1:	movl	%edx, (%eax)
	movl	%edx, -4(%eax,%ecx)
	ret
2:	movl	%edx, (%eax)
	movl	%edx, 4(%eax)
	movl	%edx, -8(%eax,%ecx)
	movl	%edx, -4(%eax,%ecx)
	ret
9:
.endm

/* Fills 16 bytes or more, 16 at a time, and returns. */
.macro fill_loop
	leal	-16(%eax,%ecx), %ecx		/* the last 16 bytes */
1:	movl	%edx, (%eax)
	movl	%edx, 4(%eax)
	movl	%edx, 8(%eax)
	movl	%edx, 12(%eax)
	addl	$16, %eax
	cmpl	%ecx, %eax
	jb	1b
	movl	%edx, (%ecx)
	movl	%edx, 4(%ecx)
	movl	%edx, 8(%ecx)
	movl	%edx, 12(%ecx)
	ret
.endm

/* Fills 8 bytes or more by REP STOSL, and returns, as copy_movsl copies.
 * EAX = to, EDX = value, ECX = length. EBX and EDI are kept. */
.macro fill_stosl
	pushl	%ebx
	pushl	%edi
	movl	%eax, %edi
	leal	-4(%edi,%ecx), %ebx
	movl	%edx, (%edi)
	negl	%eax
	andl	$3, %eax
	addl	%eax, %edi
	subl	%eax, %ecx
	shrl	$2, %ecx
	movl	%edx, %eax
	rep stosl
	movl	%eax, (%ebx)
	popl	%edi
	popl	%ebx
	ret
.endm

function fill
	fill_short
	cmpl	$LONG, %ecx
	jae	2f
	fill_loop
2:	fill_stosl
end_function fill

/* The same with REP STOSB for long ranges. */
function fill_long_stosb
	fill_short
	cmpl	$LONG, %ecx
	jae	2f
	fill_loop
2:	pushl	%edi
	movl	%eax, %edi
	movl	%edx, %eax
	rep stosb
	popl	%edi
	ret
end_function fill_long_stosb

/* hypercall.hypercall before anything was selected: asks CPUID for the vendor, each time, and
 * keeps all registers for the hypervisor. AMD's and Hygon's CPUs know VMMCALL, all others
 * VMCALL. */
function hypercall
	pushl	%eax
	pushl	%ebx
	pushl	%ecx
	pushl	%edx
	xorl	%eax, %eax
	cpuid
	cmpl	$0x68747541, %ebx		/* "Auth" of AuthenticAMD */
	je	1f
	cmpl	$0x6f677948, %ebx		/* "Hygo" of HygonGenuine */
1:	popl	%edx				/* POP changes no flag */
	popl	%ecx
	popl	%ebx
	popl	%eax
	je	2f
	vmcall
	ret
2:	vmmcall
	ret
end_function hypercall
