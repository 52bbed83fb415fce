/*
 * From the PVH entry to Rust in 64-bit mode.
 *
 * The mapping made here is the least that 64-bit mode needs: the first GiB, identity, everything
 * allowed. paging::activate() replaces it with the real one.
 */

#define XEN_ELFNOTE_PHYS32_ENTRY 18     /* Xen, public/elfnote.h */

#define CR4_PAE         (1 << 5)
#define CR0_PG          (1 << 31)
#define MSR_EFER        0xc0000080
#define EFER_LME        (1 << 8)

#define PAGE_PRESENT    (1 << 0)
#define PAGE_WRITE      (1 << 1)
#define PAGE_LARGE      (1 << 7)

#define BOOT_CODE       0x08
#define BOOT_DATA       0x10

        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 8, XEN_ELFNOTE_PHYS32_ENTRY  /* bytes of name, bytes of value, type */
        .asciz  "Xen"
        .quad   pvh_entry

/*
 * The CPU comes in 32-bit protected mode with flat segments, paging and interrupts off
 * (Xen, docs/misc/pvh.pandoc, "PVH entry point").
 */
        .section .text.boot, "ax", @progbits
        .code32
        .globl  pvh_entry
        .type   pvh_entry, @function
pvh_entry:
        cld
        movl    $boot_stack_top, %esp
        /* The order is that of SDM vol. 3A section 9.8.5, "Initializing IA-32e Mode". */
        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4

        movl    $boot_pml4, %eax
        movl    %eax, %cr3

        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr

        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0

        lgdt    boot_gdt_pointer
        ljmp    $BOOT_CODE, $1f

        .code64
1:      movl    $BOOT_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es
        movl    %esp, %esp              /* the upper halves are undefined after the switch */
        movl    %ebx, %edi              /* extern "C" fn(start_info: usize) -> ! */
        xorl    %ebp, %ebp              /* the outermost frame */
        call    kernel_main             /* before it, RSP is a multiple of 16 (ABI) */
        ud2
        .size   pvh_entry, . - pvh_entry

        .section .rodata.boot, "a", @progbits
        .balign 8
boot_gdt:
        .quad   0
        .quad   0x00af9b000000ffff      /* BOOT_CODE: ring 0, 64-bit */
        .quad   0x00cf93000000ffff      /* BOOT_DATA: ring 0, flat */
boot_gdt_pointer:
        .word   . - boot_gdt - 1
        .long   boot_gdt

/* In data, because the CPU sets accessed and dirty bits. */
        .section .data.boot, "aw", @progbits
        .balign 4096
        .globl  boot_pml4               /* other CPUs start with it: src/smp.rs */
boot_pml4:
        .quad   boot_pdpt + PAGE_PRESENT + PAGE_WRITE
        .fill   511, 8, 0
boot_pdpt:
        .quad   boot_pd + PAGE_PRESENT + PAGE_WRITE
        .fill   511, 8, 0
boot_pd:
        .set    address, 0
        .rept   512
        .quad   address + PAGE_PRESENT + PAGE_WRITE + PAGE_LARGE
        .set    address, address + 0x200000
        .endr

        .section .bss.boot, "aw", @nobits
        .balign 16
        .skip   64 * 1024
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
