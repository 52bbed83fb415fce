/* extern "C" fn text_probe() -> u32, for a test to change: its operand is at text_probe + 1. */

        .section .text.probe, "ax", @progbits
        .globl  text_probe
        .type   text_probe, @function
text_probe:
        movl    $1, %eax
        ret
        .size   text_probe, . - text_probe

        .section .note.GNU-stack, "", @progbits
