/* The entry of every vector, for traps_32.S and traps_64.S: `push` takes the width of the mode. */

#define TRAP_STUB_SIZE  16              /* traps::STUB_SIZE */

/*
 * The vectors for which the CPU pushes an error code: SDM vol. 3A section 6.3.1, table 6-1, and
 * AMD's 29 (#VC) and 30 (#SX).
 */
#define ERROR_CODES     ((1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) \
                         | (1 << 17) | (1 << 21) | (1 << 29) | (1 << 30))

/*
 * All of one size, so that vector * size finds a stub. Where the CPU pushes no error code, the stub
 * pushes 0.
 */
        .section .text.traps, "ax", @progbits
        .balign TRAP_STUB_SIZE
        .globl  trap_stubs
        .type   trap_stubs, @function
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign TRAP_STUB_SIZE, 0xcc
        .set    has_error_code, 0
        .if     vector < 32
        .set    has_error_code, (ERROR_CODES >> vector) & 1
        .endif
        .if     !has_error_code
        push    $0
        .endif
        push    $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr
        .balign TRAP_STUB_SIZE, 0xcc
        .size   trap_stubs, . - trap_stubs
