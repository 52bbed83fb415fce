/* Trap entry and exit, and the one place to continue at after an expected trap. 64-bit. */

#define TRAP_STUB_SIZE  16              /* traps::STUB_SIZE */

/* Vectors for which the CPU pushes an error code: SDM vol. 3A section 6.3.1, table 6-1. #VC is AMD's (APM vol. 2). */
#define ERROR_CODES     ((1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17) | (1 << 21) \
                         | (1 << 29) | (1 << 30))

/* One stub per vector, all of one size, so that vector * size finds it. Every gate uses IST 1. */
        .section .text.traps, "ax", @progbits
        .balign TRAP_STUB_SIZE
        .globl  trap_stubs
        .type   trap_stubs, @function
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign TRAP_STUB_SIZE, 0xcc
        .if     vector >= 32 || !((ERROR_CODES >> vector) & 1)
        pushq   $0
        .endif
        pushq   $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr
        .balign TRAP_STUB_SIZE, 0xcc
        .size   trap_stubs, . - trap_stubs

/* The order of pushes is traps::TrapFrame backwards. */
        .type   trap_common, @function
trap_common:
        pushq   %rax
        pushq   %rbx
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %rbp
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbx
        andq    $-16, %rsp
        call    trap_dispatch           /* extern "C" fn(&mut TrapFrame) */
        movq    %rbx, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rbp
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rbx
        popq    %rax
        addq    $16, %rsp               /* vector, error code */
        iretq
        .size   trap_common, . - trap_common

/*
 * extern "C" fn trap_catch(resume_sp: *mut usize, run: extern "C" fn(*mut u8), argument: *mut u8) -> u32
 *                          RDI                    RSI                          RDX                   EAX
 *
 * Calls run(argument) and returns 0. A handler that continues at trap_resume, with RSP as stored in *resume_sp,
 * makes it return 1 instead.
 */
        .globl  trap_catch
        .type   trap_catch, @function
trap_catch:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushfq                          /* the eighth word, with the return address: RSP is a multiple of 16 */
        movq    %rsp, (%rdi)
        movq    %rdx, %rdi
        call    *%rsi
        xorl    %eax, %eax
        jmp     1f
        .globl  trap_resume
trap_resume:
        movl    $1, %eax
1:      popfq
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   trap_catch, . - trap_catch

        .section .note.GNU-stack, "", @progbits
