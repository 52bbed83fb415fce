/*
 * extern "C" fn state_survives(rounds: usize) -> usize
 *
 * Fills every register with a value of its own, sets the flags CF, PF, AF, ZF, SF, OF and DF to one
 * and then to the other value, and counts `rounds` down each time; 0 if nothing but the counter has
 * changed then, else which pass (1, 2) has noticed. Interrupts are the caller's business. 64-bit.
 */

#define FLAGS_STATUS    0x8d5           /* OF, SF, ZF, AF, PF, CF */
#define FLAGS_DF        0x400

/* The loop must not change flags itself: LEA and JRCXZ do not (SDM vol. 2A). */
        .macro  PASS number
        .set    value, 0x1000 * \number
        .irp    register, rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
        .set    value, value + 0x1111
        movq    $value, %\register
        .endr
        movq    (%rsp), %rcx            /* rounds */
        pushq   8 * \number(%rsp)       /* flags */
        popfq
1:      pause
        leaq    -1(%rcx), %rcx
        jrcxz   2f
        jmp     1b
2:      pushfq
        cld
        .set    value, 0x1000 * \number
        .irp    register, rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
        .set    value, value + 0x1111
        cmpq    $value, %\register
        jne     9f
        .endr
        popq    %rcx
        xorq    8 * \number(%rsp), %rcx
        jz      3f
        pushq   %rcx
9:      popq    %rcx
        movl    $\number, %eax
        jmp     state_end
3:
        .endm

        .section .text.state, "ax", @progbits
        .globl  state_survives
        .type   state_survives, @function
state_survives:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushfq
        movq    (%rsp), %rax
        orq     $(FLAGS_STATUS | FLAGS_DF), %rax
        pushq   %rax                    /* flags of pass 2 */
        andq    $~(FLAGS_STATUS | FLAGS_DF), %rax
        pushq   %rax                    /* flags of pass 1 */
        pushq   %rdi                    /* rounds */
        PASS    1
        PASS    2
        xorl    %eax, %eax
state_end:
        addq    $24, %rsp
        popfq
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   state_survives, . - state_survives

        .section .note.GNU-stack, "", @progbits
