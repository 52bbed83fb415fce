/*
 * What compilers call without being asked. The 32-bit target expects libc to have it.
 *
 * In assembly, because a Rust loop that copies bytes is recognized as memcpy and becomes a call to
 * itself. C ABI: arguments on the stack, result in EAX; EAX, ECX, EDX may change; the direction
 * flag is clear.
 */

        .macro FUNCTION name
        .section .text.\name, "ax", @progbits
        .globl  \name
        .type   \name, @function
\name:
        .endm

        .macro END_FUNCTION name
        .size   \name, . - \name
        .endm

/* fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 */
FUNCTION memcpy
        pushl   %edi
        pushl   %esi
        movl    12(%esp), %edi
        movl    16(%esp), %esi
        movl    20(%esp), %ecx
        movl    %edi, %eax
        rep movsb
        popl    %esi
        popl    %edi
        ret
END_FUNCTION memcpy

/* fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 */
FUNCTION memmove
        pushl   %edi
        pushl   %esi
        movl    12(%esp), %edi
        movl    16(%esp), %esi
        movl    20(%esp), %ecx
        movl    %edi, %eax
        movl    %edi, %edx
        subl    %esi, %edx
        cmpl    %ecx, %edx              /* to - from < count, unsigned: `to` lies in the source */
        jb      1f
        rep movsb
        jmp     2f
1:      leal    -1(%edi,%ecx), %edi     /* then from the end */
        leal    -1(%esi,%ecx), %esi
        std
        rep movsb
        cld
2:      popl    %esi
        popl    %edi
        ret
END_FUNCTION memmove

/* fn memset(to: *mut u8, byte: c_int, count: usize) -> *mut u8 */
FUNCTION memset
        pushl   %edi
        movl    8(%esp), %edi
        movl    12(%esp), %eax
        movl    16(%esp), %ecx
        movl    %edi, %edx
        rep stosb
        movl    %edx, %eax
        popl    %edi
        ret
END_FUNCTION memset

/* fn memcmp(a: *const u8, b: *const u8, count: usize) -> c_int */
FUNCTION memcmp
        pushl   %edi
        pushl   %esi
        movl    12(%esp), %esi
        movl    16(%esp), %edi
        movl    20(%esp), %ecx
        xorl    %eax, %eax              /* sets ZF, which a count of 0 leaves as it is */
        repe cmpsb
        je      1f
        movzbl  -1(%esi), %eax
        movzbl  -1(%edi), %ecx
        subl    %ecx, %eax
1:      popl    %esi
        popl    %edi
        ret
END_FUNCTION memcmp

/* Like memcmp, but only zero or not zero means something. */
        .globl  bcmp
        .type   bcmp, @function
        .set    bcmp, memcmp

        .section .note.GNU-stack, "", @progbits
