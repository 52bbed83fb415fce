/* The labels of a top-level asm without .globl, used by C. */
extern const char start_cli[], end_cli[];
asm("start_cli: cli\nend_cli:");

__attribute__((noinline)) int use_a(char *to)
{
	for (const char *from = start_cli; from < end_cli; from++)
		*to++ = *from;
	return 1;
}

__attribute__((noinline)) int use_b(void)
{
	return (int)(end_cli - start_cli);
}

int main(int argc, char **argv)
{
	char byte[8];

	(void)argv;
	return argc > 5 ? use_a(byte) : use_b() != 1;
}
