/* Trap entry and exit, and the one place to continue at after an expected trap. 32-bit. */

#include "trap_stubs.h"

#define KERNEL_DATA     0x10            /* segments::KERNEL_DATA */

/* Offsets in traps::TrapFrame. */
#define FRAME_IP        48
#define FRAME_CS        52
#define FRAME_FLAGS     56
#define FRAME_SP        60

/*
 * From ring 0 the CPU does not switch stacks and pushes neither SS nor ESP (SDM vol. 3A section
 * 6.12.1). So that the frame is the same in all cases, and a handler may push onto the interrupted
 * stack, the frame is copied down:
 *
 *      before                           after
 *      interrupted ESP ->               interrupted ESP ->
 *        EFLAGS                           20 bytes free: 12 for the last IRET, 8 for a handler
 *        CS                               SS
 *        EIP                              interrupted ESP
 *        error code                       EFLAGS
 *        vector                 <- ESP    CS
 *                                         EIP
 *                                         error code
 *                                         vector                 <- ESP
 */
        .type   trap_common, @function
trap_common:
        testl   $3, 12(%esp)            /* CS */
        jnz     1f
        pushl   %ss
        pushl   %esp
        addl    $24, (%esp)             /* five words and SS above it */
        .rept   5
        pushl   24(%esp)
        .endr

        /* The order of pushes is traps::TrapFrame backwards. */
1:      pushal
        pushl   %ds
        pushl   %es
        movl    $KERNEL_DATA, %eax      /* an IRET to ring 3 may have made them null */
        movl    %eax, %ds
        movl    %eax, %es
        cld

        /* The target's code uses SSE2, handlers too, unless it was compiled for a CPU without. */
        movl    %esp, %ebx
        subl    $512, %esp
        andl    $-16, %esp
        cmpb    $0, cpu_has_fxsr
        je      1f
        fxsave  (%esp)
1:      subl    $12, %esp
        pushl   %ebx
        call    trap_dispatch           /* extern "C" fn(&mut TrapFrame) */
        addl    $16, %esp
        cmpb    $0, cpu_has_fxsr
        je      1f
        fxrstor (%esp)
1:      movl    %ebx, %esp

        testl   $3, FRAME_CS(%esp)
        jnz     2f

        /* To ring 0 IRET takes three words, and they have to lie on the stack that it leaves. */
        movl    FRAME_SP(%esp), %edx
        movl    FRAME_FLAGS(%esp), %eax
        movl    %eax, -4(%edx)
        movl    FRAME_CS(%esp), %eax
        movl    %eax, -8(%edx)
        movl    FRAME_IP(%esp), %eax
        movl    %eax, -12(%edx)
        subl    $12, FRAME_SP(%esp)
        addl    $8, %esp                /* DS, ES: KERNEL_DATA, though the trap was in ring 3 */
        popal
        movl    FRAME_SP - 40(%esp), %esp       /* ten words are gone */
        iret

2:      popl    %es
        popl    %ds
        popal
        addl    $8, %esp                /* vector, error code */
        iret
        .size   trap_common, . - trap_common

/*
 * extern "C" fn trap_catch(resume_sp: *mut usize, run: extern "C" fn(*mut u8), argument: *mut u8)
 *                          4(%esp)                8(%esp)                      12(%esp)
 *
 * Calls run(argument). A handler that continues at trap_resume, with ESP as stored in *resume_sp,
 * makes it return from wherever run has got to.
 */
        .globl  trap_catch
        .type   trap_catch, @function
trap_catch:
        movl    4(%esp), %eax
        movl    8(%esp), %ecx
        movl    12(%esp), %edx
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        pushfl                          /* the sixth word, with the return address */
        movl    %esp, (%eax)
        subl    $4, %esp                /* the argument is the eighth: ESP % 16 == 0 */
        pushl   %edx
        call    *%ecx
        addl    $8, %esp
        .globl  trap_resume
trap_resume:
        popfl
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret
        .size   trap_catch, . - trap_catch

        .section .note.GNU-stack, "", @progbits
