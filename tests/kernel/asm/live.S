/*
 * The sites that are switched while other CPUs run them, and the functions that they call. Both
 * widths. Everything here tells by what it returns what has been executed.
 */

#include "live_site.h"

/* What live_sites.rs expects. */
#define RETURNED_BY_A   0xa0a0a0a0
#define RETURNED_BY_B   0xb0b0b0b0
#define RETURNED_BY_C   0xc0c0c0c0

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
