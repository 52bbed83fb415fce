/* From the PVH entry to Rust in 32-bit mode. Paging stays off until paging::activate(). */

#define XEN_ELFNOTE_PHYS32_ENTRY 18     /* Xen, public/elfnote.h */

#define CR0_MP          (1 << 1)
#define CR0_EM          (1 << 2)
#define CR0_TS          (1 << 3)
#define CR4_OSFXSR      (1 << 9)
#define CR4_OSXMMEXCPT  (1 << 10)

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
        /*
         * The target's code uses SSE2 anywhere, so before the first line of Rust:
         * SDM vol. 3A section 13.1.4, "Initialization of the SSE Extensions".
         */
        movl    %cr0, %eax
        andl    $~(CR0_EM | CR0_TS), %eax
        orl     $CR0_MP, %eax
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $(CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
        movl    %eax, %cr4

        xorl    %ebp, %ebp              /* the outermost frame */
        subl    $12, %esp
        pushl   %ebx                    /* before the call, ESP is a multiple of 16 (ABI) */
        call    kernel_main             /* extern "C" fn(start_info: usize) -> ! */
        ud2
        .size   pvh_entry, . - pvh_entry

        .section .bss.boot, "aw", @nobits
        .balign 16
        .skip   64 * 1024
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
