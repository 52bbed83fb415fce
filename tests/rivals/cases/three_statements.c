/* Start, body and end as statements of their own, with functions in between. */
extern const char start_cli[], end_cli[];
asm(".globl start_cli\nstart_cli:");
int other(int x);

int other(int x)
{
	return x * 3 + 1;
}

asm("cli");

int another(int x);

int another(int x)
{
	return other(x) * 5 + 2;
}

asm(".globl end_cli\nend_cli:");

int main(int argc, char **argv)
{
	(void)argv;
	/* 1 is right. */
	return (int)(end_cli - start_cli) + 0 * another(argc);
}
