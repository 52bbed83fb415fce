/* From the PVH entry to Rust in 32-bit mode. Paging stays off until paging::activate(). */

#define XEN_ELFNOTE_PHYS32_ENTRY 18     /* Xen, public/elfnote.h */

#define CR0_MP          (1 << 1)
#define CR0_EM          (1 << 2)
#define CR0_TS          (1 << 3)
#define CR4_OSFXSR      (1 << 9)
#define CR4_OSXMMEXCPT  (1 << 10)
#define FLAGS_ID        (1 << 21)
#define CPUID_FXSR      (1 << 24)       /* leaf 1, EDX */

        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 4, XEN_ELFNOTE_PHYS32_ENTRY  /* bytes of name, bytes of value, type */
        .asciz  "Xen"
        .long   pvh_entry

/*
 * The CPU comes in 32-bit protected mode with flat segments, paging and interrupts off
 * (Xen, docs/misc/pvh.pandoc, "PVH entry point").
 */
        .section .text.boot, "ax", @progbits
        .globl  pvh_entry
        .type   pvh_entry, @function
pvh_entry:
        cld
        movl    $boot_stack_top, %esp
        movl    %cr0, %eax
        andl    $~(CR0_EM | CR0_TS), %eax
        orl     $CR0_MP, %eax
        movl    %eax, %cr0

        /*
         * The target's code uses SSE2 anywhere, so before the first line of Rust:
         * SDM vol. 3A section 13.1.4, "Initialization of the SSE Extensions". Compiled for an older
         * CPU, the kernel runs without, on one that has no CPUID (whose flag ID does not change) or
         * no FXSAVE.
         */
        pushfl
        pushfl
        xorl    $FLAGS_ID, (%esp)
        popfl
        pushfl
        popl    %eax
        xorl    (%esp), %eax
        popfl
        testl   $FLAGS_ID, %eax
        jz      1f
        movl    %ebx, %edi
        movl    $1, %eax
        cpuid
        movl    %edi, %ebx
        testl   $CPUID_FXSR, %edx
        jz      1f
        movb    $1, cpu_has_fxsr
        movl    %cr4, %eax
        orl     $(CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
        movl    %eax, %cr4
1:

        xorl    %ebp, %ebp              /* the outermost frame */
        subl    $12, %esp
        pushl   %ebx                    /* before the call, ESP is a multiple of 16 (ABI) */
        call    kernel_main             /* extern "C" fn(start_info: usize) -> ! */
        ud2
        .size   pvh_entry, . - pvh_entry

        .section .data.boot, "aw", @progbits
        .globl  cpu_has_fxsr
cpu_has_fxsr:
        .byte   0

        .section .bss.boot, "aw", @nobits
        .balign 16
        .skip   64 * 1024
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
