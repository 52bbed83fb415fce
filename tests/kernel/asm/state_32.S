/*
 * extern "C" fn state_survives(rounds: usize) -> usize
 *
 * As in state_64.S. The SSE registers as well, for handlers use them. 32-bit.
 */

#define FLAGS_STATUS    0x8d5           /* OF, SF, ZF, AF, PF, CF */
#define FLAGS_DF        0x400

/* The loop must not change flags itself: LEA and JECXZ do not (SDM vol. 2A). */
        .macro  PASS number
        .set    value, 0x1000 * \number
        .irp    register, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7
        .set    value, value + 0x1111
        movl    $value, %eax
        movd    %eax, %\register
        .endr
        .irp    register, eax, ebx, edx, esi, edi, ebp
        .set    value, value + 0x1111
        movl    $value, %\register
        .endr
        movl    (%esp), %ecx            /* rounds */
        pushl   4 * \number(%esp)       /* flags */
        popfl
1:      pause
        leal    -1(%ecx), %ecx
        jecxz   2f
        jmp     1b
2:      pushfl
        cld
        .set    value, 0x1000 * \number + 8 * 0x1111
        .irp    register, eax, ebx, edx, esi, edi, ebp
        .set    value, value + 0x1111
        cmpl    $value, %\register
        jne     9f
        .endr
        .set    value, 0x1000 * \number
        .irp    register, xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7
        .set    value, value + 0x1111
        movd    %\register, %eax
        cmpl    $value, %eax
        jne     9f
        .endr
        popl    %ecx
        xorl    4 * \number(%esp), %ecx
        jz      3f
        pushl   %ecx
9:      popl    %ecx
        movl    $\number, %eax
        jmp     state_end
3:
        .endm

        .section .text.state, "ax", @progbits
        .globl  state_survives
        .type   state_survives, @function
state_survives:
        movl    4(%esp), %ecx
        pushl   %ebp
        pushl   %ebx
        pushl   %esi
        pushl   %edi
        pushfl
        movl    (%esp), %eax
        orl     $(FLAGS_STATUS | FLAGS_DF), %eax
        pushl   %eax                    /* flags of pass 2 */
        andl    $~(FLAGS_STATUS | FLAGS_DF), %eax
        pushl   %eax                    /* flags of pass 1 */
        pushl   %ecx                    /* rounds */
        PASS    1
        PASS    2
        xorl    %eax, %eax
state_end:
        addl    $12, %esp
        popfl
        popl    %edi
        popl    %esi
        popl    %ebx
        popl    %ebp
        ret
        .size   state_survives, . - state_survives

        .section .note.GNU-stack, "", @progbits
