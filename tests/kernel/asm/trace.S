/* extern "C" fn trace_in_assembly() -> u32: 1 if the key is on, else 0. */

#include "patchlet.h"

        .text
        .globl  trace_in_assembly
        .type   trace_in_assembly, @function
trace_in_assembly:
        PATCHLET_BRANCH kernel_trace_assembly, 1f
        xorl    %eax, %eax
        ret
1:      movl    $1, %eax
        ret
        .size   trace_in_assembly, . - trace_in_assembly

        .section .note.GNU-stack, "", @progbits
