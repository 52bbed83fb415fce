/*
 * The macro of the sites that are switched while other CPUs run them. The kernel's are in live.S,
 * those of the module in tests/module/asm/own.S. Both widths.
 */

#include "patchlet.h"

/* own::ops::Id */
#define ZERO            2
#define FLAGS           3

/* What live_sites.rs expects. */
#define UNCHANGED       0x0d0d0d0d
#define ARGUMENT        0x1d1d1d1d

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
 * One site in a function, extern "C" fn() -> u32, and an entry in the list of such sites. The site
 * begins `before` bytes in front of a multiple of `boundary`. The op is number `op` of its table, and
 * has the number `first + op` in the list.
 *
 * NOPs return what is in EAX beforehand; in 32-bit code that is the argument. Behind a jump stands
 * what is executed if it is a jump no more.
 */
        .macro  LIVE_SITE how, op, boundary, before, table=test_kernel_ops, first=0
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
        \how    table=\table, index=\op
        ret
        .pushsection .rodata.live_sites, "a", @progbits
        WORD    5201b, \first + \op
        .popsection
        .endm
