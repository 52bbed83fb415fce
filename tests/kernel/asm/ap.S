/*
 * How a CPU other than the boot CPU comes to Rust: from the SIPI's page to enter_rust in boot_*.S.
 */

#define STACK_SIZE      (64 * 1024)
#define MAX_CPUS        4               /* segments::MAX_CPUS */

#define CR0_PE          (1 << 0)
#define CR0_NW          (1 << 29)
#define CR0_CD          (1 << 30)

#define FLAT_CODE       0x08
#define FLAT_DATA       0x10

/*
 * Copied to the page that the SIPI names (smp.rs): the CPU starts there in real mode, CS at the
 * page, IP 0, interrupts off (SDM vol. 3A section 8.4.3, "MP Initialization Protocol Algorithm for
 * MP Systems"). Only this much runs from there, for real mode does not reach the image.
 */
        .section .rodata.ap, "a", @progbits
        .code16
        .globl  ap_trampoline_start
ap_trampoline_start:
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   ap_gdt_pointer - ap_trampoline_start

        /* INIT leaves the caches as a reset left them, off: SDM vol. 3A table 9-1. */
        movl    %cr0, %eax
        andl    $~(CR0_CD | CR0_NW), %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   $FLAT_CODE, $ap_entry

        .balign 4
ap_gdt_pointer:
        .word   ap_gdt_end - ap_gdt - 1
        .long   ap_gdt
        .globl  ap_trampoline_end
ap_trampoline_end:

        .balign 8
ap_gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* FLAT_CODE: ring 0, 32-bit */
        .quad   0x00cf93000000ffff      /* FLAT_DATA: ring 0 */
ap_gdt_end:

/* 32-bit protected mode, as the boot CPU is in at the PVH entry. */
        .section .text.boot, "ax", @progbits
        .code32
        .type   ap_entry, @function
ap_entry:
        cld
        movl    $FLAT_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es

        /* All of them come at once: each takes the next number, and the stack of that number. */
        movl    $1, %ebx
        lock xaddl %ebx, ap_next_number
        imull   $STACK_SIZE, %ebx, %esp
        addl    $ap_stacks, %esp        /* the first number is 1, so this is the end of a stack */
        movl    $ap_main, %esi          /* extern "C" fn(number: usize) -> ! */
        jmp     enter_rust
        .size   ap_entry, . - ap_entry

        .section .data.ap, "aw", @progbits
        .balign 4
ap_next_number:
        .long   1

        .section .bss.ap, "aw", @nobits
        .balign 16
ap_stacks:
        .skip   (MAX_CPUS - 1) * STACK_SIZE

        .section .note.GNU-stack, "", @progbits
