/*
 * The sites that are switched while other CPUs run them, and the functions that they call. Both
 * widths. Everything here tells by what it returns what has been executed.
 */

#include "patchlet.h"

/* own::ops::Id */
#define ZERO            2
#define FLAGS           3

/* What live_sites.rs expects. */
#define UNCHANGED       0x0d0d0d0d
#define ARGUMENT        0x1d1d1d1d
#define RETURNED_BY_A   0xa0a0a0a0
#define RETURNED_BY_B   0xb0b0b0b0
#define RETURNED_BY_C   0xc0c0c0c0

#define CACHE_LINE      64
#define PAGE            4096

#ifdef __x86_64__
#define WORD            .quad
#define ENTRY_SIZE      10
#else
#define WORD            .long
#define ENTRY_SIZE      5
#endif

/*
 * One site in a function, extern "C" fn() -> u32, and an entry in live_sites. The site begins
 * `before` bytes in front of a multiple of `boundary`.
 *
 * NOPs return what is in EAX beforehand; in 32-bit code that is the argument. Behind a jump stands
 * what is executed if it is a jump no more.
 */
        .macro  LIVE_SITE how, op, boundary, before
        .balign \boundary, 0xcc
        .skip   \boundary - \before - ENTRY_SIZE, 0xcc
5201:
#ifdef __x86_64__
        movl    $ARGUMENT, %edi
        movl    $UNCHANGED, %eax
#else
        movl    $ARGUMENT, %eax
#endif
        .if     (. - 5201b) - ENTRY_SIZE
        .error  "ENTRY_SIZE is wrong"
        .endif
        \how    table=test_kernel_ops, index=\op
        ret
        .pushsection .rodata.live_sites, "a", @progbits
        WORD    5201b, \op
        .popsection
        .endm

        .section .rodata.live_sites, "a", @progbits
        .balign 8
        .globl  live_sites, live_sites_end
live_sites:

        .section .text.live, "ax", @progbits
        .irp    op, ZERO, FLAGS
        .irp    before, 1, 2, 3, 4, 5
        LIVE_SITE PATCHLET_CALL, \op, CACHE_LINE, \before
        LIVE_SITE PATCHLET_CALL, \op, PAGE, \before
        .endr
        LIVE_SITE PATCHLET_JMP, \op, CACHE_LINE, 2
        .endr

        .section .rodata.live_sites
live_sites_end:

/*
 * The made-up hypervisors' functions, of the callee-save class. PAUSE is another CPU's turn, while
 * this one will return to the site; several, so that it is still here when it has answered an
 * interrupt.
 */
        .macro  RETURNS name, value
        .globl  \name
        .type   \name, @function
\name:
        .rept   3
        pause
        .endr
        movl    $\value, %eax
        ret
        .size   \name, . - \name
        .endm

        .section .text.live_functions, "ax", @progbits
        RETURNS live_a, RETURNED_BY_A
        /*
         * The distances differ in two bytes, so that a call with one byte of the one and one of the
         * other ends up among these.
         */
        .skip   0x1111, 0xcc
        RETURNS live_b, RETURNED_BY_B
        .skip   0x1111, 0xcc
        RETURNS live_c, RETURNED_BY_C

        .section .note.GNU-stack, "", @progbits
