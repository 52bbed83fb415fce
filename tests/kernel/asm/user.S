/*
 * The code that runs in ring 3, in a page of its own. Its bytes mean the same in 32-bit and 64-bit
 * code.
 */

        .section .user_text, "ax", @progbits
        .globl  user_stub
        .type   user_stub, @function
user_stub:
        int     $0x80                   /* traps::USER_RETURN */
        ud2
        .size   user_stub, . - user_stub

        .section .note.GNU-stack, "", @progbits
