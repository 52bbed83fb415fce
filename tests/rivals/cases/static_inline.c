/* A construct inside of an inline function, which is inlined twice. */
extern const char start_cli[], end_cli[];

static inline __attribute__((always_inline)) int length(void)
{
	asm volatile("jmp end_cli\n.globl start_cli\nstart_cli: cli\n.globl end_cli\nend_cli:");
	return (int)(end_cli - start_cli);
}

int first(void);
int second(void);

int first(void)
{
	return length();
}

int second(void)
{
	return length() + 1;
}

int main(void)
{
	return first() + 1 != second();
}
