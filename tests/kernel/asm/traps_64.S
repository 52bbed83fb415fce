/* Trap entry and exit, and the one place to continue at after an expected trap. 64-bit. */

#include "trap_stubs.h"

/*
 * The order of pushes is traps::TrapFrame backwards. Every gate uses IST 1, so the CPU has switched
 * stacks. The target's code does not use SSE, so there is no such state to keep.
 */
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
 * extern "C" fn trap_catch(resume_sp: *mut usize, run: extern "C" fn(*mut u8), argument: *mut u8)
 *                          RDI                    RSI                          RDX
 *
 * Calls run(argument). A handler that continues at trap_resume, with RSP as stored in *resume_sp,
 * makes it return from wherever run has got to.
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
        pushfq                          /* the eighth word with the return address: RSP % 16 == 0 */
        movq    %rsp, (%rdi)
        movq    %rdx, %rdi
        call    *%rsi
        .globl  trap_resume
trap_resume:
        popfq
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   trap_catch, . - trap_catch

        .section .note.GNU-stack, "", @progbits
