/* A construct with global labels, in a header. */
extern const char start_cli[], end_cli[];
asm(".globl start_cli\nstart_cli: cli\n.globl end_cli\nend_cli:");
