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

/* memory.copy: copy ECX bytes, where REP MOVSB is fast for every length. DF is clear, as the
 * C ABI demands.
 * in: EAX = to, EDX = from, ECX = length   out: -   clobbers: ECX   saves: EDI, ESI
 * flags: unchanged   stack: 8 bytes below ESP
 * memory: writes some bytes at EDI, reads some bytes at ESI   privilege: any   CPU: any */
PATCHLET(cpu_copy_movsb)
	pushl	%edi
	pushl	%esi
	movl	%eax, %edi
	movl	%edx, %esi
	rep movsb
	popl	%esi
	popl	%edi
END_PATCHLET(cpu_copy_movsb)

/* memory.fill: fill ECX bytes, where REP STOSB is fast for every length. DF is clear, as the
 * C ABI demands.
 * in: EAX = to, EDX = value, ECX = length   out: -   clobbers: EAX, ECX   saves: EDI
 * flags: unchanged   stack: 4 bytes below ESP
 * memory: writes some bytes at EDI   privilege: any   CPU: any */
PATCHLET(cpu_fill_stosb)
	pushl	%edi
	movl	%eax, %edi
	movl	%edx, %eax
	rep stosb
	popl	%edi
END_PATCHLET(cpu_fill_stosb)

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

/* state.save: save the x87 registers. FNSAVE resets the unit, so what it saved is loaded again.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: writes 108 bytes at EAX, reads 108 bytes at EAX   privilege: any   CPU: x87 */
PATCHLET(cpu_fnsave)
	fnsave	(%eax)
	frstor	(%eax)
END_PATCHLET(cpu_fnsave)

/* state.save: save the x87 and SSE registers. The mask is not used.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: writes 512 bytes at EAX   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxsave)
	fxsave	(%eax)
END_PATCHLET(cpu_fxsave)

/* state.save: save the state components of the mask. The exchanges bring the mask to EDX:EAX.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX, writes some bytes at ECX
 * privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xsave)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
	xsave	(%ecx)
END_PATCHLET(cpu_xsave)

/* state.save: the same, without components that are in their initial state, or that did not
 * change since they were restored from this area.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX, writes some bytes at ECX
 * privilege: any   CPU: OSXSAVE, XSAVEOPT */
PATCHLET(cpu_xsaveopt)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
	xsaveopt (%ecx)
END_PATCHLET(cpu_xsaveopt)

/* state.save: the same in the compacted form, without components in their initial state.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: writes some bytes at ECX   privilege: any   CPU: OSXSAVE, XSAVEC */
PATCHLET(cpu_xsavec)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
	xsavec	(%ecx)
END_PATCHLET(cpu_xsavec)

/* state.save: the same, with the components of IA32_XSS too.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: writes some bytes at ECX   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xsaves)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
	xsaves	(%ecx)
END_PATCHLET(cpu_xsaves)

/* state.restore: load the x87 registers that cpu_fnsave saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: reads 108 bytes at EAX   privilege: any   CPU: x87 */
PATCHLET(cpu_frstor)
	frstor	(%eax)
END_PATCHLET(cpu_frstor)

/* state.restore: load the x87 and SSE registers that cpu_fxsave saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -   clobbers: -
 * flags: unchanged
 * memory: reads 512 bytes at EAX   privilege: any   CPU: FXSR */
PATCHLET(cpu_fxrstor)
	fxrstor	(%eax)
END_PATCHLET(cpu_fxrstor)

/* state.restore: load the state components of the mask, in the standard or the compacted form.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX   privilege: any   CPU: OSXSAVE */
PATCHLET(cpu_xrstor)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
	xrstor	(%ecx)
END_PATCHLET(cpu_xrstor)

/* state.restore: load the state components of the mask that cpu_xsaves saved.
 * in: EAX = area, EDX = low half of mask, ECX = high half of mask   out: -
 * clobbers: EAX, EDX, ECX   flags: unchanged
 * memory: reads some bytes at ECX   privilege: CPL 0   CPU: OSXSAVE, XSAVES */
PATCHLET(cpu_xrstors)
	xchgl	%eax, %edx
	xchgl	%edx, %ecx
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

/* fn(EAX = to: *mut u8, EDX = from: *const u8, ECX = length: usize), class c: copies four bytes at
 * a time by REP MOVSL, which every CPU does well, and short ranges without it. */
.macro copy_begin
	pushl	%edi
	pushl	%esi
	movl	%eax, %edi
	movl	%edx, %esi
	cmpl	$64, %ecx
	jae	2f
	/* Four bytes at a time, then one at a time. */
	subl	$4, %ecx
	jb	1f
0:	movl	(%esi), %eax
	addl	$4, %esi
	movl	%eax, (%edi)
	addl	$4, %edi
	subl	$4, %ecx
	jae	0b
1:	addl	$4, %ecx
	jz	4f
3:	movb	(%esi), %al
	incl	%esi
	movb	%al, (%edi)
	incl	%edi
	decl	%ecx
	jnz	3b
4:	popl	%esi
	popl	%edi
	ret
2:
.endm

.macro copy_movsl
	movl	%ecx, %eax
	shrl	$2, %ecx
	rep movsl
	movl	%eax, %ecx
	andl	$3, %ecx
	rep movsb
	popl	%esi
	popl	%edi
	ret
.endm

function copy
	copy_begin
	copy_movsl
end_function copy

/* The same with REP MOVSB for long ranges. Where only ERMS is there, starting it takes as long as
 * the loop takes for some hundreds of bytes (Intel, "Optimization Reference Manual", "Enhanced REP
 * MOVSB and STOSB Operation"). */
function copy_long_movsb
	copy_begin
	cmpl	$512, %ecx
	jae	5f
	copy_movsl
5:	rep movsb
	popl	%esi
	popl	%edi
	ret
end_function copy_long_movsb

/* fn(EAX = to: *mut u8, EDX = value: u8, ECX = length: usize), class c: fills by REP STOSL, and
 * short ranges without it. */
.macro fill_begin
	pushl	%edi
	movl	%eax, %edi
	movzbl	%dl, %eax
	imull	$0x01010101, %eax
	cmpl	$64, %ecx
	jae	2f
	subl	$4, %ecx
	jb	1f
0:	movl	%eax, (%edi)
	addl	$4, %edi
	subl	$4, %ecx
	jae	0b
1:	addl	$4, %ecx
	jz	4f
3:	movb	%al, (%edi)
	incl	%edi
	decl	%ecx
	jnz	3b
4:	popl	%edi
	ret
2:
.endm

.macro fill_stosl
	movl	%ecx, %edx
	shrl	$2, %ecx
	rep stosl
	movl	%edx, %ecx
	andl	$3, %ecx
	rep stosb
	popl	%edi
	ret
.endm

function fill
	fill_begin
	fill_stosl
end_function fill

/* The same with REP STOSB for long ranges. */
function fill_long_stosb
	fill_begin
	cmpl	$512, %ecx
	jae	5f
	fill_stosl
5:	rep stosb
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
