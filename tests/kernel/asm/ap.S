/*
 * How a CPU other than the boot CPU comes from the SIPI to Rust. The blob is copied to the page that
 * the SIPI names, and src/smp.rs fills its holes.
 */
#include "patchlet.h"

#define CR0_PE          (1 << 0)
#define CR0_MP          (1 << 1)
#define CR0_EM          (1 << 2)
#define CR0_TS          (1 << 3)
#define CR0_NW          (1 << 29)
#define CR0_CD          (1 << 30)
#define CR0_PG          (1 << 31)
#define CR4_PAE         (1 << 5)
#define CR4_OSFXSR      (1 << 9)
#define CR4_OSXMMEXCPT  (1 << 10)
#define MSR_EFER        0xc0000080
#define EFER_LME        (1 << 8)

#define PAGE_SIZE       4096

/* Selectors of the descriptors below. */
#define FLAT_CODE       0x08
#define FLAT_DATA       0x10
#define LONG_CODE       0x18

/*
 * start_cpu: from real mode to a Rust function, with a stack for each CPU.
 *
 * The CPU starts with CS at the page and IP 0, interrupts off (SDM vol. 3A section 8.4.3, "MP
 * Initialization Protocol Algorithm for MP Systems"). All CPUs come at once. They share the end of
 * the page as their first stack: each pushes the same values to the same addresses.
 *
 * offsets: protected = where it is in 32-bit protected mode
 *          long (64-bit) = where it is in 64-bit mode
 *          gdt = the descriptors that it uses until Rust loads others
 * holes: gdt_address = address of `gdt` in the copy
 *        protected_address = address of `protected` in the copy
 *        next_number = address of the u32 from which each CPU takes its number
 *        stack_size = bytes of a stack
 *        stacks = address of the stacks; that of CPU 1 is the first
 *        page_table (64-bit) = physical address for CR3: maps this page and the kernel where they
 *                              are
 *        long_address (64-bit) = address of `long` in the copy
 *        entry = extern "C" fn(number: usize) -> !
 */
PATCHLET_BLOB(start_cpu)
PATCHLET_CODE(start_cpu, 16)
        cld
        movw    %cs, %ax
        movw    %ax, %ss
        movw    $PAGE_SIZE, %sp
        pushl   $PATCHLET_UNFILLED(4)
PATCHLET_HOLE(start_cpu, gdt_address, 4)
        pushw   $gdt_end - gdt - 1
        movw    %sp, %bp
        lgdtl   (%bp)

        /* A far pointer of 32 bit: the offset, and above it the selector. */
        pushl   $FLAT_CODE
        pushl   $PATCHLET_UNFILLED(4)
PATCHLET_HOLE(start_cpu, protected_address, 4)

        /* INIT leaves the caches as a reset left them, off: SDM vol. 3A table 9-1. The far jump
         * comes right behind PE: section 9.9.1, "Switching to Protected Mode". */
        movl    %cr0, %eax
        andl    $~(CR0_CD | CR0_NW), %eax
        orl     $CR0_PE, %eax
        movl    %eax, %cr0
        ljmpl   *-8(%bp)

PATCHLET_CODE(start_cpu, 32)
PATCHLET_OFFSET(start_cpu, protected)
        movl    $FLAT_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es

        /* Each takes the next number, and the stack of that number. The first number is 1, so
         * this is the end of a stack. */
        movl    $1, %edi
        movl    $PATCHLET_UNFILLED(4), %eax
PATCHLET_HOLE(start_cpu, next_number, 4)
        lock xaddl %edi, (%eax)
        imull   $PATCHLET_UNFILLED(4), %edi, %esp
PATCHLET_HOLE(start_cpu, stack_size, 4)
        addl    $PATCHLET_UNFILLED(4), %esp
PATCHLET_HOLE(start_cpu, stacks, 4)

#ifdef __x86_64__
        /* The order is that of SDM vol. 3A section 9.8.5, "Initializing IA-32e Mode". */
        movl    %cr4, %eax
        orl     $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $PATCHLET_UNFILLED(4), %eax
PATCHLET_HOLE(start_cpu, page_table, 4)
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $CR0_PG, %eax
        movl    %eax, %cr0
        pushl   $LONG_CODE
        pushl   $PATCHLET_UNFILLED(4)
PATCHLET_HOLE(start_cpu, long_address, 4)
        lret

PATCHLET_CODE(start_cpu, 64)
PATCHLET_OFFSET(start_cpu, long)
        movl    $FLAT_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es
        /* The upper halves are undefined after the switch. */
        movl    %esp, %esp
        movl    %edi, %edi
        xorl    %ebp, %ebp              /* the outermost frame */
        movabsq $PATCHLET_UNFILLED(8), %rax
PATCHLET_HOLE(start_cpu, entry, 8)
        call    *%rax                   /* before it, RSP is a multiple of 16 (ABI) */
        ud2
#else
        /* The target's code uses SSE2 anywhere, so before the first line of Rust: SDM vol. 3A
         * section 13.1.4, "Initialization of the SSE Extensions". */
        movl    %cr0, %eax
        andl    $~(CR0_EM | CR0_TS), %eax
        orl     $CR0_MP, %eax
        movl    %eax, %cr0
        movl    %cr4, %eax
        orl     $(CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
        movl    %eax, %cr4
        xorl    %ebp, %ebp              /* the outermost frame */
        subl    $12, %esp
        pushl   %edi                    /* before the call, ESP is a multiple of 16 (ABI) */
        movl    $PATCHLET_UNFILLED(4), %eax
PATCHLET_HOLE(start_cpu, entry, 4)
        call    *%eax
        ud2
#endif

PATCHLET_ALIGN(start_cpu, 8)
PATCHLET_DATA(start_cpu)
PATCHLET_OFFSET(start_cpu, gdt)
gdt:
        .quad   0
        .quad   0x00cf9b000000ffff      /* FLAT_CODE: ring 0, 32-bit */
        .quad   0x00cf93000000ffff      /* FLAT_DATA: ring 0 */
        .quad   0x00af9b000000ffff      /* LONG_CODE: ring 0, 64-bit */
gdt_end:
END_PATCHLET_BLOB(start_cpu)

        .section .note.GNU-stack, "", @progbits
